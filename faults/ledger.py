"""The ledger: what was asked of the sessions, and what came back. One entry an operation, from any thread or process.

An operation is *done* when it was acknowledged, *failed* when it certainly was not carried out, and *unknown* when it
may have been. Its moments are seconds of the machine's monotonic clock, which all processes share.
"""

import json
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, Final

from redis.exceptions import ConnectionError as LostConnection

from coatcheck.engine.operations import Operations
from coatcheck.engine.turns import Turns, Writing
from coatcheck.model.ticket import Handle
from coatcheck.runtime.batch import Batch
from coatcheck.runtime.carrier import Carrier


class Kind(StrEnum):
    """What was asked."""

    SIGN_IN = "sign-in"
    READ = "read"
    """A session was looked for by its identifier, or by its handle."""
    ADD = "add"
    """Its counter was increased by `value`."""
    SET = "set"
    """The attribute of one writer was set to `value`, which grows by one each time."""
    ROTATE = "rotate"
    REVOKE = "revoke"
    REVOKE_ALL = "revoke all"


WRITES: Final = frozenset(Kind) - {Kind.READ}


class Outcome(StrEnum):
    """What came of it."""

    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What a session was when it was read: whose, by its header and by its attributes, and what was in it."""

    handle: str
    subject: str | None
    session: str
    total: int
    marks: dict[str, int] = field(default_factory=dict)
    """The value of each writer's attribute."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """An entry.

    session: the ledger's own name for a session; "" for what concerns a subject. secret: the number of the secret that
    was shown or given out, 0 that of the sign-in; -1: none, it was looked for by its handle. value: what was added or
    set; for a revocation, whether it said that it ended something. found: of a read; None: "there is no such session".
    is_last: of a read, after all was well again. is_apart: by an application that was cut off from most of the servers
    for a while. staleness: of a read, by how many seconds it may lag behind the store. is_corrupted: the record was
    refused. problem: the error; is_foreign: it is none of those that an application is told to expect.
    """

    kind: Kind
    subject: str
    began: float
    ended: float
    outcome: Outcome
    session: str = ""
    handle: str = ""
    secret: int = -1
    writer: str = ""
    value: int = 0
    found: Seen | None = None
    is_last: bool = False
    is_apart: bool = False
    staleness: float = 0.0
    is_corrupted: bool = False
    is_foreign: bool = False
    problem: str = ""
    identifier: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Tell it in a line of a history."""
        what = {Kind.ADD: f" {self.value:+}", Kind.SET: f" {self.writer}={self.value}", Kind.READ: f" -> {self.found}"}
        words = f"{self.began:.4f}..{self.ended:.4f} {self.writer or '-'} {self.kind}{what.get(self.kind, '')}"
        return f"{words} ({self.outcome}, secret {self.secret}){': ' if self.problem else ''}{self.problem}"


class Ledger:
    """The entries of a run. Adding is safe from any thread."""

    def __init__(self, told: Callable[[str], None] | None = None) -> None:
        """Begin an empty one. told: is handed each entry as a line too, and before that what begins."""
        self.entries: Final[list[Operation]] = []
        self._told = told

    def begins(self, operation: Operation) -> None:
        """Tell of an operation that is about to begin: should its process be killed, it is unknown."""
        if self._told is not None:
            self._told(to_line(operation))

    def add(self, operation: Operation) -> None:
        """Enter an operation."""
        self.entries.append(operation)
        if self._told is not None:
            self._told(to_line(operation))


def to_line(operation: Operation) -> str:
    """Write an operation as a line of JSON."""
    return json.dumps(asdict(operation))


def from_lines(lines: Iterable[str]) -> list[Operation]:
    """Read the lines of one worker, which does one thing after the other: the last that began may have no end."""
    found: list[Operation] = []
    for line in lines:
        fields: dict[str, Any] = json.loads(line)
        fields["kind"], fields["outcome"] = Kind(fields["kind"]), Outcome(fields["outcome"])
        fields["found"] = Seen(**fields["found"]) if fields["found"] else None
        operation = Operation(**fields)
        if found and found[-1].ended == float("inf"):
            found.pop()
        found.append(operation)
    return found


class Trace:
    """How often a write of the present operation may have been carried out by a server.

    along: those of the operations whose changes the present one's writes carry out too. is_along: another's carry
    this one's out, or may do so when this one has ended.
    """

    __slots__ = ("along", "is_along", "writes")

    def __init__(self) -> None:
        self.writes = 0
        self.along: list[Trace] = []
        self.is_along = False


present: ContextVar[Trace] = ContextVar("present")
"""The trace of the operation that runs in this context."""


def watch(sessions: Operations) -> None:
    """Let *sessions*, before anything is done with them, tell the present trace what they send, and for whom."""
    transport: Any = sessions._store.transport
    exchange = transport.exchange

    async def watched(batches: list[Batch], ends_at: float) -> None:
        await exchange(batches, ends_at)
        trace = present.get(None)
        if trace is not None:
            count = sum(map(_may_have_written, batches))
            for one in (trace, *trace.along):
                one.writes += count

    transport.exchange = watched
    transport.call = partial(Carrier.call, transport)  # by way of it, as no shorter way goes
    sessions._writer._turns = _WatchedTurns(transport)


class _WatchedTurns(Turns):
    """Knows whose changes are carried out along with whose (docs/decisions/0026)."""

    def _start(self) -> None:
        super()._start()
        self._traces: dict[int, Trace] = {}

    async def wait(self, handle: Handle, writing: Writing) -> None:
        self._traces[id(writing)] = present.get(Trace())
        try:
            await super().wait(handle, writing)
        finally:
            del self._traces[id(writing)]

    def gather(self, writing: Writing) -> list[Writing]:
        found = super().gather(writing)
        traces = [self._traces[id(one)] for one in found if id(one) in self._traces]
        for trace in traces:
            trace.is_along = True
        present.get(Trace()).along = traces
        return found


def _may_have_written(batch: Batch) -> bool:
    """Say whether a script may have run: all writes but touches are scripts, and one that ran gives no error."""
    scripts = [place for place, command in enumerate(batch.commands) if command[0] == "EVALSHA"]
    if any(not isinstance(reply, Exception) for place, reply in enumerate(batch.replies) if place in scripts):
        return True
    if batch.error is None or not any(place >= len(batch.replies) for place in scripts):
        return False
    never_sent = isinstance(batch.error, LostConnection) and " connecting to " in str(batch.error)
    return not never_sent
