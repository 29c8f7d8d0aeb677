"""One connection to a server that all tasks of an event loop share.

What is asked for in one turn of the loop leaves in one write, and replies come in the order of the commands (Redis
protocol: pipelining). A task that gives up waiting leaves its place in the queue, so its reply is taken off it and
reaches nobody. Nothing waits for a turn of its own: a lone call leaves at the end of the turn that it is made in.

What waits is bounded, in calls and in bytes; a call beyond that is refused at once, and nothing of it is sent.

redis-py opens the connection (TLS, credentials, database); from then on this reads and writes it.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import hiredis
from msgspec import Struct
from redis._parsers.base import BaseParser
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as NoAnswer

from coatcheck.engine.transport import Command
from coatcheck.runtime.errors import Interrupted, Overloaded

_A_MOMENT: Final = 0.001

MOST_WAITING: Final = 10_000
"""Calls without an answer, those among them that nobody waits for any more."""

MOST_UNSENT: Final = 32 * 1024 * 1024
"""Bytes of one turn, and as many again of earlier ones that the server has not taken, and those of the last call."""

_LARGE: Final = 4096
"""Bytes of a command that are worth counting: of smaller ones the number of calls is bound enough."""


class _Waiting(Struct, eq=False):
    """A call on its way. ends_at: until when to wait for it, by the loop's clock."""

    replies: asyncio.Future[list[Any]]
    count: int
    ends_at: float
    found: list[Any] | None = None


class SharedConnection(asyncio.Protocol):
    """A connection, from when redis-py has opened it until it is lost."""

    def __init__(self, connection: Any) -> None:
        """Take over *connection* (of redis-py's asyncio), which is connected and has no reply outstanding."""
        self._loop = asyncio.get_running_loop()
        self._connection = connection  # which would close it if nobody held it
        self._transport: asyncio.Transport = connection._writer.transport  # noqa: SLF001  it gives it to nobody
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=BaseParser.parse_error)
        self._waiting: deque[_Waiting] = deque()
        self._outgoing: list[bytes] = []
        self._large = 0  # bytes of what is large in it
        self._is_paused = False
        self._most_waiting = MOST_WAITING  # none while there are too many bytes
        self._alarm: asyncio.TimerHandle | None = None
        self._suspect: _Waiting | None = None
        self._is_retired = False
        self.is_lost = False
        self._transport.set_protocol(self)
        self._transport.set_write_buffer_limits(high=MOST_UNSENT)

    def call(self, commands: Sequence[Command], seconds: float) -> asyncio.Future[list[Any]]:
        """Send *commands*; give what will be their replies, the errors among them as exceptions.

        It fails with Interrupted when the connection is lost, and with redis-py's TimeoutError when the replies have
        not come after so many *seconds*: then the connection is given up, for all. Raises Overloaded.
        """
        if len(self._waiting) >= self._most_waiting:
            raise self._overloaded()
        if not self._outgoing:
            self._loop.call_soon(self._send)
        for command in commands:
            packed = hiredis.pack_command(command)  # type: ignore[arg-type]
            self._outgoing.append(packed)
            if len(packed) > _LARGE:
                self._large += len(packed)
                self._set_bound()
        call = _Waiting(self._loop.create_future(), len(commands), self._loop.time() + seconds)
        self._waiting.append(call)
        if self._alarm is None:
            self._alarm = self._loop.call_at(call.ends_at, self._look_at_the_time)
        return call.replies

    def retire(self) -> None:
        """Close it when the replies that are under way have come."""
        self._is_retired = True
        if not self._waiting:
            self.close()

    def close(self) -> None:
        """Close it now."""
        self._give_up(Interrupted("the connection was closed"))

    def _set_bound(self) -> None:
        self._most_waiting = 0 if self._is_paused or self._large >= MOST_UNSENT else MOST_WAITING

    def _overloaded(self) -> Overloaded:
        if self._most_waiting:
            return Overloaded(f"{MOST_WAITING:,} calls of one event loop wait for its answer")
        return Overloaded(f"{MOST_UNSENT // 1024**2} MiB of one event loop's calls wait to be sent")

    def _send(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if self._large:
            self._large = 0
            self._set_bound()
        if outgoing and not self.is_lost:
            self._transport.write(b"".join(outgoing))

    def _look_at_the_time(self) -> None:
        """Give the connection up where the oldest call has waited for too long."""
        self._alarm = None
        if not self._waiting:
            return
        oldest, now = self._waiting[0], self._loop.time()
        if oldest.ends_at > now or oldest is not self._suspect:
            # an event loop that was busy may find its alarms before the replies that have come: look once more
            self._suspect = oldest if oldest.ends_at <= now else None
            self._alarm = self._loop.call_at(max(oldest.ends_at, now + _A_MOMENT), self._look_at_the_time)
            return
        if not oldest.replies.done():
            oldest.replies.set_exception(NoAnswer("no answer in time"))
        self._give_up(Interrupted("an earlier answer did not come in time"))

    def _give_up(self, reason: Interrupted) -> None:
        self.is_lost = True
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        waiting, self._waiting = self._waiting, deque()
        self._outgoing = []
        for call in waiting:
            if not call.replies.done():
                call.replies.set_exception(Interrupted(*reason.args))
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport.abort()  # once: a closed TLS transport of asyncio knows it no longer
            connection._parser.on_disconnect()  # noqa: SLF001  redis-py closes without waiting only where no task runs
            connection._close()  # noqa: SLF001  the same

    # What the loop calls

    def data_received(self, data: bytes) -> None:
        """Hand on the replies that are complete."""
        reader, waiting = self._reader, self._waiting
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not False:
                call = waiting[0]
                found = [reply] if call.found is None else [*call.found, reply]
                if len(found) < call.count:
                    call.found = found
                    continue
                waiting.popleft()
                if not call.replies.done():
                    call.replies.set_result(found)
        except (IndexError, InvalidResponse) as error:
            self._give_up(Interrupted(f"the server sent what nobody has asked for: {error}"))
        if self._is_retired and not waiting:
            self.close()

    def pause_writing(self) -> None:
        """Refuse further calls: the server does not take what it is sent."""
        self._is_paused = True
        self._set_bound()

    def resume_writing(self) -> None:
        """Accept calls again: it has taken most of it."""
        self._is_paused = False
        self._set_bound()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell all who wait."""
        if not self.is_lost:
            self._give_up(Interrupted(str(error) if error else "the server has closed the connection"))
