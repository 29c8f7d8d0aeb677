"""SessionStore: Django's SessionBase over a coatcheck Session.

SessionBase works on a mapping that it loads when it is first needed. Here that mapping is the coatcheck Session
itself, which notes every change; the coroutines below are run on the event loop or stepped without one.
"""

from contextlib import suppress
from functools import cached_property
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.utils.module_loading import import_string

from coatcheck.django.auth import password_changed
from coatcheck.django.configuration import asynchronous, blocking, configuration
from coatcheck.django.expiry import NAME, apply_expiry, goes_with_browser
from coatcheck.engine.exchange import Exchange, Outcome, Visit
from coatcheck.engine.operations import Operations
from coatcheck.model.errors import SessionRevoked, SourceLimited, StoreError
from coatcheck.model.session import Session
from coatcheck.model.ticket import Ticket
from coatcheck.runtime.sync import run


class SessionStore(SessionBase):
    """A request's session, as Django's code sees it. Loaded when it is first needed, saved by the middleware.

    visit: the request's dealings with the session. failure: the error that loading it met, of the store or the limit.
    """

    visit: Visit

    def __init__(self, session_key: str | None = None) -> None:
        """Present the session of *session_key*, the cookie's value, or a new one. Sends nothing."""
        self._session_key = session_key  # SessionBase's own __init__ does this and the next two, and finds a serializer
        self.accessed = False
        self._is_modified = False
        self.failure: StoreError | SourceLimited | None = None
        self._clears = False  # before it was loaded
        self._signs_in = False
        self._is_flushed = False

    @cached_property
    def serializer(self) -> Any:
        """What encode() and decode() use, found when they do: no request needs it."""
        return import_string(settings.SESSION_SERIALIZER)

    # What is known of it

    @property
    def session(self) -> Session:
        """The full session; it is loaded if it was not."""
        return self._get_session()

    async def asession(self) -> Session:
        """Give the full session."""
        return await self._aget_session()

    def _get_session_key(self) -> str | None:
        session = self.visit.session
        if session is None:
            return None if self.visit.ticket is None else self.visit.ticket.identifier
        return None if session.ended else session.identifier

    def _set_session_key(self, value: str | None) -> None:
        self.visit = Visit(Ticket.parse(value) if value else None, secure=True)

    session_key = property(_get_session_key)
    _session_key = property(_get_session_key, _set_session_key)

    @property
    def modified(self) -> bool:
        """Whether a save has something to write; changes inside nested values are seen."""
        session = self.visit.session
        return self._is_modified or (session is not None and session.is_changed)

    @modified.setter
    def modified(self, value: bool) -> None:
        self._is_modified = value

    def is_empty(self) -> bool:
        """Say whether there is neither a key nor anything in it."""
        return self.session_key is None and (self.visit.session is None or self.visit.session.is_empty)

    def get_session_cookie_age(self) -> int:
        """Give the seconds after which an unused session ends, unless it has an expiry of its own."""
        return int(configuration().sessions.policy.idle_timeout.total_seconds())

    def get_expire_at_browser_close(self) -> bool:
        """Say whether the cookie goes with the browser."""
        return goes_with_browser(self.get(NAME), configuration().sessions.policy)

    async def aget_expire_at_browser_close(self) -> bool:
        """Do as `get_expire_at_browser_close`."""
        return goes_with_browser(await self.aget(NAME), configuration().sessions.policy)

    # The mapping, where SessionBase does not leave it to the Session

    def _get_session(self, no_load: bool = False) -> Session:  # noqa: ARG002, FBT001, FBT002  Django's signature
        self.accessed = True
        session = self.visit.session
        return run(self._load(blocking())) if session is None else session

    async def _aget_session(self, no_load: bool = False) -> Session:  # noqa: ARG002, FBT001, FBT002  as above
        self.accessed = True
        session = self.visit.session
        return await self._load(asynchronous()) if session is None else session

    _session = property(_get_session)

    def __setitem__(self, key: str, value: Any) -> None:
        """Set an attribute; setting the user's id, even to what it was, is a sign-in."""
        super().__setitem__(key, value)
        self._signs_in |= key == SESSION_KEY

    async def aset(self, key: str, value: Any) -> None:
        """Do as `__setitem__`."""
        await super().aset(key, value)
        self._signs_in |= key == SESSION_KEY

    def setdefault(self, key: str, value: Any) -> Any:
        """Give an attribute, which is set to *value* first where there is none."""
        return self._set_default(self._get_session(), key, value)

    async def asetdefault(self, key: str, value: Any) -> Any:
        """Do as `setdefault`."""
        return self._set_default(await self._aget_session(), key, value)

    def _set_default(self, session: Session, key: str, value: Any) -> Any:
        is_new = key not in session
        self.modified |= is_new
        self._signs_in |= is_new and key == SESSION_KEY
        return session.setdefault(key, value)

    def clear(self) -> None:
        """Remove every attribute. What is not loaded yet is cleared when it is, at the latest when it is saved."""
        if self.visit.session is None:
            self._clears = True
        else:
            self.visit.session.clear()
        self.accessed = self.modified = True

    # What Django calls

    def load(self) -> Session:
        """Load the session, if that was not done yet."""
        return self._get_session()

    async def aload(self) -> Session:
        """Do as `load`."""
        return await self._aget_session()

    def exists(self, session_key: str) -> bool:
        """Say whether *session_key* opens a session."""
        return run(blocking().sessions.load(session_key)) is not None

    async def aexists(self, session_key: str) -> bool:
        """Do as `exists`."""
        return await asynchronous().sessions.load(session_key) is not None

    def create(self) -> None:
        """Store a new session, with what this one has in it."""
        run(self._create(blocking()))

    async def acreate(self) -> None:
        """Do as `create`."""
        await self._create(asynchronous())

    def save(self, must_create: bool = False) -> None:  # noqa: FBT001, FBT002  Django's signature
        """Save now; the middleware does it at the end of a request. A new session is stored even if it is empty.

        Raises UpdateError where the session has ended meanwhile, CreateError where *must_create* meets a stored
        one, and what `coatcheck.Sessions.save` raises.
        """
        run(self._save(blocking(), must_create=must_create))

    async def asave(self, must_create: bool = False) -> None:  # noqa: FBT001, FBT002  Django's signature
        """Do as `save`."""
        await self._save(asynchronous(), must_create=must_create)

    def delete(self, session_key: str | None = None) -> None:
        """End the session that *session_key* opens, or this one."""
        run(self._delete(blocking(), session_key))

    async def adelete(self, session_key: str | None = None) -> None:
        """Do as `delete`."""
        await self._delete(asynchronous(), session_key)

    def flush(self) -> None:
        """End this session at once; what comes after belongs to a new one."""
        run(self._flush(blocking()))

    async def aflush(self) -> None:
        """Do as `flush`."""
        await self._flush(asynchronous())

    def cycle_key(self) -> None:
        """Have the save give the session a new key."""
        self._get_session().rotate()
        self.modified = True

    async def acycle_key(self) -> None:
        """Do as `cycle_key`."""
        (await self._aget_session()).rotate()
        self.modified = True

    @classmethod
    def clear_expired(cls) -> None:
        """Settle what has expired, for `manage.py clearsessions`."""
        run(blocking().sessions.sweep())

    @classmethod
    async def aclear_expired(cls) -> None:
        """Do as `clear_expired`."""
        await asynchronous().sessions.sweep()

    # How it is done, with or without an event loop

    def settled(self, exchange: Exchange) -> Outcome | None:
        """Give at once what `finish` would give, with saves, where it would do nothing; None where it takes that."""
        if self._clears or self._signs_in or self._is_flushed:
            return None
        if self.visit.session is not None:
            self.visit.session.accessed = True  # for whoever loads it has asked for it
            return exchange.settled(self.visit)
        return Outcome(is_private=self.accessed)

    async def finish(self, exchange: Exchange, *, saves: bool) -> Outcome:
        """End the request; saves: whether what it changed is to be kept. Raises as `Exchange.finish` does."""
        if self._clears and saves:
            await self._load(exchange)
        session = self.visit.session
        if session is None:
            return Outcome(None, self.accessed)
        if self._is_flushed and session.is_new and session.is_empty:
            session.revoke()  # ended already: this has the cookie removed
        elif saves:
            with suppress(SessionRevoked):  # which the exchange meets too, and knows how to answer
                await self._settle(session, exchange.sessions)
        elif session.is_new or session.ended or session.is_changed:
            return Outcome(None, self.accessed)
        outcome = await exchange.finish(self.visit)
        return Outcome(outcome.set_cookie, outcome.is_private or self.accessed)

    async def _load(self, exchange: Exchange) -> Session:
        try:
            session = await exchange.load(self.visit)
        except (StoreError, SourceLimited) as error:
            self.failure = error
            raise
        if self._clears:
            self._clears = False
            session.clear()
        return session

    async def _settle(self, session: Session, sessions: Operations) -> None:
        """See to what Django's attributes ask for, before the session is saved."""
        subject, renews = sessions.wanted_subject(session), False
        if session.subject is not None and subject == session.subject:
            if await password_changed(session, sessions):
                await sessions.revoke_all(session.subject, keep=session.handle)
                renews = True
            renews = renews or self._signs_in or session.link_wanted
        goes_on = subject == session.subject and not renews
        apply_expiry(session, sessions.policy, session.created_at if goes_on else None)
        self._signs_in = False
        if renews and not session.ended and subject is not None:
            await sessions.bind(session, subject)

    async def _save(self, exchange: Exchange, *, must_create: bool) -> None:
        session, sessions = await self._load(exchange), exchange.sessions
        if must_create and not session.is_new:
            raise CreateError
        if session.ended:
            raise UpdateError
        if session.is_new and session.is_empty:
            exchange.count_creation(self.visit)
            self.visit.session = await sessions.create()
            return
        try:
            await self._settle(session, sessions)
            exchange.admit(self.visit, session)
            await sessions.save(session)
        except SessionRevoked as error:
            raise UpdateError(str(error)) from error

    async def _create(self, exchange: Exchange) -> None:
        attributes = dict(self.visit.session or {})
        self._clears = False
        self.visit.session = _in_place_of(self.visit.session, exchange.sessions)
        self.visit.session.update(attributes)
        await self._save(exchange, must_create=True)
        self.modified = True

    async def _delete(self, exchange: Exchange, session_key: str | None) -> None:
        session = await (self._load(exchange) if session_key is None else exchange.sessions.load(session_key))
        if session is not None and not session.is_new:
            await exchange.sessions.revoke(session)

    async def _flush(self, exchange: Exchange) -> None:
        await self._delete(exchange, None)
        self.visit.session = _in_place_of(self.visit.session, exchange.sessions)
        self._is_flushed = True
        self._signs_in = False
        self.accessed = self.modified = True


def _in_place_of(former: Session | None, sessions: Operations) -> Session:
    """Make a new session on the same class of device: Django's login() empties another user's session before it."""
    session = sessions.new()
    session.device = None if former is None else former.device
    return session
