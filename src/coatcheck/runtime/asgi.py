"""Closing WebSockets and event streams of ASGI applications when the session they were opened in ends."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from typing import Any, Final

from coatcheck.engine.exchange import PRIVATE, Exchange, Outcome, Visit
from coatcheck.model.session import Session
from coatcheck.runtime.watch import Watch

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
RawHeaders = Iterable[tuple[bytes, bytes]]

SESSION_ENDED: Final = 4401
"""The close code of a WebSocket whose session has ended: of the range for private use, after HTTP's 401."""

_PRIVATE: Final = tuple((name.lower().encode(), value.encode()) for name, value in PRIVATE)
_MERGED: Final = frozenset(name for name, _ in _PRIVATE)
_REASON: Final = "session ended"
_EVENT_STREAM: Final = b"text/event-stream"
_CONTENT_TYPE_LENGTH: Final = len(b"content-type")
_RAISES_SINCE: Final = (2, 4)  # the version of the specification from which `send` raises when the client is gone


class Guard:
    """Stands between a server and an application, for one connection.

    When the session ends, the WebSocket is closed with SESSION_ENDED, the event stream is ended, and the application
    is told that its client is gone, as the server itself would tell it. Other responses are left alone.
    """

    __slots__ = (
        "_closed",
        "_closing",
        "_is_complete",
        "_is_socket",
        "_receive",
        "_received",
        "_scope",
        "_send",
        "_stays_open",
        "_visit",
        "_watch",
    )

    def __init__(self, watch: Watch, visit: Visit, scope: MutableMapping[str, Any], send: Send) -> None:
        """Guard the connection of *scope*, whose session is that of *visit* once it is loaded and stored."""
        self._watch = watch
        self._visit = visit
        self._scope = scope
        self._is_socket = scope["type"] == "websocket"
        self._receive: Receive
        self._send = send
        self._is_complete = False  # whether the request is: from then on only the client's leaving is waited for
        self._stays_open = False
        self._received: asyncio.Future[Message] | None = None
        self._closed: asyncio.Future[None] | None = None  # made when somebody waits for it
        self._closing: asyncio.Task[None] | None = None

    def receiver(self, receive: Receive) -> Receive:
        """Give the application's `receive`, over the server's."""
        self._receive = receive
        return self.receive

    async def receive(self) -> Message:
        """Give the server's next message, or say that the client is gone once the session has ended."""
        if not self._is_complete:
            message = await self._receive()
            self._is_complete = not message.get("more_body", False)
            return message
        self._begin()
        if self._received is None:
            self._received = asyncio.ensure_future(self._receive())
        if self._closed is None:
            self._closed = asyncio.get_running_loop().create_future()
        awaited: set[asyncio.Future[Any]] = {self._received, self._closed}
        await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        if self._closed.done():
            if self._is_socket:
                return {"type": "websocket.disconnect", "code": SESSION_ENDED, "reason": _REASON}
            return {"type": "http.disconnect"}
        received, self._received = self._received, None
        return received.result()

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to `end`."""
        return self._received is None and self._closing is None

    def pass_on(self, message: Message) -> Awaitable[None]:
        """Pass *message* on, unless the session has ended. No coroutine of its own where there is nothing to guard."""
        if not self._stays_open:
            kind = message["type"]
            if kind != "websocket.accept" and (
                kind != "http.response.start" or not _is_event_stream(message.get("headers", ()))
            ):
                return self._send(message)
        return self._send_guarded(message)

    async def end(self) -> None:
        """Stop: the application has returned."""
        if self._received is not None:
            self._received.cancel()
        if self._closing is not None:
            if self._closed is None or not self._closed.done():
                self._closing.cancel()
            await asyncio.wait({self._closing})

    async def _send_guarded(self, message: Message) -> None:
        if self._closed is not None and self._closed.done():
            if message["type"] != "websocket.close" and _raises(self._scope):
                raise OSError(_REASON)
            return
        await self._send(message)
        self._stays_open = True
        self._begin()

    def _begin(self) -> None:
        session = self._visit.session
        if self._stays_open and self._closing is None and session is not None and session.handle is not None:
            self._closing = asyncio.create_task(self._close(session))

    async def _close(self, session: Session) -> None:
        await self._watch.until_ended(session)
        if self._closed is None:
            self._closed = asyncio.get_running_loop().create_future()
        self._closed.set_result(None)
        with suppress(OSError, RuntimeError):  # it may have been closed from elsewhere at the same moment
            if self._is_socket:
                await self._send({"type": "websocket.close", "code": SESSION_ENDED, "reason": _REASON})
            else:
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def begin(exchange: Exchange, scope: MutableMapping[str, Any]) -> Visit:
    """Begin the visit of the connection of *scope*. Sends nothing."""
    headers, https, cookies = scope["headers"], scope.get("scheme") in {"https", "wss"}, b""
    for name, value in headers:
        if name == b"cookie":
            cookies = value if not cookies else b"; ".join((cookies, value))
    cookie, host = cookies.decode("latin-1"), "" if https else _last(headers, b"host") or ""
    if not exchange.looks_further:
        return exchange.begin(cookie, https=https, host=host)
    return exchange.begin(
        cookie,
        https=https,
        host=host,
        address=(scope.get("client") or (None,))[0],
        user_agent=_last(headers, b"user-agent"),
        method=scope.get("method"),
        path=scope["path"],
    )


def _last(headers: RawHeaders, wanted: bytes) -> str | None:
    values = [value for name, value in headers if name == wanted]
    return values[-1].decode("latin-1") if values else None


def with_outcome(headers: RawHeaders, outcome: Outcome) -> RawHeaders:
    """Give the raw headers of a response with those that *outcome* asks for."""
    if not outcome.is_private:
        return headers
    headers = tuple(headers)  # they may be such as are given once
    if outcome.set_cookie is None:
        for pair in headers:
            if pair[0].lower() in _MERGED:
                break
        else:  # as nearly always
            return (*headers, *_PRIVATE)
    kept, vary, cache_control = [], [], []
    for pair in headers:
        name = pair[0].lower()
        if name == b"vary":
            vary.append(pair[1].decode("latin-1"))
        elif name == b"cache-control":
            cache_control.append(pair[1].decode("latin-1"))
        else:
            kept.append(pair)
    for header, value in outcome.headers(", ".join(vary), ", ".join(cache_control)):
        kept.append((header.lower().encode(), value.encode("latin-1")))
    return kept


def _raises(scope: MutableMapping[str, Any]) -> bool:
    version = str(scope.get("asgi", {}).get("spec_version", "2.0"))
    return tuple(int(part) for part in version.split(".")) >= _RAISES_SINCE


def _is_event_stream(headers: RawHeaders) -> bool:
    for name, value in headers:
        if len(name) == _CONTENT_TYPE_LENGTH and name.lower() == b"content-type":
            return bool(value[: len(_EVENT_STREAM)].lower() == _EVENT_STREAM)
    return False
