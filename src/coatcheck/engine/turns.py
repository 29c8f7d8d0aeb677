"""Turns: those in one process who write the same session at once do so one after another, or together.

Compare-and-set is what protects a write, and it fails for all but one of those who begin with the same record. Here
each begins with the record that the one before has just stored, and whoever has the turn carries out what the others
wait to write along with its own. Nothing depends on that: who has waited in vain goes on without a turn.
"""

from collections import deque
from collections.abc import Sequence
from os import getpid
from threading import RLock
from typing import Final, Literal

from msgspec import Struct

from coatcheck.engine.durability import Receipt
from coatcheck.engine.transport import Signal, Transport
from coatcheck.model.delta import Operation
from coatcheck.model.record import Header, Payload
from coatcheck.model.ticket import Handle

_PATIENCE: Final = 3
"""How many waits of a signal somebody waits at most while others have their turns: three quarters of its time."""

_MOST_TOGETHER: Final = 32
"""Writes that one carries out along with its own: their ids must all be among those that a record keeps."""

Stored = tuple[Header, Payload]


class Writing(Struct, eq=False):
    """Somebody who writes a session, or waits to.

    changes: what another may carry out for it; None where it needs a write of its own. write_id: of the changes.
    line: set while it has the turn. outcome: what the store holds since another has carried the changes out; False:
    nothing, for the session has ended; None: nobody has.
    """

    changes: list[Operation] | None
    write_id: bytes
    receipt: Receipt
    line: "_Line | None" = None
    signal: Signal | None = None
    outcome: Stored | Literal[False] | None = None

    def __repr__(self) -> str:
        """Show what may be logged: nothing of what is written."""
        return f"Writing(receipt={self.receipt!r}, has_turn={self.line is not None})"

    def later_than(self, base: Header) -> Stored | None:
        """Give what the one who had the turn before has stored, if it is later than *base*."""
        stored = self.line.stored if self.line else None
        return stored if stored is not None and stored[0].revision > base.revision else None


class _Line(Struct, eq=False):
    """Those who wait to write one session, the first one first; taken: whose changes the one with the turn has.

    stored: what the store holds as far as the last writer knows. passed: how many have got what they waited for.
    """

    waiting: deque[Writing] | tuple[()] = ()
    taken: Sequence[Writing] = ()
    stored: Stored | None = None
    passed: int = 0


class Turns:
    """The lines of one process: for the sessions that are being written right now."""

    __slots__ = ("_lines", "_lock", "_pid", "_transport")

    def __init__(self, transport: Transport) -> None:
        """Wait as *transport* does."""
        self._transport = transport
        self._start()

    def take(self, handle: Handle, writing: Writing) -> bool:
        """Give *writing* its turn to write the session *handle*, unless another has one; say whether it has it."""
        if self._pid != getpid():  # whoever has a turn here has it in the parent
            self._start()
        line = _Line()
        if self._lines.setdefault(handle, line) is not line:
            return False
        writing.line = line
        return True

    async def wait(self, handle: Handle, writing: Writing) -> None:
        """Wait for *writing*'s turn, or until another has carried it out.

        Neither has come after three quarters of the time that it had left, or after a quarter in which the line did not
        move: then it goes on without, in the rest of that time. Raises StoreUnavailable where there was none left.
        """
        with self._lock:
            line = self._lines.get(handle)
            if line is None:  # who had the turn has left meanwhile
                self.take(handle, writing)  # or somebody else has: then it goes on without one
                return
            signal = writing.signal = self._transport.signal()
            line.waiting = line.waiting or deque()  # most lines never get one
            line.waiting.append(writing)
        try:
            await _wait(line, signal)
        except BaseException:
            self._withdraw(handle, line, writing)
            self.leave(handle, writing)
            raise
        self._withdraw(handle, line, writing)

    def gather(self, writing: Writing) -> Sequence[Writing]:
        """Give those whose changes *writing*, which has the turn, may carry out along with its own."""
        line = writing.line
        if line is None or writing.changes is None or not (line.waiting or line.taken):
            return ()
        with self._lock:
            room = _MOST_TOGETHER - len(line.taken)
            found = [other for other in line.waiting if other.changes is not None][:room]
            line.taken = (*line.taken, *found)
            line.waiting = deque(other for other in line.waiting if other not in found)
            return line.taken

    def serve(self, writing: Writing, others: Sequence[Writing], outcome: Stored | Literal[False]) -> None:
        """Tell the *others*, of those whom `gather` gave, what came of the write that *writing* did for them too."""
        line = writing.line
        if line is None:
            return
        line.stored = outcome or None
        if not others:
            return
        with self._lock:
            for other in others:
                if other in line.taken and other.signal is not None:
                    line.taken = [waiter for waiter in line.taken if waiter is not other]
                    line.passed += 1
                    other.receipt.reached = writing.receipt.reached
                    other.outcome = outcome
                    other.signal.give()

    def leave(self, handle: Handle, writing: Writing) -> None:
        """Give the turn, if *writing* has it, to the next in line."""
        line = writing.line
        if line is None:
            return
        with self._lock:
            writing.line = None
            line.passed += 1
            if line.taken:
                line.waiting, line.taken = deque((*line.taken, *line.waiting)), ()
            while line.waiting:
                following = line.waiting.popleft()
                if following.signal is not None and following.signal.give():
                    following.line = line
                    return
            if self._lines.get(handle) is line:
                del self._lines[handle]

    def _start(self) -> None:
        self._lines: dict[Handle, _Line] = {}
        self._lock = RLock()  # what is left of a task may be thrown away, and leave its line, at any moment
        self._pid = getpid()

    def _withdraw(self, handle: Handle, line: _Line, writing: Writing) -> None:
        """Take *writing* out of *line*, unless it has got what it waited for."""
        with self._lock:
            if writing.line is not None or writing.outcome is not None:
                return
            if line.waiting and writing in line.waiting:
                line.waiting.remove(writing)
            line.taken = [waiter for waiter in line.taken if waiter is not writing]
            if self._lines.get(handle) is line:  # whoever comes now is not to wait in vain as well
                del self._lines[handle]


async def _wait(line: _Line, signal: Signal) -> None:
    for _ in range(_PATIENCE):
        passed = line.passed
        if await signal.wait() or line.passed == passed:
            return
