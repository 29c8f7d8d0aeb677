"""The near cache's settings, and what it can tell of itself."""

from dataclasses import dataclass
from datetime import timedelta

from coatcheck.model.errors import ConfigurationError

_SHORTEST = timedelta(milliseconds=10)
_LONGEST_STALENESS = timedelta(seconds=10)
_LONGEST_AGE = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class NearCache:
    """Sessions kept in the memory of each process, so that most loads do not ask the store. docs/near-cache.md.

    staleness: what another process did to a session (a save, an end) may go unnoticed by a load for this long after the
        store has done it, and no longer: 10 ms to 10 s. What this process did itself is known at once.
    max_age: how long a session is kept without being read from the store anew; at least *staleness*, at most an hour.
    max_sessions, max_bytes: how much is kept at most; what was read first goes first. Bytes are those of the attributes
        and an estimate of what Python adds.
    ends_wait: whether what ends sessions (`revoke` and its kin, `erase`, a sign-out) returns only when *staleness* has
        passed behind it: then no process accepts them any more. What a sign-in ends, beyond a limit or in its own
        place, is not waited for.
    """

    staleness: timedelta = timedelta(milliseconds=500)
    max_age: timedelta = timedelta(minutes=1)
    max_sessions: int = 10_000
    max_bytes: int = 32 * 1024 * 1024
    ends_wait: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for name, least, most in (
            ("staleness", _SHORTEST, _LONGEST_STALENESS),
            ("max_age", self.staleness, _LONGEST_AGE),
        ):
            value: object = getattr(self, name)
            if not isinstance(value, timedelta) or not least <= value <= most:
                raise ConfigurationError(f"{name} is a timedelta from {least} to {most}, not {value!r}")
        for name in ("max_sessions", "max_bytes"):
            number: object = getattr(self, name)
            if type(number) is not int or number < 1:
                raise ConfigurationError(f"{name} is a whole number, at least 1, not {number!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class NearCounts:
    """What a near cache has done in this process since it was made, and how it stands. Under threads, a close guess.

    hits, misses: loads that were answered by it, and those that asked the store. dropped: sessions that it let go since
    they were written, here or elsewhere. sessions, bytes: what it holds. behind: by how much what it knows may lag
    behind the store, at most, among the servers it is connected to; None while it answers nothing.
    """

    hits: int
    misses: int
    dropped: int
    sessions: int
    bytes: int
    behind: timedelta | None
