"""Sessions for Flask: flask.session, kept in Redis or Valkey.

    from coatcheck.flask import SessionInterface

    app = Flask(__name__)
    app.secret_key = ...
    SessionInterface(app)           # or in create_app(), after the configuration: one for each app

Views go on using `flask.session`. It is loaded when it is first used (one round trip, none without a cookie) and
saved, if it changed, after the `after_request` functions (one more); changes inside nested values are seen. Whoever
wants more than the mapping asks `session_of()` (rotate, increment, set_timeouts, handle) or `sessions_of()` (bind,
list_for, revoke_all).

What Flask's settings mean here:

- `session.permanent = True`: the browser keeps the cookie, PERMANENT_SESSION_LIFETIME is the idle timeout, and the
  absolute timeout is the policy's, or that lifetime if it is longer. Not permanent, which is the default: until the
  browser closes, with the policy's timeouts. An app that gives a policy gets that policy's `persistent` as default.
- `session.modified` need not be set; setting it to False gives up what the request has changed.
- SESSION_COOKIE_NAME, _DOMAIN, _PATH (or APPLICATION_ROOT) and _SAMESITE shape the cookie. It is Secure and HttpOnly
  always; a site without https says `cookie=CookiePolicy(secure=False)`. With `app.debug`, http://localhost needs none.
- SESSION_REFRESH_EACH_REQUEST is not used: use extends the session on the server, at most once in a tenth of its idle
  timeout, and the cookie is not sent again for that.
- An outage is answered with 503, a refused sign-in with 403, a conflict with 409, a source over its limit with 429,
  unless the app has an `errorhandler` for the exception, for `coatcheck.SessionError`, or for that status. In the
  answer to an outage, and to a source over its limit, the session is empty.
- A generator that streams a response may read the session, so every such response gets Vary and Cache-Control. What
  it changes is saved too, unless that takes a new cookie: then it is too late.

`app.test_client().session_transaction()` works as documented; what cannot be saved there raises.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial, wraps
from typing import Any, Final, TypeVar, cast

from coatcheck.model.extras import Extra

with Extra("flask", "flask"):
    from flask import Flask, Request, Response, current_app, request, session
    from flask.sessions import SessionInterface as FlaskInterface
    from flask.sessions import SessionMixin
    from flask.typing import ResponseReturnValue
    from werkzeug.exceptions import HTTPException, default_exceptions

from coatcheck.engine.exchange import MERGED, PRIVATE, Exchange, Outcome, Visit
from coatcheck.model.cookie import CookiePolicy
from coatcheck.model.csrf import CsrfPolicy
from coatcheck.model.errors import ConfigurationError, SessionError, SourceLimited, StoreError
from coatcheck.model.keyring import Keyring
from coatcheck.model.policy import SessionPolicy
from coatcheck.model.session import Session
from coatcheck.runtime.address import Keys, environment_keyring
from coatcheck.runtime.making import given_or_made
from coatcheck.runtime.sync import Sessions, run

__all__ = ["CsrfPolicy", "SessionInterface", "csrf_token", "require_fresh", "session_of", "sessions_of"]

log = logging.getLogger("coatcheck")

_ENOUGH_BYTES: Final = 16

View = TypeVar("View", bound=Callable[..., Any])


class SessionInterface(FlaskInterface):
    """Keeps the sessions of one app."""

    def __init__(
        self,
        app: Flask,
        *,
        sessions: Sessions | None = None,
        url: str | None = None,
        keys: Keys = None,
        policy: SessionPolicy | None = None,
        prefix: str | None = None,
        cookie: CookiePolicy | None = None,
        csrf: CsrfPolicy | bool = False,
    ) -> None:
        """Serve *app*, with the application's *sessions*, or with sessions of the given url, keys, policy and prefix.

        keys: by default those of the environment, or else made from the app's SECRET_KEY and SECRET_KEY_FALLBACKS.
        cookie: by default what the app's SESSION_COOKIE_ settings say.
        csrf: True, or a policy, refuses requests that may change something (POST, PUT, ...) without a token of
            `csrf_token`, which templates have too. Raises ConfigurationError.
        """
        usual = self._cookie_policy(app, cookie)
        make = partial(_make, app)
        self.sessions = given_or_made(
            sessions, Sessions, to="SessionInterface", url=url, keys=keys, policy=policy, prefix=prefix, make=make
        )
        self._exchange = Exchange(self.sessions.core, usual)
        self._in_debug = Exchange(self.sessions.core, cookie or replace(usual, development=True))
        app.session_interface = self
        if csrf:
            app.before_request(partial(_guard, CsrfPolicy() if csrf is True else csrf))
            app.jinja_env.globals["csrf_token"] = csrf_token
        app.error_handler_spec[None][None].setdefault(SessionError, self._answer)  # an earlier one is the app's own
        app.handle_exception = partial(self._rescue, app.handle_exception)  # type: ignore[method-assign]  # as Flask-RESTful does

    def open_session(self, app: Flask, request: Request) -> "LazySession":
        """Give the request a session, without loading it."""
        exchange = self._in_debug if app.debug else self._exchange
        environ = request.environ
        visit = exchange.begin(
            environ.get("HTTP_COOKIE"),
            https=request.is_secure,
            host=environ.get("HTTP_HOST", ""),
            address=environ.get("REMOTE_ADDR"),
            user_agent=environ.get("HTTP_USER_AGENT"),
            method=request.method,
            path=request.path,
        )
        return LazySession(exchange, visit, app.permanent_session_lifetime)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:  # noqa: ARG002  Flask's
        """Save what the request did, and set the response's headers. Raises what `Exchange.finish` raises."""
        lazy, headers = _lazy(session), response.headers
        outcome = lazy.exchange.settled(lazy.visit) or run(lazy.exchange.finish(lazy.visit))
        streams = response.is_streamed and not response.direct_passthrough
        if streams:
            response.call_on_close(lambda: run(lazy.exchange.finish_late(lazy.visit)))
        if not (lazy.accessed or streams or outcome.set_cookie):
            return
        if outcome.set_cookie is None:
            for name, _ in headers:
                if name.lower() in MERGED:
                    break
            else:  # as nearly always
                for name, value in PRIVATE:
                    headers.add(name, value)
                return
        outcome = Outcome(outcome.set_cookie, is_private=True)
        vary, cache_control = (", ".join(headers.getlist(name)) for name in ("Vary", "Cache-Control"))
        for name, value in outcome.headers(vary, cache_control):
            if name == "Set-Cookie":
                headers.add(name, value)
            else:
                headers[name] = value

    def _cookie_policy(self, app: Flask, cookie: CookiePolicy | None) -> CookiePolicy:
        """Give *cookie*, or what the app's settings say of it."""
        defaults = Flask.default_config.items()
        own = [name for name, value in defaults if name.startswith("SESSION_COOKIE_") and app.config[name] != value]
        if cookie is not None:
            if own:
                raise ConfigurationError(f"{', '.join(own)}: the cookie given says that; leave one of them out")
            return cookie
        if not self.get_cookie_httponly(app):
            raise ConfigurationError("SESSION_COOKIE_HTTPONLY: the cookie of a session is HttpOnly always")
        if app.config.get("SESSION_COOKIE_PARTITIONED"):
            raise ConfigurationError("SESSION_COOKIE_PARTITIONED: partitioned cookies are not supported")
        path, domain = self.get_cookie_path(app) or "/", self.get_cookie_domain(app)
        return CookiePolicy(
            name=self.get_cookie_name(app),
            same_site=(self.get_cookie_samesite(app) or "Lax").title(),  # type: ignore[arg-type]  # it checks
            path=path,
            domain=domain,
            host_prefix=path == "/" and domain is None,
        )

    def _answer(self, error: SessionError) -> HTTPException | ResponseReturnValue:
        """Answer *error*, unless the app has a page for that status."""
        failure = self._exchange.failure(error)
        plain = Response(failure.text, failure.status, failure.headers)
        return current_app.handle_http_exception(default_exceptions[failure.status](failure.text, plain))

    def _rescue(self, otherwise: Callable[[Exception], Response], error: Exception) -> Response:
        """Answer an error that Flask would make a 500 of: one of the save, of an after_request function, of a page."""
        if not isinstance(error, SessionError):
            return otherwise(error)
        _lazy(session).give_up(for_good=isinstance(error, StoreError | SourceLimited))
        try:
            answer = current_app.handle_user_exception(error)
        except Exception as unanswered:  # noqa: BLE001  which is what Flask does with what a handler raises
            return otherwise(unanswered)
        return current_app.finalize_request(answer, from_error_handler=True)


class LazySession(SessionMixin):
    """What `flask.session` stands for: the session of a request, loaded when it is first used."""

    accessed = False  # Flask before 3.1.3 says True

    def __init__(self, exchange: Exchange, visit: Visit, lifetime: timedelta) -> None:
        """Stand for the session of *visit*. lifetime: of a permanent one."""
        self.exchange = exchange
        self.visit = visit
        self._lifetime = lifetime
        self._failure: StoreError | SourceLimited | None = None
        self._lost = False

    def full(self) -> Session:
        """Give the session itself. Raises StoreError; having failed once, it does so without asking again."""
        self.accessed = True
        if self._lost:
            return self.exchange.sessions.new()
        if self._failure is not None:
            raise self._failure
        if self.visit.session is not None:
            return self.visit.session
        try:
            return run(self.exchange.load(self.visit))
        except (StoreError, SourceLimited) as error:
            self._failure = error
            raise

    def give_up(self, *, for_good: bool = False) -> None:
        """Forget what the request has changed. for_good: be empty from now on, and save nothing any more."""
        self.visit.session = None
        self._lost = self._lost or for_good

    @property
    def permanent(self) -> bool:
        """Whether the browser keeps the cookie when it closes."""
        return self.full().persistent

    @permanent.setter
    def permanent(self, value: bool) -> None:
        session, policy = self.full(), self.exchange.sessions.policy
        if value:
            longest = max(self._lifetime, policy.absolute_timeout)
            session.set_timeouts(idle=self._lifetime, absolute=longest, persistent=True)
        elif session.persistent:
            session.set_timeouts(idle=policy.idle_timeout, absolute=policy.absolute_timeout, persistent=False)

    @property
    def new(self) -> bool:  # type: ignore[override]  # nobody sets it
        """Whether nothing of it is stored yet."""
        return self.full().is_new

    @property
    def modified(self) -> bool:
        """Whether it has changed, also inside nested values; setting it to False gives the changes up."""
        session = self.visit.session
        return session is not None and (session.ended or session.is_changed)

    @modified.setter
    def modified(self, value: bool) -> None:
        if not value:
            self.give_up()

    def __getitem__(self, name: str) -> Any:
        return self.full()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.full()[name] = value

    def __delitem__(self, name: str) -> None:
        del self.full()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.full())

    def __len__(self) -> int:
        return len(self.full())

    def __contains__(self, name: object) -> bool:
        return name in self.full()

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Give an attribute, which is set to *default* first where there is none."""
        return self.full().setdefault(name, default)

    def clear(self) -> None:
        """Remove every attribute, also those that other requests add meanwhile."""
        self.full().clear()


def session_of(session: SessionMixin = session) -> Session:
    """Give the whole session behind `flask.session`, or behind a `session_transaction`. Raises StoreError."""
    return _lazy(session).full()


def require_fresh(minutes: float, assurance: int = 1) -> Callable[[View], View]:
    """Decorate a view to answer 401 unless the user has authenticated within *minutes*, at least that strongly.

    The answer is a challenge (RFC 9470), unless the app has an `errorhandler` for AuthenticationRequired or for 401.
    After the user has authenticated again: ``sessions_of().bind(session_of(), user, assurance=2)``.
    """
    within = timedelta(minutes=minutes)

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(*given: Any, **options: Any) -> Any:
            sessions_of().demand_fresh(session_of(), within, assurance)
            return current_app.ensure_sync(view)(*given, **options)

        return cast("View", guarded)

    return decorate


def sessions_of(app: Flask = current_app) -> Sessions:
    """Give the sessions of *app*, by default of the app that is serving."""
    if not isinstance(app.session_interface, SessionInterface):
        raise ConfigurationError("this app's sessions are not coatcheck's: call coatcheck.flask.SessionInterface(app)")
    return app.session_interface.sessions


def csrf_token() -> str:
    """Give a CSRF token for the page that answers: for the hidden field csrf_token of its forms, or for its scripts.

    Ask for it once the request has done what it does to the session, a sign-in above all.
    """
    lazy = _lazy(session)
    return lazy.exchange.sessions.csrf_token(lazy.full())


def _guard(policy: CsrfPolicy) -> None:
    """Raise CsrfRefused for a request that may be forged."""
    if policy.applies_to(request.method, request.path):
        is_own = policy.is_own(request.headers.get)
        token = request.headers.get(policy.header) or request.form.get(policy.field)
        lazy = _lazy(session)
        lazy.full()
        run(lazy.exchange.check_csrf(lazy.visit, token, is_own=is_own))


def _lazy(session: SessionMixin) -> LazySession:
    if not isinstance(session, LazySession):
        raise ConfigurationError("this session is not coatcheck's: call coatcheck.flask.SessionInterface(app)")
    return session


def _make(app: Flask, url: str | None, *, keys: Keys, policy: SessionPolicy | None, prefix: str | None) -> Sessions:
    """Make the sessions of *app*, with its defaults for what is None."""
    policy = policy or SessionPolicy(persistent=False)
    return Sessions(url, keys=keys or _secret_keys(app), policy=policy, prefix=prefix)


def _secret_keys(app: Flask) -> Keys:
    """Make keys from the secrets of *app*, where the environment gives none."""
    if environment_keyring() is not None or not app.secret_key:
        return None
    secrets = [app.secret_key, *(app.config.get("SECRET_KEY_FALLBACKS") or ())]
    shortest = min(len(secret if isinstance(secret, bytes) else secret.encode()) for secret in secrets)
    if shortest < _ENOUGH_BYTES:
        log.warning(
            "session_secret_key_short: the sessions are sealed with keys made from SECRET_KEY and its fallbacks, "
            "and one of these has %d bytes, which can be guessed: use 16 random ones or more "
            "(python -c 'import secrets; print(secrets.token_hex())'), or set COATCHECK_KEYS",
            shortest,
        )
    return Keyring.derive(secrets)
