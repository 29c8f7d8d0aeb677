"""What protects a store in trouble from its clients, and clients from waiting for it: retry budget and breaker.

Both count only; the time is handed to them. Losing a count to another thread does no harm: nothing here locks.
"""

import secrets
from typing import Final

_SHARE: Final = 0.1
_RESERVE: Final = 10.0
_A_SECOND: Final = 1.0

FAILURES: Final = 5
"""So many attempts in a row must get no answer before a server is given a rest."""

REST_SECONDS: Final = 1.0
"""How long a server is left alone at most, before one call tries it again."""


class Budget:
    """How many retries may be sent: one for ten calls, and one a second, with up to ten saved up.

    The one a second is for applications with few calls, whose idle connections a proxy may close before each of them.
    """

    __slots__ = ("_at", "_tokens")

    def __init__(self, now: float) -> None:
        """Begin with the full reserve. now: seconds, monotonic."""
        self._tokens = _RESERVE
        self._at = now

    def count(self) -> None:
        """Take note of a call."""
        if self._tokens < _RESERVE:
            self._tokens += _SHARE

    def spend(self, now: float) -> bool:
        """Take a retry out of the budget; False if there is none left."""
        self._tokens = min(_RESERVE, self._tokens + (now - self._at) * _A_SECOND)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Breaker:
    """Decides whether a server is tried at all. One that has given no answer FAILURES times in a row gets a rest.

    After the rest, one call at a time is let through; the first answer ends it (the caller then drops the breaker).
    """

    __slots__ = ("_failures", "_until")

    def __init__(self) -> None:
        """Begin without a failure."""
        self._failures = 0
        self._until = 0.0

    @property
    def failures(self) -> int:
        """How many attempts in a row got no answer."""
        return self._failures

    def admits(self, now: float) -> bool:
        """Say whether to try; if it is a single probe, the next one is a rest away. now: seconds, monotonic."""
        if self._failures < FAILURES:
            return True
        if now < self._until:
            return False
        self._until = now + _rest()
        return True

    def fail(self, now: float) -> None:
        """Take note of an attempt without an answer."""
        self._failures += 1
        if self._failures >= FAILURES:
            self._until = now + _rest()


def _rest() -> float:
    """Between half of REST_SECONDS and all of it: not all processes are to try at once."""
    return REST_SECONDS * (0.5 + secrets.randbelow(501) / 1000)


def backoff(attempt: int) -> float:
    """Say how long to wait after *attempt* (1, 2, ...), in seconds: at random up to 10 ms, 20, 40."""
    longest = 10 << min(attempt - 1, 2)
    return (1 + secrets.randbelow(longest)) / 1000
