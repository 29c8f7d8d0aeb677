"""One request's dealings with its session, for every framework: begin, load, finish.

    visit = exchange.begin(cookie_header, https=..., host=...)     nothing is sent
    session = await exchange.load(visit)                           one round trip, none without a good cookie
    ...the application handles the request...
    outcome = exchange.settled(visit)                              headers to set, where there is nothing to save
    outcome = outcome or await exchange.finish(visit)              none or one round trip

An adapter only carries these to and from its framework. It loads as late as the framework allows.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Final

from msgspec import Struct

from coatcheck.engine.deadline import OneDeadline
from coatcheck.engine.operations import Operations
from coatcheck.model.cookie import CookiePolicy, merge_cache_control, merge_vary
from coatcheck.model.errors import (
    AuthenticationRequired,
    CsrfRefused,
    DurabilityNotReached,
    RevocationPending,
    SessionConflict,
    SessionError,
    SessionLimitReached,
    SessionRevoked,
    SourceLimited,
    StoreError,
    StoreUnavailable,
)
from coatcheck.model.session import Session
from coatcheck.model.ticket import Ticket

log = logging.getLogger("coatcheck")

_PLAIN: Final = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))


class Visit(Struct, eq=False):
    """One request: the ticket it brought, if it brought exactly one; its session, once loaded; whether that is over.

    origin: User-Agent header and address of the client; None for what is no request, and where the policy does not look
    at them. has_ended: whether the session of the ticket was ended here, for its client has changed. may_be_anonymous:
    whether it may be served without its session; is_blind: whether it is, for the store cannot be reached.
    """

    ticket: Ticket | None
    secure: bool
    https: bool = True
    session: Session | None = None
    is_over: bool = False
    origin: tuple[str | None, str | None] | None = None
    has_ended: bool = False
    may_be_anonymous: bool = False
    is_blind: bool = False

    def __repr__(self) -> str:
        """Show what may be logged: not where it comes from."""
        return f"Visit(ticket={self.ticket!r}, session={self.session!r}, is_over={self.is_over})"

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to save: told at once, before `finish_late`."""
        return self.session is None or self.is_over or self.session.is_surely_clean


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the response must say: a Set-Cookie header or none, and whether it depends on the session."""

    set_cookie: str | None = field(default=None, repr=False)
    is_private: bool = False

    def headers(self, vary: str | None, cache_control: str | None) -> Iterator[tuple[str, str]]:
        """Give the headers to set, from those that the response has under these names; Set-Cookie is to be added."""
        if self.is_private:
            yield "Vary", merge_vary(vary)
            yield "Cache-Control", merge_cache_control(cache_control, sets_cookie=self.set_cookie is not None)
        if self.set_cookie is not None:
            yield "Set-Cookie", self.set_cookie


PRIVATE: Final = tuple(Outcome(is_private=True).headers(None, None))
"""The headers of a response that depends on the session and sets no cookie, where it has none of them yet."""

MERGED: Final = frozenset(name.lower() for name, _ in PRIVATE)
"""Their names, in lower case: where a response has one of them, `Outcome.headers` says what becomes of it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The response to a request whose session could not be served: plain text, never a logout."""

    status: int
    text: str
    headers: tuple[tuple[str, str], ...] = _PLAIN


_UNTOUCHED: Final = Outcome()
_READ: Final = Outcome(is_private=True)


class Exchange:
    """The session side of an application's requests: its sessions and its cookie.

    looks_further: whether `begin` looks at more of a request than its cookies, whether it came by https, and its host.
    """

    __slots__ = ("_asks_for_origin", "cookie", "looks_further", "sessions")

    def __init__(self, sessions: Operations, cookie: CookiePolicy) -> None:
        """Serve *sessions* through *cookie*."""
        self.sessions = sessions
        self.cookie = cookie
        self._asks_for_origin = sessions.policy.client is not None or sessions.policy.sources is not None
        self.looks_further = self._asks_for_origin or sessions.policy.outage is not None

    def begin(
        self,
        cookies: str | None,
        *,
        https: bool,
        host: str,
        address: str | None = None,
        user_agent: str | None = None,
        method: str | None = None,
        path: str | None = None,
    ) -> Visit:
        """Look at a request's Cookie header (several joined by "; "). Sends nothing.

        address: of the client, as the framework has it; user_agent: its header. Both as they came, None for missing.
        method, path: of the request; None where it is none of HTTP.
        A malformed identifier counts as none. So do several: one of them may be an attacker's.
        """
        secure = self.cookie.is_secure(https=https, host=host)
        values = self.cookie.read(cookies, secure=secure) if cookies else ()
        if len(values) > 1:
            log.warning("session_cookie_duplicated", extra={"count": len(values)})
        ticket = Ticket.parse(values[0]) if len(values) == 1 else None
        visit = Visit(ticket, secure, https)
        if self.looks_further:
            outage = self.sessions.policy.outage
            if self._asks_for_origin:
                visit.origin = (user_agent, address)
            if outage is not None:
                visit.may_be_anonymous = outage.may_be_anonymous(method, path)
        return visit

    async def load(self, visit: Visit) -> Session:
        """Give the request's session, a new one where there is none. Raises StoreError, which is no logout.

        And SourceLimited, which is none either, before the store is asked where the policy's `sources` says so.
        In an outage an empty one, where the policy lets the page be served without.
        """
        if visit.session is not None:
            return visit.session
        try:
            if visit.origin is not None:
                with OneDeadline():
                    found = await self._find(visit, *visit.origin)
            else:
                found = None if visit.ticket is None else await self.sessions.load(visit.ticket)
            if found is None:
                found = self.sessions.new()
                if visit.origin is not None:
                    await self._recognise(found, *visit.origin)
        except StoreUnavailable as error:
            if not visit.may_be_anonymous:
                raise
            log.warning("session_left_out: %s", error)
            visit.session, visit.is_over, visit.is_blind = self.sessions.new(), True, True
            return visit.session
        if visit.session is None:  # nor has another task of this request loaded it meanwhile
            visit.session = found
        return visit.session

    async def check_csrf(self, visit: Visit, token: str | None, *, is_own: bool) -> None:
        """Raise CsrfRefused unless *token* was made for the session of *visit*. is_own: see `CsrfPolicy.is_own`."""
        session = await self.load(visit)
        if not token:
            raise CsrfRefused("the request carries no CSRF token; reload the page and send it again")
        if not self.sessions.is_csrf_token(session, token, is_own=is_own):
            raise CsrfRefused("the page is out of date or of another session; reload it and send the request again")

    def settled(self, visit: Visit) -> Outcome | None:
        """Give at once what `finish` would give, where it would do nothing; None where it takes a `finish`."""
        session = visit.session
        if session is None:
            return _UNTOUCHED
        if visit.is_blind:
            return _READ
        if not self.sessions.is_settled(session):
            return None
        if not session.accessed:
            return _UNTOUCHED
        return None if self.sessions.is_rotation_due(session) else _READ

    async def finish(self, visit: Visit) -> Outcome:
        """Save what the request did; say what the response must carry. To be asked where `settled` cannot say it.

        A session that ended meanwhile stays ended, whatever this request did to it, and the response leaves
        the browser's cookie alone: it may already be a newer one. Raises SessionConflict, SessionLimitReached,
        SourceLimited, StoreError (never for a mere touch).
        """
        session = visit.session
        if session is None or visit.is_blind:
            return _UNTOUCHED if session is None else _READ
        is_asked_to_rotate = session.rotation_wanted
        if visit.origin is not None and session.header is None:
            await self._recognise(session, *visit.origin)  # one that the application has begun is this client's too
            self.admit(visit, session)
        if session.accessed and self.sessions.is_rotation_due(session):  # else the response may be anybody's
            session.want_rotation()
        try:
            await self.sessions.saving(session)
        except SessionRevoked:
            log.info("session_revoked_during_request", extra={"handle": str(session.handle)})
            visit.is_over = True
            return _without_cookie(session)
        except StoreError as error:
            if self._is_lost(session, error, must_rotate=is_asked_to_rotate):
                return self._without_save(visit, session, error)
        visit.is_over = session.ended
        cookie = self._cookie_for(visit, session)
        return _without_cookie(session) if cookie is None else Outcome(cookie, is_private=True)

    def admit(self, visit: Visit, session: Session) -> None:
        """Count *session* if a save will create it, as nobody's. Raises SourceLimited."""
        if self.sessions.sources is None or session.header is not None or session.ended or session.is_empty:
            return
        if self.sessions.wanted_subject(session) is None:
            self.count_creation(visit)

    def count_creation(self, visit: Visit) -> None:
        """Count that *visit* is about to create a session of nobody. Raises SourceLimited."""
        if self.sessions.sources is not None and visit.origin is not None:
            self.sessions.sources.count_creation(visit.origin[1])

    async def finish_late(self, visit: Visit) -> None:
        """Save what was done after `finish`, when the response was on its way: no cookie can be set any more.

        So what would need a new identifier (a new session, a sign-in, a rotation) is not saved; a sign-out
        ends the session. Never raises for the store: there is nobody left to tell.
        """
        session = visit.session
        if session is None or visit.is_done:
            return
        wanted = self.sessions.wanted_subject(session)
        if session.subject is not None and wanted is None:
            session.revoke()
        elif (
            wanted != session.subject
            or session.rotation_wanted
            or session.link_wanted
            or (session.is_new and not session.is_empty)
        ):
            log.warning("session_unsent", extra={"handle": str(session.handle) if session.handle else None})
            return
        try:
            await self.sessions.save(session)
        except SessionRevoked:
            log.info("session_revoked_during_request", extra={"handle": str(session.handle)})
        except SessionError as error:
            if isinstance(error, StoreError) and not self._is_lost(session, error, must_rotate=False):
                return
            log.error("session_save_failed: %s", error, extra={"handle": str(session.handle)})  # noqa: TRY400

    def failure(self, error: SessionError) -> Failure:
        """Say how to answer a request that met *error*, unless the application has its own way."""
        match error:
            case StoreError():
                log.error("session_store_failed: %s", error)
                return _store_failure(error)
            case SessionLimitReached():
                return Failure(403, "You are signed in on as many devices as you may be.\n")
            case SourceLimited():
                wait = str(error.retry_after // timedelta(seconds=1))
                text = (
                    "Too many requests come from your network. You have not been signed out; "
                    f"try again in {wait} seconds.\n"
                )
                return Failure(429, text, (*_PLAIN, ("Retry-After", wait)))
            case CsrfRefused():
                log.warning("csrf_refused", extra={"error": str(error)})
                return Failure(403, f"Refused, and nothing was done: {error}.\n")
            case AuthenticationRequired():
                text = "Please authenticate again: this needs a recent or a stronger sign-in.\n"
                return Failure(401, text, (*_PLAIN, ("WWW-Authenticate", error.challenge)))
            case SessionConflict():
                return Failure(409, "Another request changed the same thing meanwhile; please try again.\n")
            case _:
                raise error

    async def _find(self, visit: Visit, user_agent: str | None, address: str | None) -> Session | None:
        """Load the session of the ticket, as far as its source and its client let that be."""
        ticket, sources = visit.ticket, self.sessions.sources
        if ticket is None:
            return None
        if sources is not None:
            sources.check_lookup(address, ticket)
        session = await self.sessions.load(ticket)
        if session is None:
            if sources is not None:
                sources.count_unknown(address, ticket)
            return None
        if await self._recognise(session, user_agent, address):
            return session
        visit.has_ended = visit.has_ended or session.ended
        return None

    async def _recognise(self, session: Session, user_agent: str | None, address: str | None) -> bool:
        """Have *session* meet the client of the request; say whether it goes on."""
        return await self.sessions.recognise(session, user_agent=user_agent, address=address)

    def _is_nobodys_first(self, session: Session) -> bool:
        """Say whether a save was to store a first record, and of nobody."""
        return session.header is None and not session.ended and self.sessions.wanted_subject(session) is None

    @staticmethod
    def _is_lost(session: Session, error: StoreError, *, must_rotate: bool) -> bool:
        """Say whether a save that failed was to do more than to change the idle deadline or the secret."""
        if must_rotate or session.cookie_due or session.has_unsaved:
            return True
        log.warning("session_touch_failed: %s", error, extra={"handle": str(session.handle)})
        return False

    def _without_save(self, visit: Visit, session: Session, error: StoreError) -> Outcome:
        """Say what the response must carry where the save failed. Raises *error*, unless the page may be anybody's."""
        if isinstance(error, DurabilityNotReached):  # the browser needs the new secret: the former is worth little now
            error.set_cookie = None if session.header is None else self._cookie_for(visit, session)
        elif isinstance(error, StoreUnavailable):
            if visit.may_be_anonymous and self._is_nobodys_first(session):
                log.warning("session_left_out: %s", error)
                visit.is_over = True
                return Outcome(is_private=True)
            if isinstance(error, RevocationPending):  # the browser at least can forget what it asked to end
                visit.is_over = True
                error.set_cookie = self._cookie_for(visit, session)
        raise error

    def _cookie_for(self, visit: Visit, session: Session) -> str | None:
        if session.ended:
            return None if visit.ticket is None else self.cookie.remove(secure=visit.secure)
        if not session.cookie_due or session.identifier is None or session.is_superseded:
            return self.cookie.remove(secure=visit.secure) if visit.has_ended and session.header is None else None
        session.cookie_due = False
        if visit.secure and not visit.https:
            say_once_that_https_is_needed()
        max_age = self.sessions.remaining(session) if session.persistent else None
        return self.cookie.set(session.identifier, secure=visit.secure, max_age=max_age)


def _without_cookie(session: Session) -> Outcome:
    return _READ if session.accessed else _UNTOUCHED


def _store_failure(error: StoreError) -> Failure:
    headers: tuple[tuple[str, str], ...] = (*_PLAIN, ("Retry-After", "1"))
    if not isinstance(error, DurabilityNotReached | RevocationPending):
        text = "The session store cannot be reached. You have not been signed out; please try again.\n"
        return Failure(503, text, headers)
    if error.set_cookie is not None:
        headers += (("Set-Cookie", error.set_cookie),)
    text = "What you did is stored, but not yet safely. Please try again in a moment.\n"
    if isinstance(error, RevocationPending):
        text = "The session store cannot be reached. What you asked to end will end as soon as it can be.\n"
    return Failure(503, text, headers)


@cache
def say_once_that_https_is_needed() -> None:
    """Log, once a process, why a browser will not return the cookie."""
    log.warning(
        "session_cookie_needs_https: a Secure cookie was set on a request that came by http; browsers return it over "
        "https only. Behind a proxy that ends TLS, pass its X-Forwarded-Proto on; for development on "
        "http://localhost, switch the framework's debug mode on; see docs/settings.md"
    )
