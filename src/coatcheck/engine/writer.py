"""How a session gets into the store and out of it: created, updated under compare-and-set, ended."""

import logging
import secrets
from typing import Final

from coatcheck.engine.store import Opened, Store
from coatcheck.model.delta import Increment, apply
from coatcheck.model.errors import SessionRevoked, StoreUnavailable
from coatcheck.model.policy import SessionPolicy, milliseconds
from coatcheck.model.record import WRITE_ID_BYTES, Header, Payload
from coatcheck.model.session import Session
from coatcheck.model.ticket import Handle, Ticket

log = logging.getLogger("coatcheck")

_ATTEMPTS: Final = 500
_LONGEST_PAUSE: Final = 32
_REMEMBERED_USES: Final = 10_000


class Writer:
    """Writes sessions under one policy, and remembers which it has extended lately."""

    __slots__ = ("_policy", "_store", "_used")

    def __init__(self, store: Store, policy: SessionPolicy) -> None:
        """Write to *store*."""
        self._store = store
        self._policy = policy
        self._used: dict[Handle, int] = {}

    def last_use(self, handle: Handle, default: int) -> int:
        """Give when this process last extended the session's idle deadline (ms), or *default*."""
        return self._used.get(handle, default)

    def note_use(self, handle: Handle, now: int) -> None:
        """Remember that the idle deadline was extended."""
        if len(self._used) >= _REMEMBERED_USES:
            self._used.clear()  # costs a touch more for each of them, and no bookkeeping
        self._used[handle] = now

    async def create(self, session: Session) -> None:
        """Store the first record of an anonymous session, in a random partition."""
        while True:
            ticket = Ticket.new(Handle.new())
            header = session.new_header(await self._store.now(), ticket.digest)
            payload = Payload(None, apply(session.delta(), session.stored))
            if await self._store.create(ticket.handle, header, payload):
                return self.settle(session, ticket, header, payload)

    async def update(self, session: Session) -> None:
        """Write the delta under compare-and-set, merging it with what others write until it fits."""
        handle, base, changes = session.handle, session.header, session.delta()
        if handle is None or base is None:
            raise RuntimeError("only a stored session can be updated")
        current = session.payload
        counts = any(isinstance(change, Increment) for change in changes)
        write_id = secrets.token_bytes(WRITE_ID_BYTES) if counts else b""
        for attempt in range(_ATTEMPTS):
            header, ticket = self._successor(session, base, await self._store.now())
            payload = current.following(apply(changes, current.attributes), write_id, header.seen_at - base.seen_at)
            outcome = await self._write(session, handle, base, header, payload)
            if outcome is False:
                raise SessionRevoked(f"session {handle} has ended; nothing was written")
            if outcome is True:
                if not session.ended:
                    self.settle(session, ticket, header, payload)
                return
            base, current = outcome
            nothing_left = not changes and not session.settings_changed and self._is_rotated(session, base)
            if nothing_left or current.has_write(write_id):  # an earlier try of ours got through, its reply did not
                self.settle(session, session.ticket, base, current)
                return
            if session.strict:
                session.check_conflicts(current.attributes)
            await self._store.transport.pause(secrets.randbelow(1 + min(attempt, _LONGEST_PAUSE)) / 1000)
        raise StoreUnavailable(f"session {handle} is being written by too many others at once")

    def _successor(self, session: Session, base: Header, now: int) -> tuple[Header, Ticket | Handle | None]:
        """Make the header that follows *base*, and the ticket that opens it."""
        header, ticket = session.next_header(base, now), session.ticket
        barred = session.is_superseded or self._is_rotated(session, base)
        if isinstance(ticket, Ticket) and session.rotation_wanted and not barred:
            ticket = Ticket.new(ticket.handle)
            header = header.rotate(ticket.digest, now + milliseconds(self._policy.rotation_grace))
        return header, ticket

    @staticmethod
    def _is_rotated(session: Session, base: Header) -> bool:
        """Say whether another request has rotated the session since it was loaded."""
        return session.header is not None and session.header.digest != base.digest

    async def _write(
        self, session: Session, handle: Handle, base: Header, header: Header, payload: Payload
    ) -> Opened | bool:
        """Replace the record, or end a session that is left with nothing; reply as `Store.replace` does."""
        if header.ttl(header.seen_at) <= 0:
            return False
        if payload.attributes or payload.subject is not None:
            moved = session.settings_changed and payload.subject is not None
            place = await self._store.place_of(handle, payload.subject) if moved and payload.subject else None
            return await self._store.replace(handle, base.revision, header, payload, place)
        ended, found = await self._store.remove(handle, None, revision=base.revision)
        if ended:
            session.now_ended()
        return ended or (found is not None and self._store.open(handle, found))

    async def end(self, handle: Handle, owner: str | None, *, only_if_listed: bool = False) -> Opened | None:
        """End a session; give its last record, or None if there was none to end."""
        place = None if owner is None else await self._store.place_of(handle, owner)
        if only_if_listed and place is None:
            return None
        ended, record = await self._store.remove(handle, place, only_if_listed=only_if_listed)
        self._used.pop(handle, None)
        if not ended or record is None:
            return None
        log.info("session_revoked", extra={"handle": str(handle)})
        return self._store.open(handle, record)

    async def take(self, session: Session) -> None:
        """End the stored session; what it held, with this request's changes, is left in *session* as a new one."""
        handle, changes = session.handle, session.delta()
        former = None if handle is None else await self.end(handle, session.subject)
        if former is None:
            raise SessionRevoked(f"session {handle} has ended; nothing was written")
        session.now_new(self._policy, apply(changes, former[1].attributes))

    def settle(self, session: Session, ticket: Ticket | Handle | None, header: Header, payload: Payload) -> None:
        """Note what the store holds now, and that the write has extended the idle deadline."""
        session.now_stored(ticket, header, payload)
        if session.handle is not None:
            self.note_use(session.handle, header.seen_at)
