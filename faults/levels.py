"""The levels of durability that the workload is run at, and what it is given to reach them."""

from dataclasses import replace
from enum import StrEnum
from typing import Final

import coatcheck
from coatcheck.runtime.local.settings import Kind
from faults.workload import POLICY


class Skipped(Exception):
    """A cell cannot be run here; the text says why."""


class Level(StrEnum):
    """When a write is acknowledged: when it is in the memory of the primary, on replicas, on its disk, on all."""

    D0 = "D0"
    D1 = "D1"
    D2 = "D2"
    D3 = "D3"

    @property
    def needs_replicas(self) -> bool:
        """Whether nothing may be acknowledged while a replica is missing."""
        return self in {Level.D1, Level.D3}


NO_LEVEL: Final[frozenset[Level]] = frozenset()
EVERY_LEVEL: Final = frozenset(Level)
UNTIL_DISK: Final = frozenset({Level.D0, Level.D1})
UNTIL_REPLICATED: Final = frozenset({Level.D0, Level.D2})
"""The levels at which a fault may undo what was acknowledged: a lost process, a lost server."""

DEADLINES: Final = {Level.D0: 0.25, Level.D1: 0.25, Level.D2: 4.0, Level.D3: 4.0}
"""Seconds for an operation. The default of `coatcheck.Sessions`, and where the disk is waited for what that may take:
a server that keeps its word takes a second or two with `appendfsync everysec`, and replicas tell once a second what
they have synced."""

WORKERS: Final = {Level.D0: 3, Level.D1: 3, Level.D2: 3, Level.D3: 10}
"""Threads, and as many tasks. At D3 each write takes a second, so that more are needed to have as much under way."""

_LEVELS: Final = {
    Level.D1: coatcheck.Level.REPLICAS,
    Level.D2: coatcheck.Level.DISK,
    Level.D3: coatcheck.Level.DISK_AND_REPLICAS,
}
_REPLICAS: Final = {Kind.SINGLE: 0, Kind.SENTINEL: 2, Kind.CLUSTER: 1}


def policy_at(level: Level, kind: Kind) -> coatcheck.SessionPolicy:
    """Give the policy of the workload at *level*: all writes wait, for all replicas. Raises Skipped."""
    if level is Level.D0:
        return POLICY
    if level.needs_replicas and not _REPLICAS[kind]:
        raise Skipped(f"{level} is about replicas, of which one server has none")
    writes = dict.fromkeys(("save", "sign_in", "rotation", "revocation"), _LEVELS[level])
    return replace(POLICY, durability=coatcheck.Durability(**writes, replicas=max(1, _REPLICAS[kind])))
