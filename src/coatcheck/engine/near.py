"""Loading sessions without the store: those that this process has read, for as long as it is told of every write.

How it is told is the runtime's affair (`Lines`). That nothing older than the bound is given out rests on three rules:

- A read is announced before it is sent (`expect`), and its reply is kept only if nothing was told of the session in
  between: a reply and what is told of a write come over different connections, in either order.
- A line says until when what it has told is enough (`Line.until`). That is looked at first, and then whether the
  session is still kept: so all that was told by then has been heeded.
- A line that is lost stays lost, and what was kept under it is given out no more.

Keys of the sessions here are the random bytes of their handles.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import timedelta
from math import inf
from threading import Lock
from time import monotonic
from typing import Final, Protocol

from msgspec import Struct

from coatcheck.model.near import NearCache, NearCounts
from coatcheck.model.record import Header, Payload
from coatcheck.model.ticket import Handle, value_of

_OVERHEAD: Final = 1500  # bytes of a session beside its attributes, and of an attribute beside its value, in CPython
_OVERHEAD_EACH: Final = 150
_NAME_LENGTH: Final = 16


class Line:
    """A connection on which a server tells what is written. until: for how long that is enough (monotonic, seconds)."""

    __slots__ = ("until",)

    def __init__(self) -> None:
        """Begin with nothing that would be enough."""
        self.until = -inf


Place = tuple[Line, int]
"""The line to the server that has a partition, and a number that grows whenever a command is sent elsewhere."""


class Lines(Protocol):
    """The lines to the servers."""

    def place_of(self, partition: int) -> Place | None:
        """Say where *partition* is; None while there is no line to that server. Makes one then."""
        ...

    def lines(self) -> list[Line]:
        """List those that there are."""
        ...


class Expected(Struct, frozen=True, eq=False, gc=False):  # no cycle leads through it
    """A read that was announced. asked_at: monotonic, seconds."""

    handle: Handle
    place: Place
    asked_at: float


class Kept(Struct, frozen=True, eq=False, gc=False):  # no cycle leads through it
    """A session as it was read. parts: its compartments, sealed. deadline: when it ends, as far as is known (ms)."""

    line: Line
    partition: int
    until: float
    deadline: float
    header: Header
    payload: Payload
    parts: Mapping[str, bytes]
    size: int


class Near:
    """The near cache of one process. Safe to share among threads."""

    def __init__(self, settings: NearCache) -> None:
        """Keep nothing, and no longer than *settings* say."""
        self._settings = settings
        self._max_age = settings.max_age.total_seconds()
        self.lines: Lines | None = None
        self.hits = self.misses = self._dropped = 0
        self.reset()

    def reset(self) -> None:
        """Keep nothing: for a process that was forked, whatever its parent's threads were at."""
        self._lock = Lock()
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._expected: dict[bytes, Expected] = {}
        self._bytes = 0

    def find(self, handle: Handle) -> Kept | None:
        """Give what is kept of *handle*, if that is surely not staler than the bound."""
        kept = self._kept.get(handle.value)
        if kept is None or kept.partition != handle.partition:
            return None
        until = min(kept.line.until, kept.until)
        return kept if self._kept.get(handle.value) is kept and monotonic() <= until else None

    def expect(self, handle: Handle) -> Expected | None:
        """Announce a read of *handle* that is about to be sent; None if its reply cannot be kept."""
        self.misses += 1
        place = None if self.lines is None else self.lines.place_of(handle.partition)
        if place is None:
            return None
        expected = self._expected[handle.value] = Expected(handle, place, monotonic())
        return expected

    def keep(
        self, expected: Expected, header: Header, payload: Payload, parts: Mapping[str, bytes], end: float
    ) -> None:
        """Keep what the announced read has brought, until *end* (ms) at most, unless it may be out of date by now."""
        handle, (line, _) = expected.handle, expected.place
        size = _size(payload) + sum(map(len, parts.values()))
        until = expected.asked_at + self._max_age
        kept = Kept(line, handle.partition, until, end, header, payload, parts, size)
        with self._lock:
            if self._expected.get(handle.value) is not expected:
                return
            del self._expected[handle.value]
            if self.lines is None or self.lines.place_of(handle.partition) != expected.place:
                return
            self._remove(handle.value)
            self._kept[handle.value] = kept
            self._bytes += size
            while len(self._kept) > self._settings.max_sessions or self._bytes > self._settings.max_bytes:
                self._remove(next(iter(self._kept)))

    def purge(self) -> None:
        """Let go of what has reached its maximum age."""
        now = monotonic()
        with self._lock:
            while self._kept and next(iter(self._kept.values())).until < now:
                self._remove(next(iter(self._kept)))

    def settle(self, expected: Expected) -> None:
        """Take note that the announced read is over, whatever has come of it."""
        if self._expected.get(expected.handle.value) is expected:  # not kept
            with self._lock:
                if self._expected.get(expected.handle.value) is expected:
                    del self._expected[expected.handle.value]

    def drop(self, handle: Handle) -> None:
        """Let go of *handle*: it is being written, or was."""
        with self._lock:
            self._drop(handle.value)

    def drop_subject(self, subject: str, keep: Handle | None) -> None:
        """Let go of the sessions of *subject* except *keep*; of reads under way too, which may be among them."""
        with self._lock:
            self._expected.clear()
            spared = None if keep is None else keep.value
            for value in [value for value, kept in self._kept.items() if kept.payload.subject == subject]:
                if value != spared:
                    self._drop(value)

    def drop_all(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._dropped += len(self._kept)
            self._expected.clear()
            self._kept.clear()
            self._bytes = 0

    def lose(self, line: Line) -> None:
        """Take note that *line* is lost."""
        line.until = -inf
        with self._lock:
            for value in [value for value, kept in self._kept.items() if kept.line is line]:
                self._remove(value)

    def hear(self, keys: Iterable[bytes] | None) -> None:
        """Take note that *keys* of the store were written; None: all of them may have been."""
        if keys is None:
            self.drop_all()
            return
        is_epoch = False
        with self._lock:
            for key in keys:
                _, _, rest = key.partition(b"}:")
                kind = rest[:2]
                if kind in {b"s:", b"c:"}:
                    self._drop(value_of(rest[2 : 2 + _NAME_LENGTH]))
                elif kind == b"g":
                    is_epoch = True
        if is_epoch:
            self.drop_all()

    def counts(self) -> NearCounts:
        """Say what it has done, and how it stands."""
        oldest = min((line.until for line in self.lines.lines()), default=-inf) if self.lines else -inf
        left = oldest - monotonic()
        behind = self._settings.staleness - timedelta(seconds=left) if left >= 0 else None
        return NearCounts(
            hits=self.hits,
            misses=self.misses,
            dropped=self._dropped,
            sessions=len(self._kept),
            bytes=self._bytes,
            behind=behind,
        )

    def _drop(self, value: bytes) -> None:
        self._expected.pop(value, None)
        if self._remove(value):
            self._dropped += 1

    def _remove(self, value: bytes) -> bool:
        kept = self._kept.pop(value, None)
        if kept is not None:
            self._bytes -= kept.size
        return kept is not None


def _size(payload: Payload) -> int:
    attributes = payload.attributes
    content = sum(map(len, attributes)) + sum(map(len, attributes.values()))
    return _OVERHEAD + _OVERHEAD_EACH * len(attributes) + content
