"""The server's time, as far as a client can know it.

Deadlines are measured on the server's clock, whatever the clocks of the application servers say. `Clock`
learns the server's time from a TIME reply and counts on from there with the monotonic clock, so a wrong
or stepped wall clock changes nothing. The engine renews it about once a minute, in the same round trip
as another command.
"""

import time
from typing import Final

_GOOD_FOR: Final = 60.0
_TOO_SLOW: Final = 1.0


class Clock:
    """The server's clock, in whole milliseconds since 1970-01-01 UTC."""

    __slots__ = ("_ahead", "_learned")

    def __init__(self) -> None:
        """Start without knowing the time."""
        self._ahead: float | None = None
        self._learned = 0.0

    @property
    def is_known(self) -> bool:
        """Whether the server's time was ever learned."""
        return self._ahead is not None

    @property
    def is_due(self) -> bool:
        """Whether the server's time should be asked for again."""
        return self._ahead is None or time.monotonic() - self._learned > _GOOD_FOR

    def learn(self, reply: tuple[int, int], asked_at: float) -> None:
        """Take the reply to TIME (seconds, microseconds), asked for at *asked_at* (monotonic), as the present moment.

        A reply that took over a second says too little; it is used only while there is nothing better.
        """
        received = time.monotonic()
        if self._ahead is not None and received - asked_at > _TOO_SLOW:
            return
        seconds, microseconds = reply
        self._ahead = int(seconds) * 1000 + int(microseconds) / 1000 - received * 1000
        self._learned = received

    def now(self) -> int:
        """Give the server's time. Raises RuntimeError before it was learned."""
        if self._ahead is None:
            raise RuntimeError("the server's time is not known yet")
        return int(time.monotonic() * 1000 + self._ahead)
