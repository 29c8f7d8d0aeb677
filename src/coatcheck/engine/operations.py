"""What can be done with sessions. The public classes over it are AsyncSessions and Sessions.

Every operation is one round trip unless its docstring says otherwise, and has one deadline however many it takes,
unless its docstring says that it goes in steps: then each step has. Decisions that others could interfere with are
taken by a script in the store (engine/lua), never by looking first and acting then.
"""

import logging
import re
import secrets
from collections.abc import Awaitable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from time import monotonic
from typing import Any, Final

from coatcheck.engine.checkup import Checkup, Severity, judge
from coatcheck.engine.clock import Clock
from coatcheck.engine.deadline import OneDeadline
from coatcheck.engine.dictionaries import DictionaryInfo, Dropped
from coatcheck.engine.durability import Receipt
from coatcheck.engine.endings import Ending, Endings, Journal
from coatcheck.engine.issued import IssuerLinks
from coatcheck.engine.near import Expected, Near
from coatcheck.engine.recognition import Recognition
from coatcheck.engine.resealing import Resealed
from coatcheck.engine.server import Server
from coatcheck.engine.signin import SignIn, check_subject, subject_of
from coatcheck.engine.sources import Sources
from coatcheck.engine.store import GROUPS, NO_PARTS, Opened, Store
from coatcheck.engine.subjects import Subjects
from coatcheck.engine.transport import Transport
from coatcheck.engine.writer import Writer, rests_until
from coatcheck.model import csrf
from coatcheck.model.activity import Activity
from coatcheck.model.delta import Operation, concerns
from coatcheck.model.durability import Write
from coatcheck.model.errors import (
    AuthenticationRequired,
    RevocationPending,
    SessionRevoked,
    StoreUnavailable,
)
from coatcheck.model.events import Cause, Event, EventType
from coatcheck.model.issued import IssuerSession
from coatcheck.model.keyring import Keyring
from coatcheck.model.near import NearCounts
from coatcheck.model.policy import LONGEST, SessionPolicy, milliseconds
from coatcheck.model.record import Header
from coatcheck.model.session import Session, SessionInfo
from coatcheck.model.ticket import Handle, Ticket
from coatcheck.model.training import Training

log = logging.getLogger("coatcheck")

# A server does nothing else meanwhile: no script is to keep it for 5 ms (docs/scaling.md has the measurements).
_SWEPT_TOGETHER: Final = 50
_DICTIONARY_ID: Final = re.compile(r"[0-9a-f]{8}", re.ASCII)


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
        journal: Journal | None = None,
    ) -> None:
        """Work over *transport*. clock: for tests, which move it. journal: for ends that are not confirmed."""
        self.policy = policy or SessionPolicy()
        self._store = Store(transport, keyring, prefix, clock or Clock(), self.policy)
        self._writer = Writer(self._store, self.policy)
        self._links = IssuerLinks(self._store, self._writer)
        self._endings = Endings(self._store, journal, self.policy.near_cache)
        self._sign_in = SignIn(self._store, self._writer, self._links, self._endings, self.policy)
        looks = self.policy.client
        limits = self.policy.sources
        self.sources = None if limits is None else Sources(limits, self._store.clock, self._writer.last_use)
        self._recognition = None if looks is None else Recognition(self._store, self._writer, looks)
        self._subjects = Subjects(self._store, self.policy)
        self.leases = self._store.leases
        self.near = self._store.near
        self._reads_plainly = self.leases is None and not self._store.companions.names

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
            with OneDeadline():
                await self._writer.create(session)
        else:
            await self.bind(session, wanted)
        return session

    async def load(self, identifier: str | Ticket, *, fresh: bool = False) -> Session | None:
        """Load the session that *identifier* (a cookie's value) opens; None if there is none.

        None for a malformed identifier (without asking the store), one that never was, that has ended or
        whose secret is not the right one. A former secret, used after its grace, ends the session: either its
        owner or whoever uses the new one has stolen it. Raises StoreUnavailable and RecordCorrupted: neither means that
        the session has ended. Where the policy has a read lease, what this process loaded a moment ago is given again
        while the store cannot be reached: see `Session.is_leased`.

        Where it has a near cache, what this process has read before is given without asking the store, if that is known
        to be up to date but for the policy's staleness: see `Session.is_near`. fresh: ask the store all the same.
        """
        ticket = Ticket.parse(identifier) if isinstance(identifier, str) else identifier
        if ticket is None:
            return None
        if self.near is not None and not fresh:
            session = self._find_near(ticket, self.near)
            if session is not None:
                return session
        began, handle = monotonic(), ticket.handle
        expected = None if self.near is None else self.near.expect(handle)
        try:
            if self._reads_plainly:  # as nearly always, without a coroutine more than it takes: many wait here at once
                (reply,) = await self._store.asking(handle, began)
                opened = None if self._endings.open else self._store.known(handle, reply)
                if opened is None:
                    session = await self._read(handle, ticket, began, expected, reply)
                else:
                    session = self._presented(ticket, opened, NO_PARTS, self._store.clock.now())
                    if expected is not None and session is not None:
                        self._keep_near(expected, opened, NO_PARTS)
            else:
                session = await self._read_or_lease(ticket, began, expected)
        finally:
            if expected is not None and self.near is not None:
                self.near.settle(expected)
        if session is None or session.header is None:
            return None
        digest = ticket.digest
        if secrets.compare_digest(digest, session.header.digest):
            return session
        return await self._admitted_late(session, session.header, ticket, digest, began)

    async def refresh(self, session: Session) -> bool:
        """Read *session* from the store anew, where it may have come from a near cache; say whether it is still there.

        For the beginning of a request that decides on much: before anything is changed in the session (ValueError
        otherwise), and before anything nested is read from it, which would be left as it was. Raises what `load` does.
        """
        if session.is_changed:
            raise ValueError("a session is to be refreshed before anything is changed in it")
        found = await self._read_again(session)
        if found is not None:
            session.now_read(found)
        return found is not None

    async def find(self, handle: Handle | str) -> Session | None:
        """Find a session by its public handle, for administration; None if there is none.

        It can be read, changed, saved and revoked; its identifier stays unknown.
        """
        known = _handle(handle)
        return None if known is None else await self._read(known, known, monotonic())

    async def save(self, session: Session) -> None:
        """Carry what was done to *session* to the store; do nothing if nothing was.

        A session that was asked to end is revoked, and so is one left with no attributes and no subject.
        One whose policy's subject_attribute changed is bound or unbound. One that did not change is
        touched, where that is due. Changes of other requests are merged in: see `Session.strict`.

        Raises SessionRevoked when the session has ended meanwhile (nothing is written, nothing revived),
        SessionConflict, SessionLimitReached, DurabilityNotReached, StoreUnavailable.
        """
        await self.saving(session)

    def saving(self, session: Session) -> Awaitable[object]:
        """Give what does `save`, to be awaited at once: no coroutine more, for many requests wait for it together."""
        if session.ended:
            return self.revoke(session)
        if session.is_leased:
            self._check_lease(session)
            return _nothing()
        if self._endings.open and self._endings.refuse(session):
            raise SessionRevoked(f"session {session.handle} has ended; nothing was written")
        wanted, is_linked = self.wanted_subject(session), session.link_wanted
        if is_linked and wanted is None:
            raise ValueError("issuer_session was set and nobody signed in: bind the session in the same request")
        if is_linked or wanted != session.payload.subject:
            return self.unbind(session) if wanted is None else self.bind(session, wanted)
        if session.header is None:
            return _nothing() if session.is_empty else self._create(session)
        return self._updating(session)

    def is_settled(self, session: Session) -> bool:
        """Say whether `save` would send nothing and change nothing, told at once; False says that it takes a save.

        True for what nearly every request that only reads leaves behind. Sends nothing.
        """
        if not session.is_surely_clean or self._endings.open or not session.rests_until:
            return False
        clock = self._store.clock  # others may have loaded it: Django's views are of two kinds
        if not clock.is_known or clock.now() >= session.rests_until:
            return False
        attribute = self.policy.subject_attribute
        return attribute is None or session.payload.subject is not None or attribute not in session.stored

    async def touch(self, session: Session) -> bool:
        """Extend the idle deadline of *session*; return whether it is still there.

        Sends nothing, and returns True, when this process did so less than a tenth of the idle timeout ago.
        """
        return await self._writer.touch(session)

    async def recognise(self, session: Session, *, user_agent: str | None, address: str | None) -> bool:
        """Compare who uses *session* now with the client it knows, as the policy's `client` asks; say if it goes on.

        For the request that has just loaded it, before anything is done to it; the web adapters do this. user_agent:
        the header, None where it is missing. address: of the client.
        Nothing is sent where nothing has changed, else one script writes the new client and the event, or ends the
        session. False: it has ended, by this (`Status.REVOKED`) or by another request.
        Raises StoreError where a change that calls for a step-up, or for the end, could not be written: the request
        must not go on then. One that is only observed is logged then, and met again by the next request.
        """
        if self._recognition is None or self.policy.client is None:
            return True
        seen = self.policy.client.look(user_agent, address)
        with OneDeadline():
            may_be_old = session.is_near and not session.is_changed and not self._recognition.knows(session, seen)
            if may_be_old and not await self.refresh(session):
                return False
            return await self._recognition.recognise(session, seen)

    def is_rotation_due(self, session: Session) -> bool:
        """Say whether the policy's rotate_every has passed since the session last got a secret. Sends nothing."""
        every, header = self.policy.rotate_every, session.header
        if (
            every is None
            or session.is_leased
            or header is None
            or session.is_superseded
            or not self._store.clock.is_known
        ):
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

        Raises RevocationPending when the store did not confirm it: this process refuses the session from then on, and
        goes on trying to end it.
        """
        cause = Cause(by, why)
        if isinstance(session, Session):
            if subject not in {ANYONE, session.subject}:
                raise ValueError("the session is another subject's")
            with OneDeadline():
                return await self._end_loaded(session, cause)
        handle = _handle(session)
        if handle is None or not subject:
            return False
        self._store.forget(handle)
        owner = None if subject is ANYONE else check_subject(subject)

        async def attempt(receipt: Receipt) -> bytes | None:
            if owner is None:
                subject = await self._store.subject_of(handle)
                return await self._writer.end(handle, subject, cause=cause, receipt=receipt)
            return await self._writer.end(handle, owner, only_if_listed=True, cause=cause, receipt=receipt)

        places = () if owner is None else self._store.places(owner)
        ending = Ending(at=self._endings.now(), cause=cause, handle=handle, places=places)
        with OneDeadline():
            return await self._endings.carry_out(ending, attempt) is not None

    async def sweep(self) -> int:
        """Settle the expiry indexes of all partitions; return how many sessions were found to have ended.

        Run it every few minutes from anywhere, in parallel if need be. It goes in steps of 8 partitions, so that others
        get their turn, and of more when much is due.
        """
        await self._endings.settle()
        ended = 0
        for group in GROUPS:
            left = group
            while left:
                settled = await self._store.sweep(left, _SWEPT_TOGETHER)
                ended += sum(count for _, count in settled)
                left = tuple(which for which, (seen, _) in zip(left, settled, strict=True) if seen == _SWEPT_TOGETHER)
        return ended

    async def reseal(self, *, batch: int = 500) -> Resealed:
        """Seal with the first key of the ring all that another key has sealed; return what was found of records.

        For after a new key was moved to the front everywhere. It goes through all keys of the database (SCAN) in steps,
        a few for each *batch*, and may be run at any time, while sessions are used: it never undoes a write and moves
        no deadline. Where the ring has one key, it only says what cannot be opened. What a subject's sessions are
        listed under is not moved: `revoke_all` and `list_for` need the former key until they have ended.
        """
        return await self._store.reseal(batch)

    async def server(self) -> Server:
        """Say what the server is. It is asked each time: after a failover it may be another."""
        return await self._store.server()

    async def train_dictionary(self, *, samples: int = 10_000, batch: int = 500) -> Training:
        """Train a dictionary on live sessions, and compress with it from now on if records get a tenth shorter.

        At most *samples* sessions, and a megabyte of them, are read in small steps (SCAN, *batch* keys at a time), and
        held against each other for some seconds, in which nothing else is done here. What the dictionary holds occurs
        in sessions of at least 20 users (an anonymous session counts as a user); it is sealed as records are. Every
        process uses it within five minutes. The old one goes on opening what it has compressed.
        Raises NotEnoughSessions (nothing is stored) and StoreUnavailable.
        """
        if samples < 1:
            raise ValueError("samples must be at least 1")
        return await self._store.train_dictionary(samples, batch)

    async def dictionaries(self) -> list[DictionaryInfo]:
        """List the dictionaries, the one that was put to use last first. In steps: one for each."""
        return await self._store.dictionaries()

    async def drop_dictionary(self, name: str, *, batch: int = 500) -> Dropped | None:
        """Compress with this dictionary no more, and delete it if no record needs it; None if there is none so named.

        name: its id, 8 hexadecimal digits. That no record needs it is only sure 15 minutes after it was put out of use:
        then all keys of the database are gone through (SCAN), in steps of *batch*. It need not be dropped: it goes by
        itself soon after the last session that it could be needed for. Raises ValueError for what is no id.
        """
        if not _DICTIONARY_ID.fullmatch(name):
            raise ValueError("the id of a dictionary is 8 hexadecimal digits")
        return await self._store.drop_dictionary(int(name, 16), batch)

    async def check_server(self) -> Checkup:
        """Look at how the servers are set up, and say what is not as sessions need it; the worst first.

        The store's user needs INFO and CONFIG GET for it, which the application's own should not have; what could not
        be looked at is among the findings. In several steps for each primary and sentinel. Raises StoreUnavailable.
        """
        order = list(Severity)
        durability = self.policy.durability
        waits = durability is not None and any(durability.level_of(write).needs_disk for write in Write)
        surveyed = await self._store.transport.survey()
        found = [finding for seen in surveyed for finding in judge(seen, waits_for_disk=waits)]
        return Checkup(sorted(found, key=lambda finding: order.index(finding.severity)), surveyed)

    def pending_revocations(self) -> int:
        """Say how many ends this process has been asked for that the store has not confirmed. Sends nothing.

        They are tried again along with later calls. Where the policy's durability is not strict, this tells of those
        that fell short.
        """
        return len(self._endings.open)

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
        return session.assurance >= max(1, assurance) and clock.now() - signed_in_at <= milliseconds(within)

    def require_fresh(self, session: Session, within: timedelta, assurance: int = 1) -> None:
        """Raise AuthenticationRequired unless `is_fresh`: ask the user to authenticate, then `bind` anew."""
        if not self.is_fresh(session, within, assurance):
            raise AuthenticationRequired(within, assurance)

    async def demand_fresh(self, session: Session, within: timedelta, assurance: int = 1) -> None:
        """Do what `require_fresh` does, by what the store holds: a near cache may not know of a sign-out yet."""
        judged = session
        if session.is_near:
            found = await self._read_again(session)
            if found is None:
                raise AuthenticationRequired(within, assurance)
            if not session.is_changed:
                session.now_read(found)
            judged = found
        self.require_fresh(judged, within, assurance)

    def near_cache(self) -> NearCounts | None:
        """Say what the near cache has done in this process, and how it stands; None without one. Sends nothing."""
        return None if self.near is None else self.near.counts()

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
        moves = session.is_new or session.link_wanted or self.wanted_subject(session) != session.subject
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

        One script stores it, lists it and keeps the policy's limits. The former record ends: an anonymous one
        right after, in a second round trip (should that fail, it is left to expire); one of the same subject in
        the same step; another subject's before, and of that one nothing goes along but what this request has set.
        What other requests wrote meanwhile to a session that goes on is brought along. Of an anonymous session only
        the policy's `carried` attributes cross.

        Where `Session.issuer_session` is set, or was when the same subject signed in before, the new session ends with
        that one at the issuer: see `revoke_issued`. It takes two round trips more.

        Raises SessionRevoked when the session was a subject's and has ended meanwhile (an anonymous one that
        is gone is no obstacle to a sign-in) or the issuer's has, SessionLimitReached, StoreUnavailable.
        """
        with OneDeadline():
            await self._sign_in.carry_out(session, subject, assurance)

    async def unbind(self, session: Session) -> None:
        """Sign the subject out: the bound session ends, the attributes that are left go on as an anonymous one.

        If none are left, nothing goes on. Two round trips; should the store be lost between them, what was left is
        lost, and the subject is signed out. Raises SessionRevoked when the session has ended meanwhile,
        StoreUnavailable.
        """
        attribute, session.issuer_session = self.policy.subject_attribute, None
        if attribute is not None:
            session.pop(attribute, None)
        if session.subject is None:
            return
        with OneDeadline():
            await self._sign_out(session)
            session.parts.forget()
            session.recorded.forget()
            if session.is_empty:
                session.now_ended()
            else:
                await self._writer.create(session)

    async def revoke_all(self, subject: str, *, keep: Handle | str | None = None, by: str = "", why: str = "") -> int:
        """End every session of *subject* except *keep*; return how many ended. by, why: for the events.

        Up to 250 end in one step; more take further steps, which also end what was bound meanwhile.
        Raises RevocationPending when the store did not confirm: this process refuses those sessions from then on, and
        goes on trying to end them; not those that begin later.
        """
        kept = None if keep is None else _handle(keep)
        if keep is not None and kept is None:
            raise ValueError("keep is not a session handle")
        return await self._end_all(check_subject(subject), kept, Cause(by, why))

    async def revoke_issued(self, issued: IssuerSession, *, why: str = "back-channel logout") -> int:
        """End the sessions linked to a session that has ended at an OpenID Connect issuer; return how many ended.

        issued: what a verified logout token names (`coatcheck.oidc`). With an id, the sessions of that id end, and with
        a subject beside it also those of that subject whose ID tokens named no id. With a subject alone, all that the
        issuer had vouched for until issued_at (by default: now). why: for the events; by whom: the issuer.

        A sign-in under way is refused, or its session is among them, if its ID token is at most an hour old.
        In steps: one, and one for each session, each of up to two round trips. Raises StoreUnavailable when the store
        did not confirm: some may have ended then, and to call it again is safe.
        """
        ended = await self._links.end(issued, why)
        await self._endings.outwait()
        return ended

    async def revoke_others(self, session: Session, *, by: str = "", why: str = "") -> int:
        """End every other session of the subject of *session*, and give this one a new secret; return how many ended.

        For after a change of a password or another factor: remembered sessions end as well, and former identifiers
        of this one are worth nothing at once, without a grace; parallel requests of its browser that still carry one
        count as having none. Also saves *session*. Have the change of the factor committed before, so that nobody signs
        in by the former one after it. by, why: for the events of the others.

        The others end first, in steps as with `revoke_all`. Should the store be lost before the last step, they have
        ended, and this browser is still signed in, under its former identifier: call it again. The other way round it
        would be the browser that is signed out, and the others that live on.

        Raises ValueError for a session that is not signed in and stored, or was found by its handle; SessionRevoked
        where it has ended meanwhile (the others have ended then); and what `save` raises.
        """
        handle, subject = session.handle, session.payload.subject
        if handle is None or session.is_new or subject is None:
            raise ValueError("revoke_others is for a session that is signed in and stored: bind or save it first")
        if session.identifier is None:
            raise ValueError(
                "revoke_others renews the secret of the session that asks, and nobody would get it for one that was "
                "found by its handle: use revoke_all(subject, keep=handle)"
            )
        ended = await self._end_all(subject, handle, Cause(by, why))
        session.want_renewal()
        await self.save(session)
        await self._endings.outwait()
        return ended

    async def revoke_everyone(self, *, by: str = "", why: str = "") -> None:
        """End every session of this prefix that was created up to now; one long step, however many there are.

        Each partition keeps the moment as its epoch, which every load and save respects; the records go as they
        expire or are swept. Raises RevocationPending when the store did not confirm: then some partitions may have
        done it; this process refuses those sessions from then on, and goes on trying. To call it again is safe.
        """
        ending = Ending(at=self._endings.now(), cause=Cause(by, why))
        await self._endings.carry_out(
            ending, lambda receipt: self._store.remove_everyone(milliseconds(LONGEST), ending.cause, receipt)
        )
        log.warning("sessions_of_everyone_revoked", extra={"by": by, "why": why})

    async def erase(self, subject: str) -> int:
        """End every session of *subject* and remove all that is kept of it; return how many ended.

        Records, compartments, activity and index entries go, and so do the lifecycle events that name the subject or
        its handles, under every key of the ring: who reads events and has not read these yet will not see them, nor
        those that tell of the ends (who listens with `on` hears them once). docs/operations.md says what it cannot
        reach.

        In steps of some hundred entries, so that nobody waits for it; to call it again after a failure is safe. See
        that nobody signs the subject in meanwhile. Raises StoreUnavailable.
        """
        ended = await self._subjects.erase(check_subject(subject))
        await self._endings.outwait()
        return ended

    async def list_for(self, subject: str) -> list[SessionInfo]:
        """List the live sessions of *subject*, those seen last first. In steps of 200 of them.

        Each that lives throughout is listed once, whatever others begin and end meanwhile.
        """
        return await self._subjects.find(check_subject(subject))

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
        What this version does not understand is left out, and logged; it stays taken, for a newer one to claim it.
        In steps of 8 partitions.
        """
        return await self._store.read_events(group, consumer, at_most, milliseconds(claim_after))

    async def acknowledge_events(self, group: str, events: Iterable[Event]) -> int:
        """Say that *group* is done with *events*; return how many it had not yet acknowledged."""
        return await self._store.acknowledge_events(group, events)

    # How it is done

    async def _admitted_late(
        self, session: Session, header: Header, ticket: Ticket, digest: bytes, began: float
    ) -> Session | None:
        """Give *session* if the secret of *ticket* is a former one in its grace; end it where it was stolen.

        digest: of that secret. began: when it was asked for (monotonic, seconds).
        """
        former, honoured_until = header.former_digest, session.payload.honoured_until(digest)
        if former is not None and secrets.compare_digest(digest, former):
            honoured_until = header.former_until
        with OneDeadline(began):
            if honoured_until is None:  # a server that has been replaced may not have heard of the last rotation
                is_sure = session.is_leased or await self._store.transport.has_stood_since(began)
                return None if is_sure else await self.load(ticket, fresh=True)
            if await self._store.now() < honoured_until:
                return session
            log.warning("session_secret_replayed", extra={"handle": str(ticket.handle)})
            receipt = Receipt(Write.REVOCATION)
            await self._writer.end(ticket.handle, session.subject, event=EventType.REPLAYED, receipt=receipt)
            return None

    def _find_near(self, ticket: Ticket, near: Near) -> Session | None:
        """Give the session from the near cache; None where what is kept of it is not enough to let *ticket* in.

        Nor is it enough to turn a ticket away, nor while this process has ends outstanding: the store is asked then.
        """
        kept = near.find(ticket.handle)
        if kept is None or self._endings.open or not secrets.compare_digest(ticket.digest, kept.header.digest):
            return None
        now = self._store.clock.now()
        if now >= kept.deadline:
            return None
        session = self._presented(ticket, (kept.header, kept.payload), kept.parts, now)
        if session is not None:
            session.is_near = True
            near.hits += 1
        return session

    async def _read_again(self, session: Session) -> Session | None:
        if isinstance(session.ticket, Ticket):
            return await self.load(session.ticket, fresh=True)
        return None if session.ticket is None else await self.find(session.ticket)

    async def _read(
        self,
        handle: Handle,
        ticket: Ticket | Handle,
        began: float,
        expected: Expected | None = None,
        reply: list[Any] | None = None,
    ) -> Session | None:
        """Read a session; then try what is outstanding. began: when it was asked for (monotonic, seconds).

        expected: by the near cache, if it was told of this read. reply: what `Store.asking` has brought, if that was
        awaited already.
        """
        opened, parts = await self._store.read_whole(handle, began, reply=reply)
        session = None
        if opened is not None:
            now = self._store.clock.now() if self._store.clock.is_known else await self._store.now()
            session = self._presented(ticket, opened, parts, now)
            if expected is not None and session is not None:
                self._keep_near(expected, opened, parts)
        if not self._endings.open:  # as nearly always
            return session
        has_ended = session is not None and self._endings.refuse(session)
        with OneDeadline(began):  # behind the question: what it ends now is in *session* still
            await self._endings.settle()
        return None if has_ended else session

    def _presented(self, ticket: Ticket | Handle, opened: Opened, raw: Mapping[str, bytes], now: int) -> Session | None:
        (header, payload), handle = opened, ticket.handle if isinstance(ticket, Ticket) else ticket
        if header.absolute_deadline <= now:
            return None
        used_at = self._writer.used.get(handle)
        parts = self._store.companions.present(handle, raw) if raw else None
        session = Session(
            self.policy, ticket=ticket, header=header, payload=payload, seen_at=used_at or now, parts=parts
        )
        if used_at is not None:
            session.rests_until = rests_until(used_at, now, header)
        return session

    def _keep_near(self, expected: Expected, opened: Opened, parts: Mapping[str, bytes]) -> None:
        if self.near is not None:
            header, payload = opened
            self.near.keep(expected, header, payload, parts, self._known_end(expected.handle, header, parts))

    def _known_end(self, handle: Handle, header: Header, parts: Mapping[str, bytes]) -> float:
        """Say when the session or a part of it ends (ms) if nobody uses it, as far as this process knows."""
        used_at = max(header.seen_at, self._writer.last_use(handle, 0))
        end = min(header.absolute_deadline, used_at + header.idle_timeout)
        return min(end, self._store.companions.known_end(handle, parts)) if parts else end

    async def _end_all(self, subject: str, kept: Handle | None, cause: Cause) -> int:
        """End the sessions of a subject, and keep that in mind where it is not confirmed."""
        ending = Ending(at=self._endings.now(), cause=cause, places=self._store.places(subject), keep=kept)
        return await self._endings.carry_out(ending, lambda receipt: self._subjects.end(subject, kept, cause, receipt))

    async def _end_loaded(self, session: Session, cause: Cause) -> bool:
        """End a session that was loaded; this request has done with it, and may ask again if it was not confirmed."""
        session.ended = True
        handle = None if session.is_new else session.handle
        if handle is None:
            session.now_ended()
            return False

        async def attempt(receipt: Receipt) -> bytes | None:
            former = await self._writer.end(handle, session.subject, cause=cause, receipt=receipt)
            session.durability = receipt.reached
            return former

        ending = Ending(at=self._endings.now(), cause=cause, handle=handle)
        former = await self._endings.carry_out(ending, attempt)
        session.now_ended()
        return former is not None

    async def _sign_out(self, session: Session) -> None:
        """End a subject's session, which goes on as a new one. If that is not confirmed, nothing goes on."""
        cause, handle = Cause(why="signed out"), session.handle
        ending = Ending(at=self._endings.now(), cause=cause, handle=handle)
        try:
            await self._endings.carry_out(ending, lambda receipt: self._writer.take(session, cause, receipt, keep=True))
        except RevocationPending:
            session.now_ended()
            raise

    def _updating(self, session: Session) -> Awaitable[None]:
        """Give what saves a stored session that stays whose it is."""
        changes = session.delta()
        if not changes and not session.is_asked_for_more:
            return self._writer.keep(session)
        if self.policy.rotating and concerns(changes, self.policy.rotating):
            session.rotate()
        if session.settings_changed:
            return self._save_settings(session, changes)
        return self._writer.update(session, changes)

    async def _create(self, session: Session) -> None:
        with OneDeadline():
            await self._writer.create(session)

    async def _save_settings(self, session: Session, changes: list[Operation]) -> None:
        with OneDeadline():
            await self._links.extend(session)
            await self._writer.update(session, changes)

    async def _read_or_lease(self, ticket: Ticket, began: float, expected: Expected | None) -> Session | None:
        try:
            return await self._read(ticket.handle, ticket, began, expected)
        except StoreUnavailable as error:
            opened = self._store.read_leased(ticket.handle)
            if opened is None:
                raise
            header, payload = opened
            now, used_at = self._store.clock.now(), self._writer.last_use(ticket.handle, header.seen_at)
            if now >= min(header.absolute_deadline, max(used_at, header.seen_at) + header.idle_timeout):
                raise
            log.warning("session_leased: %s", error, extra={"handle": str(ticket.handle)})
        session = Session(self.policy, ticket=ticket, header=header, payload=payload, seen_at=used_at)
        session.is_leased = True
        return None if self._endings.refuse(session) else session

    def _check_lease(self, session: Session) -> None:
        """Raise StoreUnavailable if there is something to write: it might be to a session that has ended."""
        if session.is_changed or self.wanted_subject(session) != session.payload.subject:
            raise StoreUnavailable(
                f"session {session.handle} was read from memory, for the store cannot be reached: nothing was written. "
                "Try again when it can"
            )


async def _nothing() -> None: ...


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
