"""What serves the requests of an aiohttp application, by the middleware or by the storage."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import hdrs, web

from coatcheck.aiohttp.guard import Guard, stays_open
from coatcheck.engine.exchange import Exchange, Visit
from coatcheck.model.cookie import CookiePolicy
from coatcheck.model.errors import SessionError
from coatcheck.model.policy import SessionPolicy
from coatcheck.model.session import Session
from coatcheck.runtime.address import Keys
from coatcheck.runtime.aio import AsyncSessions
from coatcheck.runtime.making import given_or_made
from coatcheck.runtime.watch import Watch

# Before aiohttp 3.14 a plain name is the key.
_key: Final[Callable[[str, type], Any]] = getattr(web, "RequestKey", lambda name, _: name)
ERRAND: Final = _key("coatcheck.errand", object)
"""Where a request has its Errand, under the middleware."""

STORED: Final = _key("coatcheck.stored", object)
"""Where a request has its Errand, under the storage, once its session was asked for."""

_REFUSALS: Final[dict[int, type[web.HTTPException]]] = {
    kind.status_code: kind
    for kind in (
        web.HTTPServiceUnavailable,
        web.HTTPUnauthorized,
        web.HTTPForbidden,
        web.HTTPConflict,
        web.HTTPTooManyRequests,
    )
}


@dataclass(slots=True)
class Errand:
    """A request's visit, and what serves it."""

    exchange: Exchange
    visit: Visit
    is_done: bool = False
    guard: Guard | None = None

    async def load(self) -> Session:
        """Give the request's session; load it if nothing has yet. Raises StoreError."""
        session = await self.exchange.load(self.visit)
        if self.guard is not None:
            self.guard.begin()
        return session

    async def finish(self, response: web.StreamResponse) -> None:
        """Save, and set the headers of the *response*, which has not begun yet."""
        outcome = self.exchange.settled(self.visit) or await self.exchange.finish(self.visit)
        if not outcome.is_private:
            return
        headers = response.headers
        vary, cache_control = (", ".join(headers.getall(name, ())) for name in (hdrs.VARY, hdrs.CACHE_CONTROL))
        for name, value in outcome.headers(vary, cache_control):
            if name == hdrs.SET_COOKIE:
                headers.add(name, value)
            else:
                headers[name] = value

    async def unguard(self) -> None:
        """Leave alone from now on what stayed open: the handler has returned."""
        if self.guard is not None:
            await self.guard.end()

    def refusal(self, error: SessionError, request: web.Request) -> web.HTTPException:
        """Make the answer to a *request* that met *error*."""
        failure = self.exchange.failure(error)
        answer = _REFUSALS[failure.status](text=failure.text, headers=dict(failure.headers))
        if getattr(request.writer, "chunked", False):  # a stream that could not begin has left it so
            answer.enable_chunked_encoding()
        return answer


class Desk:
    """The sessions and the cookie of an application, in debug mode and out of it."""

    def __init__(
        self,
        name: str,
        *,
        sessions: AsyncSessions | None,
        cookie: CookiePolicy | None,
        url: str | None,
        keys: Keys,
        policy: SessionPolicy | None,
        prefix: str | None,
    ) -> None:
        """Take what `setup` takes. name: of what was given it. Raises ConfigurationError."""
        self.sessions = given_or_made(
            sessions, AsyncSessions, to=name, url=url, keys=keys, policy=policy, prefix=prefix
        )
        self._watch = Watch(self.sessions)
        self._exchanges = {
            debug: Exchange(self.sessions, cookie or CookiePolicy(development=debug)) for debug in (False, True)
        }

    def guard(self, errand: Errand, request: web.Request, response: web.StreamResponse) -> None:
        """Have the *response*, which begins, closed when the session ends, if it stays open."""
        if stays_open(response):
            errand.guard = Guard(self._watch, errand.visit, request, response)
            errand.guard.begin()

    def begin(self, request: web.Request) -> Errand:
        """Look at a *request*. Sends nothing."""
        exchange = self._exchanges[asyncio.get_running_loop().get_debug()]
        cookies = "; ".join(request.headers.getall(hdrs.COOKIE, ()))
        address, user_agent = request.remote, request.headers.get(hdrs.USER_AGENT)
        visit = exchange.begin(
            cookies,
            https=request.secure,
            host=request.host,
            address=address,
            user_agent=user_agent,
            method=request.method,
            path=request.path,
        )
        return Errand(exchange, visit)
