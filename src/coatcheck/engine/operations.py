"""What can be done with sessions. The public classes over it are AsyncSessions and Sessions.

Every operation is one round trip unless its docstring says otherwise. Decisions that others could
interfere with are taken by a script in the store (engine/lua), never by looking first and acting then.
"""

import logging
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final

from coatcheck.engine.clock import Clock
from coatcheck.engine.resealing import Resealed
from coatcheck.engine.server import Server
from coatcheck.engine.signin import SignIn, check_subject, subject_of
from coatcheck.engine.store import ALL_PARTITIONS, Store
from coatcheck.engine.transport import Transport
from coatcheck.engine.writer import Writer
from coatcheck.model import csrf
from coatcheck.model.activity import Activity
from coatcheck.model.codec import decode
from coatcheck.model.errors import (
    AuthenticationRequired,
    RecordCorrupted,
)
from coatcheck.model.events import Cause, Event, EventType
from coatcheck.model.keyring import Keyring
from coatcheck.model.policy import LONGEST, SessionPolicy, milliseconds
from coatcheck.model.session import Session, SessionInfo, instant
from coatcheck.model.ticket import Handle, Ticket

log = logging.getLogger("coatcheck")

_PAGE: Final = 200
_BATCH: Final = 1000


class Anyone(Enum):
    """Stands for whoever a session belongs to."""

    ANYONE = "anyone"


ANYONE: Final = Anyone.ANYONE


class Operations:
    """The sessions of one application: one prefix, one policy, one keyring, one transport."""

    def __init__(
        self,
        transport: Transport,
        *,
        keyring: Keyring,
        policy: SessionPolicy | None = None,
        prefix: str = "cc",
        clock: Clock | None = None,
    ) -> None:
        """Work over *transport*. clock: for tests, which move it."""
        self.policy = policy or SessionPolicy()
        self._store = Store(transport, keyring, prefix, clock or Clock(), self.policy)
        self._writer = Writer(self._store, self.policy)
        self._sign_in = SignIn(self._store, self._writer, self.policy)

    # One session

    def new(self) -> Session:
        """Begin a session. Nothing is stored until it is saved with something in it."""
        return Session(self.policy)

    async def create(self, attributes: Mapping[str, Any] | None = None) -> Session:
        """Store a new session with *attributes*, even if there are none, and return it.

        It is bound at once where they hold the policy's subject_attribute. Raises SessionLimitReached then.
        """
        session = self.new()
        session.update(attributes or {})
        wanted = self.wanted_subject(session)
        if wanted is None:
            await self._writer.create(session)
        else:
            await self.bind(session, wanted)
        return session

    async def load(self, identifier: str | Ticket) -> Session | None:
        """Load the session that *identifier* (a cookie's value) opens; None if there is none.

        None for a malformed identifier (without asking the store), one that never was, that has ended or
        whose secret is not the right one. A former secret, used after its grace, ends the session: either its
        owner or whoever uses the new one has stolen it. Raises StoreUnavailable and RecordCorrupted: neither means that
        the session has ended.
        """
        ticket = Ticket.parse(identifier) if isinstance(identifier, str) else identifier
        session = None if ticket is None else await self._read(ticket.handle, ticket)
        if ticket is None or session is None or session.header is None:
            return None
        header, digest = session.header, ticket.digest
        if secrets.compare_digest(digest, header.digest):
            return session
        former, honoured_until = header.former_digest, session.payload.honoured_until(digest)
        if former is not None and secrets.compare_digest(digest, former):
            honoured_until = header.former_until
        if honoured_until is None:
            return None
        if await self._store.now() < honoured_until:
            return session
        log.warning("session_secret_replayed", extra={"handle": str(ticket.handle)})
        await self._writer.end(ticket.handle, session.subject, event=EventType.REPLAYED)
        return None

    async def find(self, handle: Handle | str) -> Session | None:
        """Find a session by its public handle, for administration; None if there is none.

        It can be read, changed, saved and revoked; its identifier stays unknown.
        """
        known = _handle(handle)
        return None if known is None else await self._read(known, known)

    async def save(self, session: Session) -> None:
        """Carry what was done to *session* to the store; do nothing if nothing was.

        A session that was asked to end is revoked, and so is one left with no attributes and no subject.
        One whose policy's subject_attribute changed is bound or unbound. One that did not change is
        touched, where that is due. Changes of other requests are merged in: see `Session.strict`.

        Raises SessionRevoked when the session has ended meanwhile (nothing is written, nothing revived),
        SessionConflict, SessionLimitReached, StoreUnavailable.
        """
        if session.ended:
            await self.revoke(session)
            return
        wanted = self.wanted_subject(session)
        if wanted != session.payload.subject:
            if wanted is None:
                await self.unbind(session)
            else:
                await self.bind(session, wanted)
        elif session.header is None:
            if not session.is_empty:
                await self._writer.create(session)
        elif session.record_changed:
            if any(session.has_changed(name) for name in self.policy.rotating):
                session.rotate()
            await self._writer.update(session)
        else:
            await self._writer.keep(session)

    async def touch(self, session: Session) -> bool:
        """Extend the idle deadline of *session*; return whether it is still there.

        Sends nothing, and returns True, when this process did so less than a tenth of the idle timeout ago.
        """
        return await self._writer.touch(session)

    def is_rotation_due(self, session: Session) -> bool:
        """Say whether the policy's rotate_every has passed since the session last got a secret. Sends nothing."""
        every, header = self.policy.rotate_every, session.header
        if every is None or header is None or session.is_superseded or not self._store.clock.is_known:
            return False
        return self._store.clock.now() - max(header.created_at, session.payload.rotated_at) >= milliseconds(every)

    async def rotate(self, session: Session) -> None:
        """Give *session* a new secret, and save it; the former one is honoured for the policy's grace.

        When another request rotated it first, that rotation stands and this one gives out no identifier.
        Raises what `save` raises.
        """
        session.rotate()
        await self.save(session)

    async def revoke(
        self,
        session: Session | Handle | str,
        *,
        subject: str | Anyone | None = ANYONE,
        by: str = "",
        why: str = "",
    ) -> bool:
        """End a session at once; return whether there was one to end.

        Given by its handle it takes two round trips, or one where *subject* is given: then it is ended only if it
        is that subject's, which makes it safe to pass on a handle that a user has sent. Nobody (None, "") has no
        sessions, so that ends none. by, why: for the event, one line each.
        """
        cause = Cause(by, why)
        if isinstance(session, Session):
            if subject not in {ANYONE, session.subject}:
                raise ValueError("the session is another subject's")
            session.ended = True
            handle = None if session.is_new else session.handle
            former = None if handle is None else await self._writer.end(handle, session.subject, cause=cause)
            session.now_ended()
            return former is not None
        handle = _handle(session)
        if handle is None or not subject:
            return False
        if subject is ANYONE:
            return await self._writer.end(handle, await self._owner(handle), cause=cause) is not None
        return await self._writer.end(handle, check_subject(subject), only_if_listed=True, cause=cause) is not None

    async def sweep(self) -> int:
        """Settle the expiry indexes of all partitions; return how many sessions were found to have ended.

        Run it every few minutes from anywhere, in parallel if need be. One round trip, more when much is due.
        """
        ended, partitions = 0, list(ALL_PARTITIONS)
        while partitions:
            settled = await self._store.sweep(partitions, _PAGE)
            ended += sum(count for _, count in settled)
            partitions = [partition for partition, (seen, _) in zip(partitions, settled, strict=True) if seen == _PAGE]
        return ended

    async def reseal(self, *, batch: int = 500) -> Resealed:
        """Seal with the first key of the ring every record that another key has sealed; return what was found.

        For after a new key was moved to the front everywhere. It goes through all keys of the database (SCAN), *batch*
        at a time, in a few round trips each, and may be run at any time, while sessions are used: it never undoes a
        write and moves no deadline. Where the ring has one key, it only says what cannot be opened. What a subject's
        sessions are listed under is not moved: `revoke_all` and `list_for` need the former key until they have ended.
        """
        return await self._store.reseal(batch)

    async def server(self) -> Server:
        """Say what the server is. It is asked each time: after a failover it may be another."""
        return await self._store.server()

    def remaining(self, session: Session) -> int:
        """Give how many whole seconds are left until the absolute deadline of a stored session."""
        if session.header is None:
            return 0
        clock = self._store.clock
        now = clock.now() if clock.is_known else session.header.seen_at
        return max(0, session.header.absolute_deadline - now) // 1000

    async def time_left(self, sessions: Iterable[Session]) -> list[timedelta]:
        """Ask how long each of *sessions* will live if nobody uses it; zero for one that has ended.

        To ask is not to use: no deadline moves.
        """
        asked = [
            (session.handle, session.header.created_at) if session.handle and session.header else None
            for session in sessions
        ]
        left = iter(await self._store.time_left(stored for stored in asked if stored))
        return [timedelta(milliseconds=max(0, next(left))) if stored else timedelta(0) for stored in asked]

    def is_fresh(self, session: Session, within: timedelta, assurance: int = 1) -> bool:
        """Say whether the session's subject has proved who it is *within* that time, at least that strongly.

        By the server's clock; False for an anonymous session and for one that has ended. Sends nothing.
        """
        clock, signed_in_at = self._store.clock, session.payload.signed_in_at
        if session.header is None or session.subject is None or not signed_in_at or not clock.is_known:
            return False
        return session.assurance >= assurance and clock.now() - signed_in_at <= milliseconds(within)

    def require_fresh(self, session: Session, within: timedelta, assurance: int = 1) -> None:
        """Raise AuthenticationRequired unless `is_fresh`: ask the user to authenticate, then `bind` anew."""
        if not self.is_fresh(session, within, assurance):
            raise AuthenticationRequired(within, assurance)

    def wanted_subject(self, session: Session) -> str | None:
        """Say whose session it is to be: what the policy's subject_attribute holds; None for nobody.

        A bound session stays its subject's unless this request has set or removed that attribute: a service that
        names another attribute, and shares the session, must not sign people out by reading it.
        """
        attribute, subject = self.policy.subject_attribute, session.payload.subject
        if attribute is None or (subject is not None and not session.has_set(attribute)):
            return subject
        return subject_of(session.peek(attribute))

    # Cross-site request forgery

    def csrf_token(self, session: Session) -> str:
        """Give a token for the forms and scripts of a page of *session*: another one each time, all of them good.

        Sends nothing. A session that is still new, or left with nothing, is stored for it when it is saved. The token
        is of the secret that the session has after this request, a sign-in included that was asked for before.
        "" for a session that was asked to end.
        """
        if session.ended:
            return ""
        moves = session.is_new or self.wanted_subject(session) != session.subject
        return csrf.make_token(self._store.keys[0], session.token_digest(moves=moves))

    def is_csrf_token(self, session: Session, token: str, *, is_own: bool = False) -> bool:
        """Say whether *token* was made for *session*, under any key of the ring. Sends nothing.

        One made before a rotation is good until the grace of the former secret is over; and where the browser vouches
        that the request comes from the site's own pages (is_own), after up to 16 rotations: a form may stay open for
        long. A sign-in ends all tokens from before it.
        """
        header, clock = session.header, self._store.clock
        if header is None:
            return False
        digests = [header.digest]
        if header.former_digest is not None and clock.is_known and clock.now() < header.former_until:
            digests.append(header.former_digest)
        if is_own:
            digests += session.payload.former_digests
        return csrf.is_token_of(token, self._store.keys, digests)

    # Subjects

    async def bind(self, session: Session, subject: str, *, assurance: int = 1) -> None:
        """Sign *subject* in: the session continues under a new handle as that subject's, with new deadlines.

        assurance: how strongly the subject has proved who it is (NIST SP 800-63B: 1, 2 or 3). To bind the subject
        that the session has already is to authenticate it again: `Session.auth_time` is now.

        One script stores it, lists it and keeps the policy's limit. The former record ends: an anonymous one
        right after, in a second round trip (should that fail, it is left to expire); one of the same subject in
        the same step; another subject's before, and of that one nothing goes along but what this request has set.
        What other requests wrote meanwhile to a session that goes on is brought along. Of an anonymous session only
        the policy's `carried` attributes cross.

        Raises SessionRevoked when the session was a subject's and has ended meanwhile (an anonymous one that
        is gone is no obstacle to a sign-in), SessionLimitReached, StoreUnavailable.
        """
        await self._sign_in.carry_out(session, subject, assurance)

    async def unbind(self, session: Session) -> None:
        """Sign the subject out: the bound session ends, the attributes that are left go on as an anonymous one.

        If none are left, nothing goes on. Two round trips; should the store be lost between them, what was left is
        lost, and the subject is signed out. Raises SessionRevoked when the session has ended meanwhile,
        StoreUnavailable.
        """
        attribute = self.policy.subject_attribute
        if attribute is not None:
            session.pop(attribute, None)
        if session.subject is None:
            return
        await self._writer.take(session, Cause(why="signed out"), keep=True)
        session.parts.forget()
        session.recorded.forget()
        if session.is_empty:
            session.now_ended()
        else:
            await self._writer.create(session)

    async def revoke_all(self, subject: str, *, keep: Handle | str | None = None, by: str = "", why: str = "") -> int:
        """End every session of *subject* except *keep*; return how many ended. by, why: for the events.

        Up to 1,000 end in one step; more take further round trips, which also end what was bound meanwhile.
        Raises StoreUnavailable when the store did not confirm.
        """
        kept = None if keep is None else _handle(keep)
        if keep is not None and kept is None:
            raise ValueError("keep is not a session handle")
        ended, cause = 0, Cause(by, why)
        for place in self._store.places(check_subject(subject)):
            left = 1
            while left:
                count, left = await self._store.remove_all(place, kept, _BATCH, cause)
                ended += count
        log.info("sessions_revoked", extra={"count": ended, "kept": str(kept) if kept else None})
        return ended

    async def revoke_everyone(self, *, by: str = "", why: str = "") -> None:
        """End every session of this prefix that was created up to now; one round trip, however many there are.

        Each partition keeps the moment as its epoch, which every load and save respects; the records go as they
        expire or are swept. Raises StoreUnavailable when the store did not confirm: then some partitions may have
        done it, and to call it again is safe.
        """
        await self._store.remove_everyone(milliseconds(LONGEST), Cause(by, why))
        log.warning("sessions_of_everyone_revoked", extra={"by": by, "why": why})

    async def list_for(self, subject: str) -> list[SessionInfo]:
        """List the live sessions of *subject*, those seen last first. One round trip for each 200 of them."""
        found: list[SessionInfo] = []
        for place in self._store.places(check_subject(subject)):
            start, looked_at = 0, _PAGE
            while looked_at == _PAGE:
                looked_at, live = await self._store.page(place, start, _PAGE)
                start += looked_at
                now = await self._store.now()
                found += [
                    info for handle, record, ttl in live if (info := self._describe(handle, record, now + ttl, now))
                ]
        return sorted(found, key=lambda info: info.last_seen, reverse=True)

    async def activity(
        self,
        session: Session | Handle | str,
        *,
        newest_first: bool = True,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> list[Activity]:
        """List what was done in a session, at most *limit* entries between two instants (both included).

        It holds what was recorded since the session got its handle, the policy's activity_kept entries at most.
        Empty where there is no such session any more. Entries that cannot be opened are left out, and logged.
        """
        handle = session.handle if isinstance(session, Session) else _handle(session)
        if limit < 1:
            raise ValueError("limit must be at least 1")
        first, last = (None if at is None else _milliseconds_of(at) for at in (since, until))
        if handle is None:
            return []
        return await self._store.activity(handle, first, last, limit, newest_first=newest_first)

    # Events

    def subject_digests(self, subject: str) -> frozenset[str]:
        """Give what stands for *subject* in events: one digest for each key of the ring. Sends nothing."""
        return frozenset(place.digest for place in self._store.places(subject))

    async def read_events(
        self, group: str, consumer: str, *, at_most: int = 100, claim_after: timedelta = timedelta(minutes=1)
    ) -> list[Event]:
        """Take lifecycle events for *consumer*, one of *group*: each event goes to one consumer of every group.

        First those that another consumer took longer than *claim_after* ago and did not acknowledge (each event at
        least once), then new ones, at most *at_most* of each partition. A group that is new starts with the oldest
        event kept: 10,000 of each partition, for 7 days after its last one. New events of one session come in order.
        """
        return await self._store.read_events(group, consumer, at_most, milliseconds(claim_after))

    async def acknowledge_events(self, group: str, events: Iterable[Event]) -> int:
        """Say that *group* is done with *events*; return how many it had not yet acknowledged."""
        return await self._store.acknowledge_events(group, events)

    # How it is done

    async def _read(self, handle: Handle, ticket: Ticket | Handle) -> Session | None:
        opened, parts = await self._store.read_whole(handle)
        if opened is None:
            return None
        header, payload = opened
        now = await self._store.now()
        if header.absolute_deadline <= now:
            return None
        seen_at = self._writer.last_use(handle, now)
        return Session(self.policy, ticket=ticket, header=header, payload=payload, seen_at=seen_at, parts=parts)

    async def _owner(self, handle: Handle) -> str | None:
        """Read whose session *handle* is; None too where the record does not open, so that it can be ended."""
        try:
            opened = await self._store.read(handle)
        except RecordCorrupted:
            return None
        return None if opened is None else opened[1].subject

    def _describe(self, handle: Handle, record: bytes, ends_at: int, now: int) -> SessionInfo | None:
        try:
            header, payload = self._store.open(handle, record)
            shown = {
                name: decode(payload.attributes[name]) for name in self.policy.listed if name in payload.attributes
            }
        except RecordCorrupted:
            log.exception("session_record_corrupted", extra={"handle": str(handle)})
            return None
        if header.absolute_deadline <= now:
            return None
        return SessionInfo(
            handle=handle,
            created_at=instant(header.created_at),
            last_seen=instant(max(header.seen_at, min(ends_at - header.idle_timeout, now))),
            idle_deadline=instant(ends_at),
            absolute_deadline=instant(header.absolute_deadline),
            metadata=shown,
        )


def _handle(handle: Handle | str) -> Handle | None:
    """Read a handle that may come from outside; None if it is none."""
    if isinstance(handle, Handle):
        return handle
    try:
        return Handle.parse(handle)
    except ValueError:
        return None


def _milliseconds_of(instant: datetime) -> int:
    """Give an instant as ms since the epoch. Raises ValueError for one that does not say its offset from UTC."""
    if instant.tzinfo is None:
        raise ValueError("an instant needs its offset from UTC: datetime.now(UTC)")
    return max(0, (instant - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1))
