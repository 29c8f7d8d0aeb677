"""Reading sessions without the store for a short time: the records that this process has loaded last.

Records are kept as they are stored, sealed. Bounded in number and in bytes; the oldest go first.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import Final

from coatcheck.model.events import Event, EventType
from coatcheck.model.policy import milliseconds
from coatcheck.model.ticket import Handle

_MOST: Final = 10_000
_MOST_BYTES: Final = 16 * 1024 * 1024
_KEEPING: Final = frozenset({EventType.BOUND, EventType.REFUSED})


@dataclass(frozen=True, slots=True)
class _Lease:
    record: bytes
    subject: str | None
    loaded_at: int


class Leases:
    """The leases of one process. Safe to share among threads."""

    __slots__ = ("_bytes", "_for", "_leases", "_lock", "changes")

    def __init__(self, read_lease: timedelta) -> None:
        """Lease for *read_lease*."""
        self._for = milliseconds(read_lease)
        self._leases: OrderedDict[Handle, _Lease] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()
        self.changes = 0
        """Grows with every drop: what was asked of the store before one may be older than it."""

    def keep(self, handle: Handle, record: bytes, subject: str | None, loaded_at: int, *, changes: int) -> None:
        """Lease what was loaded at *loaded_at* (ms), unless something was dropped since *changes*."""
        with self._lock:
            if changes != self.changes:
                return
            self._remove(handle)
            self._leases[handle] = _Lease(record, subject, loaded_at)
            self._bytes += len(record)
            while len(self._leases) > _MOST or self._bytes > _MOST_BYTES:
                self._remove(next(iter(self._leases)))

    def find(self, handle: Handle, now: int) -> bytes | None:
        """Give the record of *handle* if its lease lasts *now* (ms)."""
        lease = self._leases.get(handle)
        return lease.record if lease is not None and 0 <= now - lease.loaded_at <= self._for else None

    def drop(self, handle: Handle) -> None:
        """End the lease of *handle*: it has ended, or its record is another one now."""
        with self._lock:
            self.changes += 1
            self._remove(handle)

    def drop_subject(self, subject: str, keep: Handle | None) -> None:
        """End those of *subject* except *keep*."""
        with self._lock:
            self.changes += 1
            for handle in [handle for handle, lease in self._leases.items() if lease.subject == subject]:
                if handle != keep:
                    self._remove(handle)

    def drop_all(self) -> None:
        """End all of them."""
        with self._lock:
            self.changes += 1
            self._leases.clear()
            self._bytes = 0

    def hear(self, event: Event) -> None:
        """Take note of what has happened to a session, anywhere."""
        if event.handle is None:
            self.drop_all()
        elif event.type not in _KEEPING:
            self.drop(event.handle)

    def _remove(self, handle: Handle) -> None:
        lease = self._leases.pop(handle, None)
        if lease is not None:
            self._bytes -= len(lease.record)
