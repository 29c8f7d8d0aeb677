"""Ends that were asked for and that the store has not confirmed: kept, refused here at once, and carried out later.

Nothing runs in the background: they are tried again along with later calls, a few at a time, less and less often while
that fails. A journal keeps them across a restart. See docs/decisions/0023.
"""

import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Final, NoReturn, Protocol, TypeVar

from coatcheck.engine.deadline import spare
from coatcheck.engine.durability import Receipt
from coatcheck.engine.store import FIRST_PAGE, Store
from coatcheck.model.durability import Write
from coatcheck.model.errors import RecordCorrupted, RevocationPending, StoreError, StoreUnavailable
from coatcheck.model.events import Cause, EventType
from coatcheck.model.keyring import Place
from coatcheck.model.near import NearCache
from coatcheck.model.policy import LONGEST, milliseconds
from coatcheck.model.session import Session
from coatcheck.model.ticket import Handle

log = logging.getLogger("coatcheck")

T = TypeVar("T")

_MOST: Final = 10_000
_AT_ONCE: Final = 8
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 30.0
_PAGE: Final = 200
_MINUTE: Final = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What is to end: of everybody, of the subject listed at *places*, or *handle*, whosever it is if there are none.

    at: when that was asked for by the store's clock, or a little later (ms). Of a subject, only sessions created by
    then are meant, and not *keep*.
    """

    at: int
    cause: Cause
    handle: Handle | None = None
    places: tuple[Place, ...] = ()
    keep: Handle | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(8))


class Journal(Protocol):
    """Where endings outlive the process. Nothing of it raises."""

    def load(self) -> list[Ending]:
        """Give those that are not done."""
        ...

    def add(self, ending: Ending) -> bool:
        """Keep one; say whether it is kept."""
        ...

    def done(self, ending: Ending) -> None:
        """Forget one."""
        ...


class Endings:
    """The ends of one application that are outstanding in this process. Safe to share among threads.

    open: those that are, by their ids; to be looked at only.
    """

    def __init__(self, store: Store, journal: Journal | None, near: NearCache | None = None) -> None:
        """Begin with what *journal* has kept. near: the near caches of all processes, which an end may wait for."""
        self._store = store
        self._wait = near.staleness.total_seconds() if near is not None and near.ends_wait else 0.0
        self._journal = journal
        self.open = {ending.id: ending for ending in (journal.load() if journal else ())}
        self._lock = Lock()
        self._due = 0.0
        self._pause = _FIRST_PAUSE

    def now(self) -> int:
        """Give the latest that the store's time can be (ms): no session that is there has been created after that.

        Where the store has never answered it goes by this machine's clock, and allows for one that is a minute behind.
        """
        clock = self._store.clock
        return clock.latest() if clock.is_known else time.time_ns() // 1_000_000 + _MINUTE

    async def carry_out(self, ending: Ending, attempt: Callable[[Receipt], Awaitable[T]]) -> T:
        """Do *attempt*, which does what *ending* says. If it is not confirmed: keeps it, raises RevocationPending.

        Where another server has taken over meanwhile it is done there too: the one that did it may have been replaced.
        """
        receipt, began = Receipt(Write.REVOCATION), time.monotonic()
        try:
            done = await attempt(receipt)
            if not await self._store.transport.has_stood_since(began):
                await self._end(ending, receipt)
        except StoreUnavailable as error:
            self._keep(ending, error)
        if receipt.reached is not None and receipt.reached.is_short:
            try:
                self._store.waits.check(receipt)
            except StoreError as error:
                self._keep(ending, error)
            self._add(ending)
        await self.outwait()
        return done

    def keep(self, handle: Handle, cause: Cause) -> None:
        """Refuse *handle* from now on, and end it along with a later call."""
        self._add(Ending(at=self.now(), cause=cause, handle=handle))

    async def outwait(self) -> None:
        """Wait until no process accepts any more what has ended just now, where the policy asks for that."""
        if self._wait:
            await self._store.transport.pause(self._wait)
            spare(self._wait)

    def refuse(self, session: Session) -> bool:
        """Say whether *session*, as it is stored, is to have ended."""
        header, handle = session.header, session.handle
        if not self.open or header is None or handle is None:
            return False
        subject = session.payload.subject
        places = () if subject is None else self._store.places(subject)
        return any(self._means(ending, handle, places, header.created_at) for ending in list(self.open.values()))

    async def settle(self) -> None:
        """Try some of those that are outstanding again, if that is due. Never raises for the store."""
        if not self.open or time.monotonic() < self._due or not self._lock.acquire(blocking=False):
            return
        try:
            for ending in list(self.open.values())[:_AT_ONCE]:
                receipt = Receipt(Write.REVOCATION)
                await self._end(ending, receipt)
                if receipt.reached is not None and receipt.reached.is_short:
                    self._put_off()
                    return
                self.open.pop(ending.id, None)
                if self._journal is not None:
                    self._journal.done(ending)
                log.info("session_revocation_confirmed", extra={"handle": _name(ending)})
            self._pause = _FIRST_PAUSE
        except StoreError as error:
            self._put_off()
            log.info("session_revocation_still_pending: %s", error, extra={"count": len(self.open)})
        finally:
            self._lock.release()

    def _means(self, ending: Ending, handle: Handle, places: tuple[Place, ...], created_at: int) -> bool:
        is_theirs = not ending.places or not set(ending.places).isdisjoint(places)
        if ending.handle is not None:
            return is_theirs and ending.handle == handle
        return is_theirs and handle != ending.keep and not self._began_later(ending, created_at)

    def _put_off(self) -> None:
        self._due = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _keep(self, ending: Ending, error: StoreError) -> NoReturn:
        if not self._hold(ending):
            raise error
        pending = RevocationPending(
            f"not confirmed by the store, so not durable: {str(error).removesuffix('.')}. From now on this process "
            "refuses what was to end, and goes on until that is confirmed"
        )
        pending.is_kept = self._write_down(ending)
        raise pending from error

    def _add(self, ending: Ending) -> None:
        if self._hold(ending):
            self._write_down(ending)

    def _hold(self, ending: Ending) -> bool:
        """Keep *ending* in memory; False if there are too many."""
        if len(self.open) >= _MOST:
            log.error("session_revocation_lost", extra={"handle": _name(ending), "count": len(self.open)})
            return False
        self.open[ending.id] = ending
        log.warning("session_revocation_pending", extra={"handle": _name(ending), "count": len(self.open)})
        return True

    def _write_down(self, ending: Ending) -> bool:
        """Keep *ending* in the journal; False if there is none, or if it fails."""
        return self._journal is not None and self._journal.add(ending)

    async def _end(self, ending: Ending, receipt: Receipt) -> None:
        if ending.handle is not None:
            await self._end_one(ending, ending.handle, receipt)
        elif ending.places:
            for place in ending.places:
                await self._end_at(ending, place, receipt)
        else:
            await self._store.remove_everyone(milliseconds(LONGEST), ending.cause, receipt)

    async def _end_one(self, ending: Ending, handle: Handle, receipt: Receipt) -> None:
        places = [place for place in ending.places if place.partition == handle.partition]
        if not ending.places:
            owner = await self._store.subject_of(handle)
            place = None if owner is None else await self._store.place_of(handle, owner)
            await self._remove(handle, place, ending.cause, receipt)
        for place in places:
            await self._remove(handle, place, ending.cause, receipt)

    async def _end_at(self, ending: Ending, place: Place, receipt: Receipt) -> None:
        """End what was listed at *place* when it was asked for. When a session was created never changes."""
        meant: list[Handle] = []
        cursor: bytes | None = FIRST_PAGE
        while cursor is not None:
            cursor, found = await self._store.page(place, cursor, _PAGE)
            meant += [handle for handle, record, _ in found if self._is_meant(ending, handle, record)]
        for handle in meant:
            await self._remove(handle, place, ending.cause, receipt)

    def _is_meant(self, ending: Ending, handle: Handle, record: bytes) -> bool:
        if handle == ending.keep:
            return False
        try:
            header, _ = self._store.open(handle, record)
        except RecordCorrupted:
            return True  # who has the key that lacks here may be let in by it; and nobody can say when it began
        return not self._began_later(ending, header.created_at)

    def _began_later(self, ending: Ending, created_at: int) -> bool:
        """Say whether a session was created after *ending* was asked for.

        Of one from the future nobody can say: the store's clock has been set back since. It ends rather than lives.
        """
        return ending.at < created_at <= self.now()

    async def _remove(self, handle: Handle, place: Place | None, cause: Cause, receipt: Receipt) -> None:
        listed = place is not None
        await self._store.remove(
            handle, place, only_if_listed=listed, event=EventType.REVOKED, cause=cause, receipt=receipt
        )


def _name(ending: Ending) -> str | None:
    return str(ending.handle) if ending.handle else None
