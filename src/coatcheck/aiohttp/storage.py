"""The storage for aiohttp-session, over a Session as that library presents it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

from aiohttp import web

from coatcheck.aiohttp.desk import STORED, Desk, Errand
from coatcheck.model.cookie import CookiePolicy
from coatcheck.model.errors import ConfigurationError, SessionError
from coatcheck.model.extras import installation
from coatcheck.model.policy import SessionPolicy
from coatcheck.model.session import Session
from coatcheck.runtime.address import Keys
from coatcheck.runtime.aio import AsyncSessions

try:
    from aiohttp_session import AbstractStorage, get_session
    from aiohttp_session import Session as TheirSession
except ModuleNotFoundError:  # only Storage needs it
    AbstractStorage = TheirSession = object  # type: ignore[assignment,misc]


async def stored_session_of(request: web.Request) -> Session | None:
    """Give the Session behind aiohttp-session's; None where that library does not serve the *request*.

    Raises StoreError.
    """
    if "aiohttp_session_storage" not in request:
        return None
    return cast("StoredSession", await get_session(request)).session


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

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Give an attribute, which is set to *default* first where there is none."""
        return self.session.setdefault(name, default)


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
            raise ConfigurationError(f"Storage needs aiohttp-session: {installation('aiohttp')}")
        self._desk = Desk("Storage", sessions=sessions, cookie=cookie, url=url, keys=keys, policy=policy, prefix=prefix)
        super().__init__(cookie_name=(cookie or CookiePolicy()).full_name(secure=cookie is None or cookie.secure))

    async def load_session(self, request: web.Request) -> StoredSession:
        """Load the session of *request*."""
        errand = request[STORED] = self._desk.begin(request)
        try:
            return StoredSession(await errand.exchange.load(errand.visit))
        except SessionError as error:
            raise errand.refusal(error, request) from error

    async def new_session(self) -> StoredSession:
        """Begin a session; saved, it takes the place of the request's, which ends."""
        return StoredSession(self._desk.sessions.new())

    async def save_session(self, request: web.Request, response: web.StreamResponse, session: TheirSession) -> None:
        """Save the session of *request*, and set the headers of the *response*."""
        errand = request.get(STORED) or self._desk.begin(request)
        try:
            await self._finish(errand, response, cast("StoredSession", session))
        except SessionError as error:
            raise errand.refusal(error, request) from error

    async def close(self, _: web.Application | None = None) -> None:
        """Close the connections of the running loop."""
        await self._desk.sessions.close()

    async def _finish(self, errand: Errand, response: web.StreamResponse, stored: StoredSession) -> None:
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
