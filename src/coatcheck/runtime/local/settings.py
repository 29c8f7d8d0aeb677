"""What a local topology is made of: its kind, and the settings of its servers."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from coatcheck.model.errors import ConfigurationError
from coatcheck.model.extras import installation
from coatcheck.runtime._embedded_host import find_server

HOST: Final = "127.0.0.1"
BUS_OFFSET: Final = 10_000
"""A cluster's nodes speak to each other on their port and this; servers before Redis 7 let nobody choose."""

_LOWEST_PORT: Final = 1024
_NODES: Final = 6
_MILLISECOND: Final = timedelta(milliseconds=1)


class Kind(StrEnum):
    """How the servers work together."""

    SINGLE = "single"
    """One server."""
    SENTINEL = "sentinel"
    """A primary, two replicas and three sentinels."""
    CLUSTER = "cluster"
    """A cluster of three primaries with a replica each."""

    @classmethod
    def parse(cls, text: str) -> "Kind":
        """Read the name of a kind. Raises ConfigurationError."""
        try:
            return cls(text)
        except ValueError:
            raise ConfigurationError(f"{text} is no topology: choose from {', '.join(cls)}") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """Let servers take TLS connections only, and speak TLS with each other. Not every binary can."""

    certificate: Path
    key: Path = field(repr=False)
    authority: Path
    clients: bool = False
    """Whether clients must have a certificate, signed by *authority*, too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TopologySettings:
    """How the servers of a local topology are set up. Validated at birth: raises ConfigurationError."""

    server: str | Path | None = None
    """The server program; by default the one of the extra `embedded`. Sentinels run it too."""
    port: int | None = None
    """The first port; each node takes the next. By default free ones are found, below the system's own range."""
    detection: timedelta = timedelta(seconds=1)
    """The silence after which a node counts as down: down-after-milliseconds, cluster-node-timeout."""
    failover_timeout: timedelta = timedelta(seconds=3)
    """Sentinel's failover-timeout: a failover that has failed is tried again after twice that."""
    appendfsync: str | None = "everysec"
    """When the append-only file is synced: always, everysec or no; None writes no file."""
    config: Sequence[str] = ()
    """Further lines of the configuration of every server but the sentinels; they win over the rest."""
    node_config: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Further lines by the name of a node ("node1", "sentinel2"): a replica-priority, a `dir` on another disk."""
    launchers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Words before the command of a node, such as ("env", "FAKETIME=+1h"). They must end in an exec of it."""
    user: str = "default"
    password: str | None = field(default=None, repr=False)
    """What clients and the servers among themselves sign in with, where there is a password."""
    sentinel_user: str = "default"
    sentinel_password: str | None = field(default=None, repr=False)
    """The same for the sentinels."""
    tls: Tls | None = None

    def __post_init__(self) -> None:
        """Refuse what no server could start with."""
        if self.port is not None and not _LOWEST_PORT <= self.port <= 65_536 - BUS_OFFSET - _NODES:
            raise ConfigurationError(f"port {self.port}: choose one from {_LOWEST_PORT} to 55530")
        if min(self.detection, self.failover_timeout) < _MILLISECOND:
            raise ConfigurationError("detection and failover_timeout must be at least a millisecond")
        if self.appendfsync not in {None, "always", "everysec", "no"}:
            raise ConfigurationError(f"appendfsync is {self.appendfsync}: choose from always, everysec, no, or None")
        for line in (*self.config, *(line for lines in self.node_config.values() for line in lines)):
            if not line.isprintable():
                raise ConfigurationError(f"a line of configuration is one printable line, not {line!r}")
        for word in (self.user, self.password or "", self.sentinel_user, self.sentinel_password or ""):
            if not word.isascii() or not word.isprintable() or set(word) & set(" \"'\\"):
                raise ConfigurationError("users and passwords of a local topology are ASCII, without spaces and quotes")

    def program(self) -> str:
        """Find the server program. Raises ConfigurationError."""
        if self.server is None:
            try:
                return str(find_server())
            except ConfigurationError:
                raise ConfigurationError(
                    f"there is no server to start: {installation('embedded')}, or name a program (--server)"
                ) from None
        found = shutil.which(self.server)
        if found is None:
            raise ConfigurationError(f"{self.server} is not a program that can be run here: name another (--server)")
        return str(found)


def milliseconds(duration: timedelta) -> int:
    """Give *duration* as servers take it."""
    return duration // _MILLISECOND
