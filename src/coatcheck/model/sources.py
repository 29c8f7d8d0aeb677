"""How much of what costs the store something a single source may cause."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from coatcheck.model.client import network_of
from coatcheck.model.errors import ConfigurationError

_SHORTEST: Final = timedelta(seconds=1)
_LONGEST: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePolicy:
    """What one source may do in a period, which begins with the first thing that counts. None: any number.

    A source is an IPv4 address, or an IPv6 network of 64 bits. Counted in each process by itself.

    creations: how many sessions of nobody its requests may create; sign-ins do not count.
    unknown: how many identifiers it may send that are well-formed and open nothing. per: how long a period lasts.
    """

    creations: int | None = None
    unknown: int | None = None
    per: timedelta = timedelta(minutes=1)

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for name in ("creations", "unknown"):
            number = getattr(self, name)
            if number is not None and (type(number) is not int or number < 1):
                raise ConfigurationError(f"{name} is a whole number from 1 on, or None for any number, not {number!r}")
        if self.creations is None and self.unknown is None:
            raise ConfigurationError("a SourcePolicy limits something: give creations or unknown, or sources=None")
        if type(self.per) is not timedelta or not _SHORTEST <= self.per <= _LONGEST:
            raise ConfigurationError(f"per is a timedelta from 1 second to 1 day, not {self.per!r}")

    def __str__(self) -> str:
        """Give it in a line."""
        counts = [("creations", self.creations), ("unknown identifiers", self.unknown)]
        return ", ".join(f"{most} {what}" for what, most in counts if most is not None) + f" in {self.per}"


def source_of(address: str | None) -> str | None:
    """Name the source that *address* belongs to; None for what is no IP address: that cannot be limited."""
    return network_of(address, 32, 64)


def shown(source: str) -> str:
    """Give a *source* as it may be logged: its network."""
    return network_of(source.partition("/")[0], 24, 48) or ""
