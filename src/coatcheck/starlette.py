"""Sessions for Starlette and FastAPI: pure ASGI middleware, for HTTP and WebSocket.

    from coatcheck.starlette import SessionMiddleware

    app = Starlette(routes=...)
    app.add_middleware(SessionMiddleware)               # COATCHECK_URL, or the embedded store

    async def visit(request):
        request.session["visits"] = request.session.get("visits", 0) + 1

`request.session` is the `coatcheck.Session` itself: a mapping, with `increment`, `rotate`, `revoke` and the rest.
"""

from collections.abc import Awaitable, Callable, Iterable
from inspect import isawaitable
from typing import Final, Never

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coatcheck.engine.exchange import Exchange, Visit
from coatcheck.model.cookie import CookiePolicy
from coatcheck.model.errors import ConfigurationError, SessionError
from coatcheck.model.policy import SessionPolicy
from coatcheck.model.session import Session
from coatcheck.runtime.address import Keys
from coatcheck.runtime.aio import AsyncSessions

__all__ = ["SessionMiddleware", "session_of"]

OnError = Callable[[HTTPConnection, SessionError], Response | Awaitable[Response | None] | None]

_STARTS: Final = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})
_TRY_AGAIN_LATER: Final = 1013
_VISIT: Final = "coatcheck.visit"


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
    ) -> None:
        """Wrap *app*, with the application's *sessions*, or with sessions of the given url, keys, policy and prefix.

        cookie: by default for https, and for http://localhost where the app is in debug mode.
        exclude: path prefixes ("/static") where nothing is loaded ahead.
        ahead: False loads nothing until `session_of` is awaited; `request.session` needs that first, then.
        on_error: answers a request whose session could not be loaded or saved, with a response, or with None
            for ours: 503 for the store, 409 for a conflict, 403 for a limit. May be async.
        Raises ConfigurationError.
        """
        if sessions is not None and (url, keys, policy, prefix) != (None, None, None, None):
            raise ConfigurationError("give SessionMiddleware either sessions, or url, keys, policy and prefix")
        self.app = app
        sessions = sessions or AsyncSessions(url, keys=keys, policy=policy, prefix=prefix)
        self._exchange = Exchange(sessions, cookie or CookiePolicy())
        self._in_debug = Exchange(sessions, cookie or CookiePolicy(development=True))
        self._excluded = tuple(prefix.rstrip("/") for prefix in exclude)
        self._ahead = ahead
        self._on_error = on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        exchange = self._in_debug if getattr(scope.get("app"), "debug", False) else self._exchange
        headers = Headers(scope=scope)
        https = scope.get("scheme") in ("https", "wss")
        visit = exchange.begin("; ".join(headers.getlist("cookie")), https=https, host=headers.get("host", ""))
        scope[_VISIT], scope["session"] = (exchange, visit), _NotLoaded()
        has_begun, failure = False, None

        async def send_with_session(message: Message) -> None:
            nonlocal has_begun, failure
            if message["type"] in _STARTS and not has_begun:
                try:
                    message = await _finished(exchange, visit, message)
                except SessionError as error:
                    failure = error
                    raise
                has_begun, failure = True, None
            await send(message)

        try:
            if self._ahead and not self._is_excluded(scope):
                await session_of(scope)
            await self.app(scope, receive, send_with_session)
        except Exception as error:
            failure = error if isinstance(error, SessionError) else failure
            if has_begun or failure is None:
                raise
        if failure is not None:  # raised, or swallowed by an app that then had nothing else to send
            await self._refuse(exchange, failure, scope, receive, send)
        else:
            await exchange.finish_late(visit)

    def _is_excluded(self, scope: Scope) -> bool:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
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
            await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER})


async def session_of(connection: HTTPConnection | Scope) -> Session:
    """Give the session of a Request, a WebSocket or a scope; load it where it was not loaded ahead.

    Raises StoreError, which is no logout; left alone it is answered as by `on_error`, or with 503.
    """
    scope: Scope = connection.scope if isinstance(connection, HTTPConnection) else connection
    if _VISIT not in scope:
        raise ConfigurationError("there is no session here: add coatcheck.starlette.SessionMiddleware to the app")
    exchange, visit = scope[_VISIT]
    session: Session = await exchange.load(visit)
    scope["session"] = session
    return session


async def _finished(exchange: Exchange, visit: Visit, message: Message) -> Message:
    """Save the session; give the message that begins the response with the headers that this takes."""
    outcome = await exchange.finish(visit)
    headers = MutableHeaders(raw=list(message.get("headers", ())))
    vary, cache_control = (", ".join(headers.getlist(name)) for name in ("vary", "cache-control"))
    for name, value in outcome.headers(vary, cache_control):
        if name == "Set-Cookie":
            headers.append(name, value)
        else:
            headers[name] = value
    return {**message, "headers": headers.raw}


class _NotLoaded:
    """Stands for a session that was not loaded: whatever is asked of it is refused."""

    def __getattr__(self, name: str) -> Never:
        self._refuse()

    def _refuse(self, *_: object) -> Never:
        raise RuntimeError(
            "the session is not loaded: `session = await session_of(request)` (coatcheck.starlette) loads it; "
            "SessionMiddleware(ahead=True), outside its excluded paths, loads it before the handler runs"
        )

    __getitem__ = __setitem__ = __delitem__ = __contains__ = __iter__ = __len__ = _refuse
