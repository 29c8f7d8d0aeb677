"""How a session gets into the store and out of it: created, updated under compare-and-set, ended."""

import logging
import secrets
from collections.abc import Sequence
from time import monotonic
from typing import Final

from msgspec import Struct

from coatcheck.engine.companions import Along
from coatcheck.engine.deadline import OneDeadline
from coatcheck.engine.durability import Receipt
from coatcheck.engine.store import NO_CAUSE, NO_CHANGE, Change, Opened, Outlived, Store
from coatcheck.engine.turns import Stored, Turns, Writing
from coatcheck.model.delta import Increment, Operation, apply, without_counts
from coatcheck.model.durability import Write
from coatcheck.model.errors import SessionConflict, SessionRevoked, StoreUnavailable
from coatcheck.model.events import Cause, EventType
from coatcheck.model.policy import SessionPolicy, milliseconds
from coatcheck.model.record import Header, Payload
from coatcheck.model.session import Session
from coatcheck.model.ticket import Handle, Ticket

log = logging.getLogger("coatcheck")

ATTEMPTS: Final = 500
_LONGEST_PAUSE: Final = 32
_REMEMBERED_USES: Final = 10_000
_EMPTIED: Final = Cause(why="emptied")


class _Attempt(Struct, frozen=True, gc=False):  # no cycle leads through it
    """What a try to write a session is to store; of others too, whom it has *served* then."""

    header: Header
    payload: Payload
    served: Sequence[Writing]

    @property
    def is_lasting(self) -> bool:
        """Whether something is left to store, and time for it to live."""
        return bool(self.payload.attributes) and self.header.ttl(self.header.seen_at) > 0


class Writer:
    """Writes sessions under one policy, and remembers which it has extended lately.

    used: when it has extended the idle deadline of which (ms); to be looked at only.
    """

    __slots__ = ("_policy", "_store", "_turns", "used")

    def __init__(self, store: Store, policy: SessionPolicy) -> None:
        """Write to *store*."""
        self._store = store
        self._policy = policy
        self._turns = Turns(store.transport)
        self.used: dict[Handle, int] = {}

    def last_use(self, handle: Handle, default: int) -> int:
        """Give when this process last extended the session's idle deadline (ms), or *default*."""
        return self.used.get(handle, default)

    def note_use(self, handle: Handle, now: int) -> None:
        """Remember that the idle deadline was extended."""
        if len(self.used) >= _REMEMBERED_USES:
            self.used.clear()  # costs a touch more for each of them, and no bookkeeping
        self.used[handle] = now

    async def create(self, session: Session) -> None:
        """Store the first record of an anonymous session, in a random partition."""
        earliest, receipt = 0, Receipt(Write.SAVE)
        while True:
            now = await self._store.now()
            along = self._store.companions.staying(session, now)
            ticket = session.next_ticket(Handle.new())
            header = session.new_header(max(now, earliest), ticket.digest)
            attributes = apply(session.delta(), session.stored)
            payload = Payload(None, attributes, client=session.client.text, device=session.device)
            self._policy.caps.check(payload.attributes, {})
            stored = await self._store.create(ticket.handle, header, payload, along, receipt)
            if isinstance(stored, Outlived):
                earliest = stored.epoch + 1
            elif stored:
                self.settle(session, ticket, header, payload)
                return await self.finish(session, along, receipt)

    async def update(self, session: Session, changes: list[Operation]) -> None:
        """Write *changes*, the delta, under compare-and-set, merging it with what others write until it fits.

        Others in this process who write the same session wait meanwhile, or have this write theirs along: see `Turns`.
        """
        handle, base, began = session.handle, session.header, monotonic()
        if handle is None or base is None:
            raise RuntimeError("only a stored session can be updated")
        asks_for_more = session.is_asked_for_more
        ticket = self._next_ticket(session) if asks_for_more else None
        along = await self._along(session) if session.has_more else None
        # What must not be done twice, or is not to meet itself as another's change, is known again by its id.
        is_noted = session.strict
        for change in changes:  # no any(): a generator costs more than what it goes through here
            is_noted = is_noted or isinstance(change, Increment)
        write_id = session.write_id_for(changes) if is_noted else b""
        # Whether it does nothing but merge attributes in, without conflicts, so that others can do that for it.
        is_plain = not (asks_for_more or along is not None or session.strict or session.was_tried_otherwise)
        receipt = Receipt(Write.SAVE if ticket is None else Write.ROTATION)
        writing = Writing(changes if is_plain else None, write_id, receipt)
        if not self._turns.take(handle, writing):
            await self._turns.wait(handle, writing)
        try:
            if writing.outcome is None:
                has_waited = writing.signal is not None
                met = self._told_before(session, base, ticket, writing) if has_waited else None
                if (
                    is_plain
                    and not has_waited
                    and (now := self._store.time_for_one_call(began, base.absolute_deadline))
                    and (attempt := self._attempt(session, base, session.payload, changes, writing, now=now)).is_lasting
                ):  # as nearly always, and without a coroutine more than it takes: many requests wait here at once
                    try:
                        ((code, *found),) = await self._store.transport.call(
                            self._store.replacing(handle, base.revision, attempt.header, attempt.payload)
                        )
                    finally:
                        if self._store.near is not None:  # another task or thread may have read it meanwhile
                            self._store.near.drop(handle)
                    outcome = await self._store.opened(handle, *found) if found else bool(code)
                    met = self._conclude(session, handle, writing, attempt, outcome=outcome)
                    if met is None:
                        return
                with OneDeadline(began):
                    await self._update(session, handle, base, changes, writing, met=met, ticket=ticket, along=along)
                return
        finally:
            self._turns.leave(handle, writing)
        if writing.outcome is False:
            raise _ended(handle)
        self.settle(session, session.ticket, *writing.outcome)
        self.confirm(session, receipt)

    async def _update(
        self,
        session: Session,
        handle: Handle,
        base: Header,
        changes: list[Operation],
        writing: Writing,
        *,
        met: Opened | None,
        ticket: Ticket | None,
        along: Along | None,
    ) -> None:
        """Do what `update` says. met: what the store holds, where that is known to be later than *base*."""
        stored = base, session.payload
        for attempt in range(ATTEMPTS):
            if met is not None:
                base, current = stored = met
                if _has_all(session, ticket, met, writing.write_id):
                    # an earlier try of ours got through, and its reply did not; or another request has rotated it
                    self._turns.serve(writing, [], met)
                    self.settle(session, _holder(base, ticket, session), base, current)
                    await self.finish(session, along, writing.receipt)
                    return
                if session.strict:
                    session.check_conflicts(current.attributes)
                if attempt:
                    await self.pause(attempt - 1)
            met = await self._try(session, handle, stored, changes, writing, ticket=ticket, along=along)
            if met is None:
                return
        raise StoreUnavailable(f"session {handle} is being written by too many others at once")

    async def _try(
        self,
        session: Session,
        handle: Handle,
        stored: Opened,
        changes: list[Operation],
        writing: Writing,
        *,
        ticket: Ticket | None,
        along: Along | None,
    ) -> Opened | None:
        """Write *changes* to what is *stored*, also for those who wait behind *writing* and can be served by the same.

        None: it is done; else what the store holds instead.
        """
        (base, current), receipt = stored, writing.receipt
        now = await self._store.now()
        attempt = self._attempt(session, base, current, changes, writing, now=now, ticket=ticket)
        header, payload = attempt.header, attempt.payload
        if writing.changes is not None and attempt.is_lasting:
            outcome = await self._store.replace(handle, base.revision, header, payload, NO_CHANGE, receipt=receipt)
        else:
            outcome = await self._write(
                session, handle, base, header, payload, along=None if session.strict else along, receipt=receipt
            )
        met = self._conclude(session, handle, writing, attempt, outcome=outcome, ticket=ticket)
        if session.ended:
            self.confirm(session, receipt)
        elif met is None:
            await self.finish(session, along, receipt)
        return met

    def _attempt(
        self,
        session: Session,
        base: Header,
        current: Payload,
        changes: list[Operation],
        writing: Writing,
        *,
        now: int,
        ticket: Ticket | None = None,
    ) -> "_Attempt":
        """Say what a try to write *changes* over *base* and *current* is to store at *now*."""
        attributes = session.written_to(current, changes)
        self._policy.caps.check(attributes, current.attributes)
        if writing.changes is None:
            header = session.next_header(base, now)
            payload = session.next_payload(current, attributes, writing.write_id, now - base.seen_at)
        else:  # it is plain: no timeouts, no device
            header, payload = base.following(now), current.following(attributes, writing.write_id, now - base.seen_at)
        if ticket is not None:
            header, payload = self._with_secret(session, ticket, base, header, payload)
        others = self._turns.gather(writing)
        payload, served = self._with_others(payload, others) if others else (payload, others)
        return _Attempt(header, payload, served)

    def _conclude(
        self,
        session: Session,
        handle: Handle,
        writing: Writing,
        attempt: "_Attempt",
        *,
        outcome: Opened | bool,
        ticket: Ticket | None = None,
    ) -> Opened | None:
        """Note what has come of an attempt, for all whom it serves; give what the store holds instead, if it failed.

        Raises SessionRevoked.
        """
        if outcome is False:
            self._turns.serve(writing, attempt.served, outcome)
            raise _ended(handle)
        if outcome is not True:
            return outcome
        if not session.ended:
            header, payload = attempt.header, attempt.payload
            self._turns.serve(writing, attempt.served, (header, payload))
            self.settle(session, _holder(header, ticket, session), header, payload)
        return None

    def _told_before(self, session: Session, base: Header, ticket: Ticket | None, writing: Writing) -> Stored | None:
        """Give what the one with the turn before has stored, if it is later than *base* and of use.

        Not where that is all that *session* asks for, and has to be durable: nobody has waited for it here.
        """
        met = writing.later_than(base)
        if met is None or not self._store.waits.is_wanted(writing.receipt):
            return met
        return None if _has_all(session, ticket, met, writing.write_id) else met

    def _with_others(self, payload: Payload, others: Sequence[Writing]) -> tuple[Payload, Sequence[Writing]]:
        """Give *payload* with the changes of *others* made to it, and of whom: who cannot be served so is left out."""
        served = []
        for other in others:
            changes = other.changes or []
            if is_counted := payload.has_write(other.write_id):  # by an earlier try, whose reply was lost
                changes = without_counts(changes, changes)
            try:
                attributes = apply(changes, payload.attributes)
                self._policy.caps.check(attributes, payload.attributes)
            except (ValueError, SessionConflict):  # which it shall meet itself
                continue
            if attributes:
                payload = payload.following(attributes, b"" if is_counted else other.write_id, 0)
                served.append(other)
        return payload, served

    async def touch(self, session: Session, along: Along | None = None, receipt: Receipt | None = None) -> bool:
        """Extend the idle deadline unless this process did so lately; give whether the session is still there."""
        handle, header = session.handle, session.header
        if handle is None or header is None:
            return False
        now = await self._store.now()
        if rests_until(self.used.get(handle, 0), now, header):
            return True
        if not await self._store.extend(handle, header, now, along, receipt):
            return False
        self.note_use(handle, now)
        session.seen(now)
        return True

    async def keep(self, session: Session) -> None:
        """Extend what was used of a session whose own record did not change, and write what else it has changed."""
        if not session.has_more:  # as nearly always
            if isinstance(session.ticket, Ticket):
                await self.touch(session)
            return
        with OneDeadline():
            along = await self._along(session)
            receipt = Receipt(Write.SAVE) if session.parts.is_changed or session.recorded else None
            if isinstance(session.ticket, Ticket):
                await self.touch(session, along, receipt)
            await self.finish(session, along, receipt)

    async def _along(self, session: Session) -> Along:
        """Give what *session* has to send along."""
        return self._store.companions.staying(session, await self._store.now())

    async def finish(self, session: Session, along: Along | None, receipt: Receipt | None) -> None:
        """Send what is left to send along with a session: nothing, unless another request wrote it meanwhile.

        receipt: of what was written and will be. Raises DurabilityNotReached.
        """
        if along is None:
            self.confirm(session, receipt)
            return
        handle, header = session.handle, session.header
        along.arrived()
        for attempt in range(ATTEMPTS):
            if along.is_done or handle is None or header is None:
                self.confirm(session, receipt)
                return
            if header.absolute_deadline <= await self._store.now():
                break
            if attempt:
                await self.pause(attempt)
            await self._store.send(along, handle, header, receipt)
            along.check()
        else:
            raise StoreUnavailable(f"session {handle} is being written by too many others at once")
        if session.is_changed:
            raise SessionRevoked(f"session {handle} has ended; not everything was written")

    def confirm(self, session: Session, receipt: Receipt | None) -> None:
        """Say in *session* how durable what was written is. Raises DurabilityNotReached."""
        if receipt is not None:
            session.durability = receipt.reached or session.durability
            self._store.waits.check(receipt)

    async def pause(self, attempt: int) -> None:
        """Wait a moment, longer after many attempts, before another one."""
        await self._store.transport.pause(secrets.randbelow(1 + min(attempt, _LONGEST_PAUSE)) / 1000)

    def _with_secret(
        self, session: Session, ticket: Ticket, base: Header, header: Header, payload: Payload
    ) -> tuple[Header, Payload]:
        """Give header and payload with the secret of *ticket*, unless another request has rotated it first."""
        if session.renewal_wanted:
            return header.renew(ticket.digest), payload.renewed(header.seen_at)
        if session.header is None or base.digest != session.header.digest:
            return header, payload
        header = header.rotate(ticket.digest, header.seen_at + milliseconds(self._policy.rotation_grace))
        return header, payload.rotated(base.digest, header.seen_at, header.former_until)

    @staticmethod
    def _next_ticket(session: Session) -> Ticket | None:
        """Make the ticket of a rotation; None without one, or where a former secret asks for it: it may be stolen.

        Not so with a renewal: who asks for that has just proved who they are, and it is the others' secrets that go.
        """
        is_owner = session.renewal_wanted or not session.is_superseded
        if session.rotation_wanted and isinstance(session.ticket, Ticket) and is_owner:
            return session.rotated_ticket(session.ticket.handle)
        return None

    async def _write(
        self,
        session: Session,
        handle: Handle,
        base: Header,
        header: Header,
        payload: Payload,
        *,
        along: Along | None,
        receipt: Receipt,
    ) -> Opened | bool:
        """Replace the record, or end a session that is left with nothing; reply as `Store.replace` does."""
        if header.ttl(header.seen_at) <= 0:
            return False
        holds = payload.attributes or payload.subject is not None or not session.parts.is_empty
        if holds or session.token_given or not session.delta():
            rotates = header.digest != base.digest
            event = EventType.ROTATED if rotates else None
            if payload.subject is None or not (rotates or session.settings_changed):
                change = Change(event=event)
                return await self._store.replace(
                    handle, base.revision, header, payload, change, along=along, receipt=receipt
                )
            place = await self._store.place_of(handle, payload.subject)
            change = Change(place, place if session.settings_changed else None, event)
            return await self._store.replace(
                handle, base.revision, header, payload, change, along=along, receipt=receipt
            )
        receipt.write = Write.REVOCATION
        ended, found = await self._store.remove(
            handle, None, revision=base.revision, event=EventType.REVOKED, cause=_EMPTIED, receipt=receipt
        )
        if ended:
            session.now_ended()
        return ended or (found is not None and self._store.open(handle, found))

    async def end(
        self,
        handle: Handle,
        owner: str | None,
        *,
        only_if_listed: bool = False,
        event: EventType | None = EventType.REVOKED,
        cause: Cause = NO_CAUSE,
        receipt: Receipt | None = None,
    ) -> bytes | None:
        """End a session; give its last record, unopened, or None if there was none to end.

        receipt: how durable it is, is noted there for the caller to check; without one nothing is waited for.
        """
        place = None if owner is None else await self._store.place_of(handle, owner)
        if only_if_listed and place is None:
            return None
        ended, record = await self._store.remove(
            handle, place, only_if_listed=only_if_listed, event=event, cause=cause, receipt=receipt
        )
        self.used.pop(handle, None)
        if not ended:
            return None
        if event is not None:
            log.info("session_%s", event.value, extra={"handle": str(handle), "by": cause.by, "why": cause.why})
        return record

    async def take(self, session: Session, cause: Cause, receipt: Receipt, *, keep: bool) -> None:
        """End the stored session; *session* goes on as a new one with this request's changes.

        keep: also with what it held. Raises SessionRevoked when the session has ended meanwhile.
        """
        handle, changes = session.handle, session.delta()
        record = None if handle is None else await self.end(handle, session.subject, cause=cause, receipt=receipt)
        if handle is None or record is None:
            raise SessionRevoked(f"session {handle} has ended; nothing was written")
        held = self._store.open(handle, record)[1].attributes if keep else {}
        session.now_new(apply(changes, held))

    def settle(self, session: Session, ticket: Ticket | Handle | None, header: Header, payload: Payload) -> None:
        """Note what the store holds now, and that the write has extended the idle deadline."""
        session.now_stored(ticket, header, payload)
        handle = session.handle
        if handle is not None:
            self.note_use(handle, header.seen_at)


def rests_until(used_at: int, now: int, header: Header) -> int:
    """Say until when (ms) a session that was used then need not be extended; 0: a tenth of its idle timeout is over.

    A use in the future is none to rely on: the server's clock may be set back, or its successor's lag.
    """
    tenth = header.idle_timeout // 10
    return used_at + tenth if abs(now - used_at) < tenth else 0


def _ended(handle: Handle) -> SessionRevoked:
    return SessionRevoked(f"session {handle} has ended; nothing was written")


def _holder(header: Header, fresh: Ticket | None, session: Session) -> Ticket | Handle | None:
    """Say which ticket goes with *header*: the fresh one, if its rotation got through, or the session's own."""
    return fresh if fresh is not None and header.digest == fresh.digest else session.ticket


def _has_all(session: Session, ticket: Ticket | None, met: Stored, write_id: bytes) -> bool:
    """Say whether *met*, which the store holds now, has all that *session* asks for."""
    return _is_done(session, ticket, met[0]) or (met[1].has_write(write_id) and not session.renewal_wanted)


def _is_done(session: Session, ticket: Ticket | None, base: Header) -> bool:
    """Say whether *base*, which the store holds now, has the rotation that is all that *session* asks for.

    Any request's rotation will do; a renewal is done when the secret is this request's own.
    """
    if session.renewal_wanted:
        return ticket is not None and base.digest == ticket.digest
    changes = session.delta() or session.settings_changed or session.device_changed
    return not changes and session.header is not None and base.digest != session.header.digest
