"""aiohttp: sessions by a middleware of our own, or by a storage for aiohttp-session.

    from coatcheck.aiohttp import session_of, setup

    app = web.Application()
    setup(app)                                      # before the middlewares that use the session

    async def visit(request):
        session = await session_of(request)         # loaded now: a request that does not ask costs nothing
        return web.json_response({"visits": session.increment("visits")})

Responses of every kind carry the cookie: streams, WebSockets, and exceptions such as web.HTTPFound. What is
done once a response has begun is saved at the end of the request; a new cookie comes too late then.

An app written for aiohttp-session changes one line, ``aiohttp_session.setup(app, Storage())``. That library
does not let a storage take part in streams and WebSockets: nothing that they do is saved.

A failed store is answered with web.HTTPServiceUnavailable, a refused sign-in with web.HTTPForbidden, a conflict
with web.HTTPConflict. A middleware outside this one may answer otherwise; ``__cause__`` says what went wrong.

aiohttp ignores X-Forwarded-Proto. Behind a proxy that ends TLS, a middleware outside this one must go on with
``request.clone(scheme="https")`` where the proxy, and nobody else, says so.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import Any, Final, TypeVar, cast

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from coatcheck.engine.exchange import Exchange, Visit
from coatcheck.model.cookie import CookiePolicy
from coatcheck.model.errors import AuthenticationRequired, ConfigurationError, SessionError
from coatcheck.model.policy import SessionPolicy
from coatcheck.model.session import Session
from coatcheck.runtime.address import Keys
from coatcheck.runtime.aio import AsyncSessions

try:
    from aiohttp_session import AbstractStorage, get_session
    from aiohttp_session import Session as TheirSession
except ModuleNotFoundError:  # only Storage needs it
    AbstractStorage = TheirSession = object  # type: ignore[assignment,misc]

__all__ = ["Storage", "require_fresh", "session_of", "setup"]

Wrapped = TypeVar("Wrapped", bound=Callable[..., Any])

# Before aiohttp 3.14 a plain name is the key.
_key: Final[Callable[[str, type], Any]] = getattr(web, "RequestKey", lambda name, _: name)
_ERRAND: Final = _key("coatcheck.errand", object)
_STORED: Final = _key("coatcheck.stored", object)
_REFUSALS: Final[dict[int, type[web.HTTPException]]] = {
    kind.status_code: kind
    for kind in (web.HTTPServiceUnavailable, web.HTTPUnauthorized, web.HTTPForbidden, web.HTTPConflict)
}


def setup(
    app: web.Application,
    *,
    sessions: AsyncSessions | None = None,
    url: str | None = None,
    keys: Keys = None,
    policy: SessionPolicy | None = None,
    prefix: str | None = None,
    cookie: CookiePolicy | None = None,
) -> None:
    """Give every request of *app* a session: one of *sessions*, or of those with this url, keys, policy and prefix.

    cookie: by default for https, and for http://localhost where asyncio is in debug mode.
    Sessions that are not given are closed with the app. Raises ConfigurationError.
    """
    desk = _Desk(sessions=sessions, cookie=cookie, url=url, keys=keys, policy=policy, prefix=prefix)

    @web.middleware
    async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
        errand = request[_ERRAND] = desk.begin(request)
        raised: web.HTTPException | None = None
        response: web.StreamResponse
        try:
            try:
                response = await handler(request)
            except web.HTTPException as answer:
                response = raised = answer
            if response.prepared:
                await errand.exchange.finish_late(errand.visit)
            else:
                await errand.finish(response)
        except SessionError as error:
            raise errand.refusal(error, request) from error
        finally:
            errand.is_done = True
        if raised is not None:
            raise raised
        return response

    async def finish_early(request: web.Request, response: web.StreamResponse) -> None:
        errand = request.get(_ERRAND)
        if errand is not None and not errand.is_done:
            await errand.finish(response)

    async def close(_: web.Application) -> None:
        await desk.sessions.close()

    app.middlewares.append(serve)
    app.on_response_prepare.append(finish_early)
    if sessions is None:
        app.on_cleanup.append(close)


async def session_of(request: web.Request) -> Session:
    """Give the session of *request*; load it if nothing has yet.

    Under `Storage` it is the one behind aiohttp-session's. Raises StoreError, which is no logout.
    """
    if (errand := request.get(_ERRAND)) is not None:
        return await cast("_Errand", errand).exchange.load(errand.visit)
    if "aiohttp_session_storage" not in request:
        raise ConfigurationError("there is no session here: call coatcheck.aiohttp.setup(app)")
    return cast("StoredSession", await get_session(request)).session


def require_fresh(minutes: float, assurance: int = 1) -> Callable[[Wrapped], Wrapped]:
    """Decorate a handler, or a method of a web.View, to refuse users who have not authenticated within *minutes*.

    assurance: how strongly, at least. The answer is web.HTTPUnauthorized with a challenge (RFC 9470).
    """
    within = timedelta(minutes=minutes)

    def decorate(handler: Wrapped) -> Wrapped:
        @wraps(handler)
        async def guarded(given: web.Request | web.View) -> Any:
            request = given.request if isinstance(given, web.View) else given
            session = await session_of(request)
            errand = cast("_Errand", request.get(_ERRAND) or request[_STORED])
            try:
                errand.exchange.sessions.require_fresh(session, within, assurance)
            except AuthenticationRequired as error:
                raise errand.refusal(error, request) from error
            return await handler(given)

        return cast("Wrapped", guarded)

    return decorate


@dataclass(slots=True)
class _Errand:
    """A request's visit, and what serves it."""

    exchange: Exchange
    visit: Visit
    is_done: bool = False

    async def finish(self, response: web.StreamResponse) -> None:
        """Save, and set the headers of the *response*, which has not begun yet."""
        outcome = await self.exchange.finish(self.visit)
        headers = response.headers
        vary, cache_control = (", ".join(headers.getall(name, ())) for name in (hdrs.VARY, hdrs.CACHE_CONTROL))
        for name, value in outcome.headers(vary, cache_control):
            if name == hdrs.SET_COOKIE:
                headers.add(name, value)
            else:
                headers[name] = value

    def refusal(self, error: SessionError, request: web.Request) -> web.HTTPException:
        """Make the answer to a *request* that met *error*."""
        failure = self.exchange.failure(error)
        answer = _REFUSALS[failure.status](text=failure.text, headers=dict(failure.headers))
        if getattr(request.writer, "chunked", False):  # a stream that could not begin has left it so
            answer.enable_chunked_encoding()
        return answer


class _Desk:
    """The sessions and the cookie of an application, in debug mode and out of it."""

    def __init__(
        self,
        *,
        sessions: AsyncSessions | None,
        cookie: CookiePolicy | None,
        url: str | None,
        keys: Keys,
        policy: SessionPolicy | None,
        prefix: str | None,
    ) -> None:
        if sessions is not None and (url, keys, policy, prefix) != (None, None, None, None):
            raise ConfigurationError("give either sessions, or url, keys, policy and prefix")
        self.sessions = sessions or AsyncSessions(url, keys=keys, policy=policy, prefix=prefix)
        self._exchanges = {
            debug: Exchange(self.sessions, cookie or CookiePolicy(development=debug)) for debug in (False, True)
        }

    def begin(self, request: web.Request) -> _Errand:
        exchange = self._exchanges[asyncio.get_running_loop().get_debug()]
        cookies = "; ".join(request.headers.getall(hdrs.COOKIE, ()))
        return _Errand(exchange, exchange.begin(cookies, https=request.secure, host=request.host))


class StoredSession(TheirSession):
    """aiohttp-session's session, over ours, which is its ``session``."""

    def __init__(self, session: Session) -> None:
        """Present *session*."""
        handle = None if session.handle is None else str(session.handle)
        super().__init__(handle, data=None, new=session.is_new)
        self.session = session
        self.is_invalid = False
        self.changed()  # so that save_session is always asked: it also touches, and sets Vary

    def __repr__(self) -> str:
        """Show no attributes."""
        return f"<StoredSession of {self.session!r}>"

    @property
    def created(self) -> int:
        """When it was created (seconds since the epoch)."""
        created_at = self.session.created_at
        return super().created if created_at is None else int(created_at.timestamp())

    @property
    def empty(self) -> bool:
        """Whether it has no attributes."""
        return not self.session

    @property
    def max_age(self) -> int | None:
        """How long it lives unused (seconds); None: also no longer than the browser."""
        return self.session.idle_timeout // timedelta(seconds=1) if self.session.persistent else None

    @max_age.setter
    def max_age(self, value: int | None) -> None:
        idle = self.session.idle_timeout if value is None else timedelta(seconds=value)
        absolute = max(idle, self.session.absolute_timeout)
        self.session.set_timeouts(idle=idle, absolute=absolute, persistent=value is not None)

    def invalidate(self) -> None:
        """Remove every attribute; the session ends with the request unless it gets new ones."""
        self.is_invalid = True
        self.session.clear()

    def __len__(self) -> int:
        return len(self.session)

    def __iter__(self) -> Iterator[str]:
        return iter(self.session)

    def __contains__(self, name: object) -> bool:
        return name in self.session

    def __getitem__(self, name: str) -> Any:
        return self.session[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.session[name] = value

    def __delitem__(self, name: str) -> None:
        del self.session[name]


class Storage(AbstractStorage):
    """A storage for aiohttp-session: ``aiohttp_session.setup(app, Storage())``.

    Its sessions merge parallel changes, notice changes inside values, and hold every type that a Session does.
    """

    def __init__(
        self,
        *,
        sessions: AsyncSessions | None = None,
        url: str | None = None,
        keys: Keys = None,
        policy: SessionPolicy | None = None,
        prefix: str | None = None,
        cookie: CookiePolicy | None = None,
    ) -> None:
        """Take what `setup` takes; ``app.on_cleanup.append(storage.close)`` closes. Raises ConfigurationError."""
        if AbstractStorage is object:
            raise ConfigurationError("Storage needs aiohttp-session: pip install 'coatcheck[aiohttp]'")
        self._desk = _Desk(sessions=sessions, cookie=cookie, url=url, keys=keys, policy=policy, prefix=prefix)
        super().__init__(cookie_name=(cookie or CookiePolicy()).full_name(secure=cookie is None or cookie.secure))

    async def load_session(self, request: web.Request) -> StoredSession:
        """Load the session of *request*."""
        errand = request[_STORED] = self._desk.begin(request)
        try:
            return StoredSession(await errand.exchange.load(errand.visit))
        except SessionError as error:
            raise errand.refusal(error, request) from error

    async def new_session(self) -> StoredSession:
        """Begin a session; saved, it takes the place of the request's, which ends."""
        return StoredSession(self._desk.sessions.new())

    async def save_session(self, request: web.Request, response: web.StreamResponse, session: TheirSession) -> None:
        """Save the session of *request*, and set the headers of the *response*."""
        errand = request.get(_STORED) or self._desk.begin(request)
        try:
            await self._finish(errand, response, cast("StoredSession", session))
        except SessionError as error:
            raise errand.refusal(error, request) from error

    async def close(self, _: web.Application | None = None) -> None:
        """Close the connections of the running loop."""
        await self._desk.sessions.close()

    async def _finish(self, errand: _Errand, response: web.StreamResponse, stored: StoredSession) -> None:
        session, former = stored.session, await errand.exchange.load(errand.visit)
        if stored.is_invalid and not session:
            session.revoke()
        if session is former:
            await errand.finish(response)
            return
        # As in a sign-in, an anonymous session ends after the new one is there; a bound one before, for the limit.
        if former.subject is not None:
            await self._desk.sessions.revoke(former)
        errand.visit.session = session
        await errand.finish(response)
        if former.subject is None:
            await self._desk.sessions.revoke(former)
