"""Ports of the servers of a run. Runs that go on at once take theirs from shares that have none in common.

Otherwise a server of the one might get the port of a server that the other has just killed, and its clients.
"""

import secrets
from typing import Final

from coatcheck.runtime.local.node import is_free

NODES: Final = 6
"""Servers of a topology, at most."""

_ALL: Final = range(10_240, 22_000)
"""Those that `LocalTopology` chooses from too: no system gives them away by itself."""

_share: list[range] = [_ALL]


def take_share(place: int, shares: int) -> None:
    """Let this process choose from the share called *place*, 0 to *shares* - 1, from now on."""
    size = len(_ALL) // shares
    _share[0] = _ALL[place * size : (place + 1) * size]


def free_row() -> int:
    """Give the first of NODES free ports in a row, with room for a cluster's bus."""
    while True:
        first = secrets.choice(_share[0][: -NODES + 1])
        if all(is_free(port) for port in range(first, first + NODES)):
            return first
