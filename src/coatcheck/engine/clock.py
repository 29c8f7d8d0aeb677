"""The server's time, as far as a client can know it.

Deadlines are measured on the server's clock, whatever the clocks of the application servers say. `Clock`
learns the server's time from a TIME reply and counts on from there with the monotonic clock, so a wrong
or stepped wall clock changes nothing. The engine renews it about once a minute, in the same round trip
as another command.
"""

import time
from math import ceil, inf
from typing import Final

_GOOD_FOR: Final = 60.0
_TOO_SLOW: Final = 1.0
_DRIFT: Final = 0.001
"""Of the time since it was learned: two clocks that are being corrected (500 ppm each, mostly) part no faster."""


class Clock:
    """The server's clock, in whole milliseconds since 1970-01-01 UTC.

    due_at: from when on the server is to be asked again (monotonic, seconds).
    """

    __slots__ = ("_reading", "due_at")

    def __init__(self) -> None:
        """Start without knowing the time."""
        self.due_at = -inf
        self._reading: tuple[float, float, float] | None = None
        """How far it is ahead of the monotonic clock (ms), when that was learned and how long it took (seconds)."""

    @property
    def is_known(self) -> bool:
        """Whether the server's time was ever learned."""
        return self._reading is not None

    def learn(self, reply: tuple[int, int], asked_at: float) -> None:
        """Take the reply to TIME (seconds, microseconds), asked for at *asked_at* (monotonic), as the present moment.

        A reply that took over a second says too little; it is used only while there is nothing better.
        """
        received = time.monotonic()
        if self._reading is not None and received - asked_at > _TOO_SLOW:
            return
        seconds, microseconds = reply
        ahead = int(seconds) * 1000 + int(microseconds) / 1000 - received * 1000
        self._reading = ahead, received, received - asked_at
        self.due_at = received + _GOOD_FOR

    def now(self) -> int:
        """Give the server's time. Raises RuntimeError before it was learned.

        It is behind by as long as the reply was on its way, and never ahead but for what the clocks have drifted since.
        """
        if self._reading is None:
            raise RuntimeError("the server's time is not known yet")
        return int(time.monotonic() * 1000 + self._reading[0])

    def latest(self) -> int:
        """Give the latest that the server's time can be, unless it was set since. Raises RuntimeError as `now` does."""
        now = self.now()
        _, received, took = self._reading or (0.0, 0.0, 0.0)
        return now + 1 + ceil(1000 * (took + _DRIFT * (time.monotonic() - received)))
