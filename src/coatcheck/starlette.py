"""Sessions for Starlette and FastAPI: pure ASGI middleware, for HTTP and WebSocket.

    from coatcheck.starlette import SessionMiddleware

    app = Starlette(routes=...)
    app.add_middleware(SessionMiddleware)               # COATCHECK_URL, or the embedded store

    async def visit(request):
        request.session["visits"] = request.session.get("visits", 0) + 1

`request.session` is the `coatcheck.Session` itself: a mapping, with `increment`, `rotate`, `revoke` and the rest.
"""

from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from functools import partial, wraps
from inspect import isawaitable, iscoroutinefunction
from typing import Any, Final, Never, TypeVar, cast

from coatcheck.model.extras import Extra

with Extra("starlette", "starlette"):
    from starlette.concurrency import run_in_threadpool
    from starlette.datastructures import Headers
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coatcheck.engine.exchange import Exchange, Outcome, Visit
from coatcheck.model.cookie import CookiePolicy
from coatcheck.model.csrf import LARGEST_FORM, CsrfPolicy, token_in_form
from coatcheck.model.errors import AuthenticationRequired, ConfigurationError, SessionError
from coatcheck.model.policy import SessionPolicy
from coatcheck.model.session import Session
from coatcheck.runtime.address import Keys
from coatcheck.runtime.aio import AsyncSessions
from coatcheck.runtime.asgi import SESSION_ENDED, Guard, begin, with_outcome
from coatcheck.runtime.making import given_or_made
from coatcheck.runtime.watch import Watch

__all__ = ["CsrfPolicy", "SessionMiddleware", "csrf_context", "csrf_token", "require_fresh", "session_of"]

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
OnError = Callable[[HTTPConnection, SessionError], Response | Awaitable[Response | None] | None]

_STARTS: Final = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})
_TRY_AGAIN_LATER: Final = 1013
_VISIT: Final = "coatcheck.visit"
_NOT_LOADED: Final = (
    "the session is not loaded: `session = await session_of(request)` (coatcheck.starlette) loads it; "
    "SessionMiddleware(ahead=True), outside its excluded paths, loads it before the handler runs"
)


class SessionMiddleware:
    """Gives every request and WebSocket of an ASGI app its session."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        sessions: AsyncSessions | None = None,
        url: str | None = None,
        keys: Keys = None,
        policy: SessionPolicy | None = None,
        prefix: str | None = None,
        cookie: CookiePolicy | None = None,
        exclude: Iterable[str] = (),
        ahead: bool = True,
        on_error: OnError | None = None,
        csrf: CsrfPolicy | bool = False,
    ) -> None:
        """Wrap *app*, with the application's *sessions*, or with sessions of the given url, keys, policy and prefix.

        cookie: by default for https, and for http://localhost where the app is in debug mode.
        exclude: path prefixes ("/static") where nothing is loaded ahead.
        ahead: False loads nothing until `session_of` is awaited; `request.session` needs that first, then.
        on_error: answers a request whose session could not be loaded or saved, with a response, or with None
            for ours: 503 for the store, 409 for a conflict, 403 for a limit and for CSRF, 429 for a source. May be
            async.
        csrf: True, or a policy, refuses requests that may change something (POST, PUT, ...) without a token of
            `csrf_token`, and WebSockets that pages of other origins open.
        Raises ConfigurationError.
        """
        sessions = given_or_made(
            sessions, AsyncSessions, to="SessionMiddleware", url=url, keys=keys, policy=policy, prefix=prefix
        )
        self.app = app
        self._watch = Watch(sessions)
        self._exchange = Exchange(sessions, cookie or CookiePolicy())
        self._in_debug = Exchange(sessions, cookie or CookiePolicy(development=True))
        self._excluded = tuple(prefix.rstrip("/") for prefix in exclude)
        self._ahead = ahead
        self._on_error = on_error
        self._csrf = CsrfPolicy() if csrf is True else csrf or None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        exchange = self._in_debug if getattr(scope.get("app"), "debug", False) else self._exchange
        visit = begin(exchange, scope)
        scope[_VISIT], scope["session"] = (exchange, visit), _not_loaded
        serving, failure = _Serving(exchange, self._watch, visit, scope, send), None
        try:
            if self._ahead and not (self._excluded and self._is_excluded(scope)):
                scope["session"] = await exchange.load(visit)
            if self._csrf is not None:
                receive = await _guarded(self._csrf, scope, Headers(scope=scope), receive)
            await self.app(scope, serving.receiver(receive), serving.send)
        except Exception as error:
            failure = error if isinstance(error, SessionError) else serving.failure
            if serving.has_begun or failure is None:
                raise
        finally:
            if not serving.is_over:
                await serving.end()
        failure = failure or serving.failure
        if failure is not None:  # raised, or swallowed by an app that then had nothing else to send
            await self._refuse(exchange, failure, scope, receive, send)
        elif not visit.is_done:
            await exchange.finish_late(visit)

    def _is_excluded(self, scope: Scope) -> bool:
        path = _path(scope)
        return any(path == prefix or path.startswith(f"{prefix}/") for prefix in self._excluded)

    async def _refuse(
        self, exchange: Exchange, error: SessionError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        answer = self._on_error(HTTPConnection(scope), error) if self._on_error else None
        response = await answer if isawaitable(answer) else answer
        if response is None:
            plain = exchange.failure(error)
            response = Response(plain.text, plain.status, dict(plain.headers))
        if scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
            await response(scope, receive, send)
        else:
            code = SESSION_ENDED if isinstance(error, AuthenticationRequired) else _TRY_AGAIN_LATER
            await send({"type": "websocket.close", "code": code})


class _Serving(Guard):
    """Stands between a server and an application, and saves the session before the response begins.

    has_begun: whether it has. failure: why it has not, if the session could not be saved.
    """

    __slots__ = ("_exchange", "failure", "has_begun")

    def __init__(self, exchange: Exchange, watch: Watch, visit: Visit, scope: Scope, send: Send) -> None:
        """Serve the connection of *scope* through *exchange*."""
        Guard.__init__(self, watch, visit, scope, send)  # super() costs as much as all that this does
        self._exchange = exchange
        self.has_begun = False
        self.failure: SessionError | None = None

    def send(self, message: Message) -> Awaitable[None]:
        """Pass *message* on; with the one that begins the response, save and set headers first."""
        if self.has_begun or message["type"] not in _STARTS:
            return self.pass_on(message)
        outcome = self._exchange.settled(self._visit)
        return self._save_and_send(message) if outcome is None else self._begin_with(message, outcome)

    async def _save_and_send(self, message: Message) -> None:
        try:
            outcome = await self._exchange.finish(self._visit)
        except SessionError as error:
            self.failure = error
            raise
        await self._begin_with(message, outcome)

    def _begin_with(self, message: Message, outcome: Outcome) -> Awaitable[None]:
        self.has_begun, self.failure = True, None
        return self.pass_on({**message, "headers": with_outcome(message.get("headers", ()), outcome)})


async def session_of(connection: HTTPConnection | Scope) -> Session:
    """Give the session of a Request, a WebSocket or a scope; load it where it was not loaded ahead.

    Raises StoreError, which is no logout; left alone it is answered as by `on_error`, or with 503.
    """
    scope: Scope = connection.scope if isinstance(connection, HTTPConnection) else connection
    exchange, visit = _visit_of(scope)
    session: Session = await exchange.load(visit)
    scope["session"] = session
    return session


def csrf_token(connection: HTTPConnection | Scope) -> str:
    """Give a CSRF token for the page that answers: for the hidden field csrf_token of its forms, or for its scripts.

    Ask for it once the request has done what it does to the session, a sign-in above all.
    """
    scope: Scope = connection.scope if isinstance(connection, HTTPConnection) else connection
    exchange, visit = _visit_of(scope)
    session = visit.session
    if session is None:
        raise RuntimeError(_NOT_LOADED)
    return exchange.sessions.csrf_token(session)


def csrf_context(request: Request) -> dict[str, Any]:
    """Give templates `{{ csrf_token() }}`: `Jinja2Templates(..., context_processors=[csrf_context])`."""
    return {"csrf_token": partial(csrf_token, request)}


def _visit_of(scope: Scope) -> tuple[Exchange, Visit]:
    if _VISIT not in scope:
        raise ConfigurationError("there is no session here: add coatcheck.starlette.SessionMiddleware to the app")
    visit: tuple[Exchange, Visit] = scope[_VISIT]
    return visit


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


async def _guarded(policy: CsrfPolicy, scope: Scope, headers: Headers, receive: Receive) -> Receive:
    """Raise CsrfRefused for a request that may be forged; give what is left to receive, all of it, otherwise."""
    if scope["type"] == "websocket":
        policy.is_own(headers.get)
    elif policy.applies_to(scope["method"], _path(scope)):
        is_own, token = policy.is_own(headers.get), headers.get(policy.header)
        kind = headers.get("content-type", "")
        if token is None and kind.startswith(("application/x-www-form-urlencoded", "multipart/form-data")):
            body, receive = await _peek(receive)
            token = token_in_form(kind, body, policy.field)
        exchange, visit = _visit_of(scope)
        await exchange.check_csrf(visit, token, is_own=is_own)
    return receive


async def _peek(receive: Receive) -> tuple[bytes, Receive]:
    """Give the beginning of a request's body, and a `receive` that begins with it again."""
    messages: list[Message] = []
    size, more = 0, True
    while more and size < LARGEST_FORM:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"".join(message.get("body", b"") for message in messages)
    messages.reverse()

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return body, receive_again


async def fresh_session_of(connection: HTTPConnection, within: timedelta, assurance: int = 1) -> Session:
    """Give the session, as `session_of` does. Raises AuthenticationRequired, answered with 401, unless it is fresh."""
    session = await session_of(connection)
    await _visit_of(connection.scope)[0].sessions.demand_fresh(session, within, assurance)
    return session


def require_fresh(minutes: float, assurance: int = 1) -> Callable[[Endpoint], Endpoint]:
    """Decorate an endpoint to answer 401 unless the user has authenticated within *minutes*, at least that strongly.

    The answer is a challenge (RFC 9470); `on_error` may answer otherwise. After the user has authenticated again:
    ``await sessions.bind(request.session, user, assurance=2)``.
    """
    within = timedelta(minutes=minutes)

    def decorate(endpoint: Endpoint) -> Endpoint:
        @wraps(endpoint)
        async def guarded(*given: Any, **options: Any) -> Any:
            connection = next(one for one in (*given, *options.values()) if isinstance(one, HTTPConnection))
            await fresh_session_of(connection, within, assurance)
            if iscoroutinefunction(endpoint):
                return await endpoint(*given, **options)
            return await run_in_threadpool(endpoint, *given, **options)

        return cast("Endpoint", guarded)

    return decorate


class _NotLoaded:
    """Stands for a session that was not loaded: whatever is asked of it is refused."""

    def __getattr__(self, name: str) -> Never:
        self._refuse()

    def _refuse(self, *_: object) -> Never:
        raise RuntimeError(_NOT_LOADED)

    __getitem__ = __setitem__ = __delitem__ = __contains__ = __iter__ = __len__ = _refuse


_not_loaded: Final = _NotLoaded()
