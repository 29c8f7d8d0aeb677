"""Litestar: sessions for HTTP and WebSocket handlers.

    from coatcheck.litestar import SessionConfig

    app = Litestar([...], middleware=[SessionConfig().middleware])

``request.session`` is the Session, loaded ahead where a cookie came that looks valid.
``request.set_session({...})`` makes its attributes these, ``request.clear_session()`` ends it, and
``SessionAuth(session_backend_config=SessionConfig(), ...)`` signs in with it.

``await session_of(request)`` gives the Session too; under ``SessionConfig(ahead=False)`` it alone does, and
loads it then. It is also a dependency: ``dependencies={"session": Provide(session_of)}``.

WebSockets and event streams are closed when the session they were opened in ends. Against CSRF there is Litestar's own
``CSRFConfig``.

A failed store is answered with 503, a refused sign-in with 403, a conflict with 409, a source over its limit with 429,
unless ``exception_handlers`` says otherwise for StoreError, SessionLimitReached, SessionConflict or SourceLimited.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, cast
from uuid import UUID  # noqa: TID251  a type of value here

import msgspec

from coatcheck.model.extras import Extra

with Extra("litestar", "litestar"):
    from litestar.connection import ASGIConnection, Request
    from litestar.enums import MediaType, ScopeType
    from litestar.exceptions import ImproperlyConfiguredException
    from litestar.middleware.base import DefineMiddleware
    from litestar.middleware.session.base import BaseBackendConfig, BaseSessionBackend, SessionMiddleware
    from litestar.response import Response
    from litestar.types import ASGIApp, Empty, ExceptionHandlersMap, Message, Receive, Scope, Scopes
    from litestar.utils import get_serializer_from_scope
    from litestar.utils.scope.state import ScopeState

from coatcheck.engine.exchange import Exchange, Outcome, Visit
from coatcheck.model.cookie import CookiePolicy
from coatcheck.model.errors import (
    AuthenticationRequired,
    SessionConflict,
    SessionError,
    SessionLimitReached,
    SourceLimited,
    StoreError,
)
from coatcheck.model.policy import SessionPolicy
from coatcheck.model.session import Session
from coatcheck.runtime.address import Keys
from coatcheck.runtime.aio import AsyncSessions
from coatcheck.runtime.asgi import Guard, begin, with_outcome
from coatcheck.runtime.making import given_or_made
from coatcheck.runtime.watch import Watch

Connection = ASGIConnection[Any, Any, Any, Any]
AnyRequest = Request[Any, Any, Any]

_VISIT: Final = "coatcheck.visit"
_STARTS: Final = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})
_KEPT_TYPES: Final = (bytes, bytearray, datetime, date, time, timedelta, Decimal, UUID)


async def session_of(request: Connection) -> Session:
    """Give the session of a request or a WebSocket; load it if nothing has yet."""
    scope = cast("dict[str, Any]", request.scope)
    if _VISIT not in scope:
        raise ImproperlyConfiguredException("no session here: SessionConfig(...).middleware is missing, or excluded")
    exchange, visit = cast("tuple[Exchange, Visit]", scope[_VISIT])
    await _adopt(exchange, visit, scope.get("session"), scope)
    session = scope["session"] = await exchange.load(visit)
    return session


def require_fresh(minutes: float, assurance: int = 1) -> Callable[[Connection, Any], Awaitable[None]]:
    """Make a guard: 401 unless the user has authenticated within *minutes*, at least that strongly.

        @post("/transfer", guards=[require_fresh(5, assurance=2)])

    The answer is a challenge (RFC 9470), unless ``exception_handlers`` says otherwise for AuthenticationRequired.
    """
    within = timedelta(minutes=minutes)

    async def guard(connection: Connection, _: Any) -> None:
        session = await session_of(connection)
        exchange, _visit = cast("dict[str, Any]", connection.scope)[_VISIT]
        await exchange.sessions.demand_fresh(session, within, assurance)

    return guard


class SessionBackend(BaseSessionBackend["SessionConfig"]):
    """What Litestar, its SessionAuth and its test clients ask of a session backend."""

    def begin(self, connection: Connection) -> tuple[Exchange, Visit]:
        """Give the exchange and the visit of *connection*; sends nothing."""
        scope = cast("dict[str, Any]", connection.scope)
        if _VISIT in scope or any(name == b"cookie" for name, _ in scope["headers"]) or not connection.cookies:
            return self.config.begin(scope)
        # a test client's set_session_data makes a connection that has cookies and no header
        cookies = "; ".join(f"{name}={value}" for name, value in connection.cookies.items())
        with_cookies = {**scope, "headers": [*scope["headers"], (b"cookie", cookies.encode("latin-1"))]}
        begun = scope[_VISIT] = self.config.begin(with_cookies)
        return begun

    def get_session_id(self, connection: Connection) -> str | None:
        """Give the handle: the identifier is for the cookie only."""
        return _id_of(self.begin(connection)[1].session)

    async def load_from_connection(self, connection: Connection) -> dict[str, Any]:
        """Give the Session, which is a mapping and no dict."""
        exchange, visit = self.begin(connection)
        return cast("dict[str, Any]", await exchange.load(visit))

    async def store_in_message(self, scope_session: Any, message: Message, connection: Connection) -> None:
        """Save, and set the headers of the *message* that begins the response."""
        exchange, visit = self.begin(connection)
        await _adopt(exchange, visit, scope_session, cast("dict[str, Any]", connection.scope))
        begun = cast("dict[str, Any]", message)
        former = begun.setdefault("headers", [])
        begun["headers"] = headers = list(with_outcome(former, await exchange.finish(visit)))
        if isinstance(former, list):  # a test client's set_session_data looks into its own
            former[:] = headers


class SessionConfig(BaseBackendConfig[SessionBackend]):
    """How an application keeps its sessions; ``.middleware`` is what Litestar takes."""

    _backend_class = SessionBackend

    def __init__(
        self,
        *,
        sessions: AsyncSessions | None = None,
        url: str | None = None,
        keys: Keys = None,
        policy: SessionPolicy | None = None,
        prefix: str | None = None,
        cookie: CookiePolicy | None = None,
        exclude: str | list[str] | None = None,
        exclude_opt_key: str = "skip_session",
        scopes: Collection[ScopeType] = (ScopeType.HTTP, ScopeType.WEBSOCKET),
        ahead: bool = True,
    ) -> None:
        """Use the application's *sessions*, or sessions of the given url, keys, policy and prefix.

        cookie: by default for https, and for http://localhost where the app is in debug mode.
        exclude, exclude_opt_key, scopes: where there are no sessions, as in Litestar's own configurations.
        ahead: False loads nothing until `session_of` is awaited; `request.session` needs that first, then.
        Raises ConfigurationError.
        """
        self.sessions = given_or_made(
            sessions, AsyncSessions, to="SessionConfig", url=url, keys=keys, policy=policy, prefix=prefix
        )
        self.watch = Watch(self.sessions)
        self.exclude, self.exclude_opt_key, self.scopes = exclude, exclude_opt_key, cast("Scopes", set(scopes))
        self.ahead = ahead
        self.key = (cookie or CookiePolicy()).full_name(secure=cookie is None or cookie.secure)
        self._exchanges = {
            debug: Exchange(self.sessions, cookie or CookiePolicy(development=debug)) for debug in (False, True)
        }

    @property
    def middleware(self) -> DefineMiddleware:
        """Give what stands in Litestar's ``middleware=[...]``."""
        return DefineMiddleware(_Middleware, backend=SessionBackend(config=self))

    def begin(self, scope: dict[str, Any]) -> tuple[Exchange, Visit]:
        """Give the exchange and the visit of the connection of *scope*; sends nothing."""
        begun: tuple[Exchange, Visit] | None = scope.get(_VISIT)
        if begun is None:
            exchange = self._exchanges[(scope.get("litestar_app") or scope["app"]).debug]  # before Litestar 2.16, app
            begun = scope[_VISIT] = exchange, begin(exchange, scope)
        return begun


class _Middleware(SessionMiddleware[SessionBackend]):
    """Litestar's, also for WebSockets, for failures, and for what is done once the response has begun.

    A request makes few objects before its session is loaded: what many requests that wait at once keep alive makes
    Python's garbage collector begin, and look through all that the application keeps.
    """

    def __init__(self, app: ASGIApp, backend: SessionBackend) -> None:
        """Wrap *app*."""
        super().__init__(app, backend)
        self._handlers: Any = {}
        self._with_answers = {**_ANSWERS}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle a request."""
        config, state = self.backend.config, ScopeState.from_scope(scope)
        if state.exception_handlers != self._handlers:  # this serves one route, whose handlers stay the same
            self._handlers = state.exception_handlers
            self._with_answers = {**_ANSWERS, **self._handlers}
        state.exception_handlers = self._with_answers
        exchange, visit = config.begin(scope)
        if config.ahead:
            scope["session"] = session = await exchange.load(visit)
            state.session_id = _id_of(session)
        serving = _Serving(exchange, config.watch, visit, scope, send)
        try:
            await self.app(scope, cast("Receive", serving.receiver(receive)), serving.send)
        finally:
            if not serving.is_over:
                await serving.end()
        if not serving.has_failed:
            value = scope.get("session")
            if value is not None and value is not visit.session:
                await _adopt(exchange, visit, value, scope)
            if not visit.is_done:
                await exchange.finish_late(visit)


class _Serving(Guard):
    """Stands between a server and an application, and saves the session before the response begins.

    has_begun: whether it has. has_failed: whether the session could not be saved: an exception handler answers.
    """

    __slots__ = ("_exchange", "has_begun", "has_failed")

    def __init__(self, exchange: Exchange, watch: Watch, visit: Visit, scope: dict[str, Any], send: Any) -> None:
        """Serve the connection of *scope* through *exchange*."""
        Guard.__init__(self, watch, visit, scope, send)
        self._exchange = exchange
        self.has_begun = self.has_failed = False

    def send(self, message: Any) -> Awaitable[None]:
        """Pass *message* on; with the one that begins the response, save and set headers first."""
        if self.has_begun or self.has_failed or message["type"] not in _STARTS:
            return self.pass_on(message)
        value, outcome = self._scope.get("session"), None
        if value is None or value is self._visit.session:
            outcome = self._exchange.settled(self._visit)
        return self._save_and_send(message) if outcome is None else self._begin_with(message, outcome)

    async def _save_and_send(self, message: Any) -> None:
        try:
            await _adopt(self._exchange, self._visit, self._scope.get("session"), self._scope)
            outcome = await self._exchange.finish(self._visit)
        except SessionError:
            self.has_failed = True
            state = ScopeState.from_scope(cast("Scope", self._scope))
            state.response_started = False  # nothing has left yet: the exception handlers may answer
            raise
        await self._begin_with(message, outcome)

    def _begin_with(self, message: Any, outcome: Outcome) -> Awaitable[None]:
        headers = list(with_outcome(message.get("headers", ()), outcome))
        self.has_begun = True
        return self.pass_on({**message, "headers": headers})  # the message may be in a cache, for other clients


async def _adopt(exchange: Exchange, visit: Visit, value: Any, scope: MutableMapping[str, Any]) -> None:
    """Bring what the application has put in the place of the Session into it."""
    if value is None or value is visit.session:
        return
    session = await exchange.load(visit)
    if value is not Empty:
        attributes = _attributes(value, scope)
        for name in session.keys() - attributes.keys():
            del session[name]
        session.update(attributes)
    elif session.is_new:
        session.clear()
    else:
        session.revoke()
    scope["session"] = session


def _id_of(session: Session | None) -> str | None:
    return str(session.handle) if session is not None and session.handle is not None else None


def _attributes(value: Any, scope: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Give the attributes that `set_session` was given: a mapping, or a model of any kind that Litestar knows."""
    if isinstance(value, Mapping):
        return value
    return cast(
        "dict[str, Any]",
        msgspec.to_builtins(value, builtin_types=_KEPT_TYPES, enc_hook=get_serializer_from_scope(cast("Scope", scope))),
    )


def _answer(request: AnyRequest, error: Exception) -> Response[str]:
    """Answer a request whose session could not be served."""
    exchange, _ = cast("dict[str, Any]", request.scope)[_VISIT]
    failure = exchange.failure(error)
    headers = {name: value for name, value in failure.headers if name != "Content-Type"}
    return Response(failure.text, status_code=failure.status, headers=headers, media_type=MediaType.TEXT)


_ANSWERS: "Final[ExceptionHandlersMap]" = dict.fromkeys(
    (StoreError, SessionLimitReached, SessionConflict, AuthenticationRequired, SourceLimited), _answer
)
