"""What settings.COATCHECK and Django's own settings mean: made once a process, and anew when tests override them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.utils.asyncio import async_unsafe
from django.utils.module_loading import import_string

from coatcheck.engine.exchange import Exchange
from coatcheck.model.cookie import CookiePolicy
from coatcheck.model.errors import ConfigurationError, SessionError
from coatcheck.model.keyring import Keyring
from coatcheck.model.policy import SessionPolicy
from coatcheck.runtime.address import environment_keyring
from coatcheck.runtime.aio import AsyncSessions
from coatcheck.runtime.sync import Sessions

FailureView = Callable[[HttpRequest, SessionError], HttpResponse | None]

_NAMES: Final = frozenset({"URL", "KEYS", "PREFIX", "OPTIONS", "POLICY", "COOKIE", "FAILURE_VIEW"})
_WATCHED: Final = frozenset({"COATCHECK", "SECRET_KEY", "SECRET_KEY_FALLBACKS", "DEBUG"})
_SLIDING_ENDS: Final = timedelta(days=30)
_retired: Final[list[AsyncSessions]] = []  # their connections close with the loops that opened them
_BLOCKS: Final = (
    "the session is not loaded yet, and loading it here would block the event loop: use the a-methods "
    "(await request.session.aget(...)), or load it first with await request.session.asession()"
)


@dataclass(frozen=True, slots=True)
class Exchanges:
    """The exchanges over one cookie: of synchronous code, and of code on an event loop.

    Made once, for a request asks for them up to three times.
    """

    blocking: Exchange
    asynchronous: Exchange


@dataclass(frozen=True, slots=True)
class Configuration:
    """The sessions of this process, both kinds over the same store, and their exchanges.

    of_test_client: those over the cookie that Django's test client puts together itself.
    """

    sessions: Sessions
    async_sessions: AsyncSessions
    exchanges: Exchanges
    of_test_client: Exchanges
    failure_view: FailureView | None


@cache
def configuration() -> Configuration:
    """Give the configuration. Connects to nothing. Raises ConfigurationError."""
    given: Mapping[str, Any] = getattr(settings, "COATCHECK", {})
    if unknown := set(given) - _NAMES:
        raise ConfigurationError(f"COATCHECK has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(_NAMES))}")
    arguments: dict[str, Any] = {
        "url": given.get("URL"),
        "keys": given.get("KEYS") or _keyring(),
        "policy": _policy(given.get("POLICY")),
        "prefix": given.get("PREFIX"),
        **given.get("OPTIONS", {}),
    }
    cookie = given.get("COOKIE") or _cookie()
    view = given.get("FAILURE_VIEW")
    sessions, async_sessions = Sessions(**arguments), AsyncSessions(**arguments)
    async_sessions.sources = sessions.core.sources  # a source is one, whichever kind of view it asks for

    def over(cookie: CookiePolicy) -> Exchanges:
        return Exchanges(Exchange(sessions.core, cookie), Exchange(async_sessions, cookie))

    return Configuration(
        sessions=sessions,
        async_sessions=async_sessions,
        exchanges=over(cookie),
        of_test_client=over(_test_cookie(cookie)),
        failure_view=import_string(view) if isinstance(view, str) else view,
    )


def sessions() -> Sessions:
    """Give the project's sessions, to list and end them: ``sessions().revoke_all(str(user.pk))``."""
    return configuration().sessions


def async_sessions() -> AsyncSessions:
    """Give the same for asynchronous code, where each call is awaited."""
    return configuration().async_sessions


def asynchronous() -> Exchange:
    """Give the exchange of code on an event loop."""
    return configuration().exchanges.asynchronous


@async_unsafe(_BLOCKS)
def blocking(exchanges: Exchanges | None = None) -> Exchange:
    """Give that of synchronous code. Raises SynchronousOnlyOperation where that would block a loop."""
    return (exchanges or configuration().exchanges).blocking


def _keyring() -> Keyring:
    found = environment_keyring()
    return found[0] if found else Keyring.derive([settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS])


def _policy(policy: SessionPolicy | None) -> SessionPolicy:
    if policy is None:
        age = timedelta(seconds=settings.SESSION_COOKIE_AGE)
        policy = SessionPolicy(
            idle_timeout=age,
            absolute_timeout=max(age, _SLIDING_ENDS) if settings.SESSION_SAVE_EVERY_REQUEST else age,
            persistent=not settings.SESSION_EXPIRE_AT_BROWSER_CLOSE,
        )
    return policy if policy.subject_attribute else replace(policy, subject_attribute=SESSION_KEY)


def _cookie() -> CookiePolicy:
    path, domain = settings.SESSION_COOKIE_PATH, settings.SESSION_COOKIE_DOMAIN
    return CookiePolicy(
        name=settings.SESSION_COOKIE_NAME.removeprefix("__Host-").removeprefix("__Secure-"),
        secure=settings.SESSION_COOKIE_SECURE or not settings.is_overridden("SESSION_COOKIE_SECURE"),
        development=settings.DEBUG,
        same_site=settings.SESSION_COOKIE_SAMESITE or "Lax",
        path=path,
        domain=domain,
        host_prefix=path == "/" and domain is None,
    )


def _test_cookie(cookie: CookiePolicy) -> CookiePolicy:
    """Make the cookie that Django's test client puts together itself, in force_login() and session."""
    name = settings.SESSION_COOKIE_NAME
    return cookie if name == cookie.full_name(secure=True) else CookiePolicy(name=name, secure=False)


@receiver(setting_changed)
def _forget(*, setting: str, **_: object) -> None:
    if setting in _WATCHED or setting.startswith("SESSION_"):
        if configuration.cache_info().currsize:
            configuration().sessions.close()
            _retired.append(configuration().async_sessions)
        configuration.cache_clear()
