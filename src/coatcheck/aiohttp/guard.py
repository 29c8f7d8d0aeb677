"""Closing WebSockets and event streams of aiohttp applications when the session they were opened in ends."""

import asyncio
from typing import Final

from aiohttp import web

from coatcheck.engine.exchange import Visit
from coatcheck.model.session import Session
from coatcheck.runtime.asgi import SESSION_ENDED
from coatcheck.runtime.watch import Watch

_REASON: Final = b"session ended"
_PATIENCE_SECONDS: Final = 1.0
"""How long a client has to take what is left for it, and to answer the closing of a WebSocket."""


def stays_open(response: web.StreamResponse) -> bool:
    """Say whether *response*, which begins, is a WebSocket or an event stream."""
    return isinstance(response, web.WebSocketResponse) or response.content_type == "text/event-stream"


class Guard:
    """Closes a response that stays open, when the session of its request ends.

    A WebSocket is closed with SESSION_ENDED, an event stream is ended, and then the connection is closed, so that
    aiohttp tells the handler what it tells it when a client leaves. To be used on one event loop.
    """

    def __init__(self, watch: Watch, visit: Visit, request: web.Request, response: web.StreamResponse) -> None:
        """Guard the *response* to *request*, whose session is that of *visit*."""
        self._watch = watch
        self._visit = visit
        self._request = request
        self._response = response
        self._is_over = False  # whether the session has ended, or the handler has
        self._closing: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Watch the session, if it is loaded and stored by now and the response is still open."""
        session = self._visit.session
        if self._closing is None and not self._is_over and session is not None and session.handle is not None:
            self._closing = asyncio.create_task(self._close(session))

    async def end(self) -> None:
        """Stop: the handler has returned."""
        if self._closing is not None:
            if not self._is_over:
                self._closing.cancel()
            await asyncio.wait({self._closing})
        self._is_over = True

    async def _close(self, session: Session) -> None:
        await self._watch.until_ended(session)
        self._is_over = True
        transport = self._request.transport
        if transport is None:
            return
        saying = asyncio.create_task(self._say_so())
        # It is not cancelled: the handler may wait for the same future of aiohttp's, and would be cancelled with it.
        await asyncio.wait({saying}, timeout=_PATIENCE_SECONDS)
        if saying.done() and not saying.cancelled() and saying.exception() is None:
            transport.close()
        else:  # the client does not take it, or nothing has left yet
            transport.abort()
            await asyncio.gather(saying, return_exceptions=True)

    async def _say_so(self) -> None:
        if isinstance(self._response, web.WebSocketResponse):
            await self._response.close(code=SESSION_ENDED, message=_REASON)
        elif (writer := await self._response.prepare(self._request)) is not None:  # there long since: this gives it
            await writer.write_eof()
