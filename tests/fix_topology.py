"""Local topologies for tests, and a look at what they may have left behind."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from coatcheck import Session, StoreUnavailable
from coatcheck.runtime.local.settings import TopologySettings
from coatcheck.runtime.local.topology import LocalTopology


def pids_in(folder: Path) -> list[int]:
    """List the living processes whose working directory is *folder* or in it, were it removed too."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            at = str((path / "cwd").readlink())
        except OSError:  # it has ended, or is a zombie
            continue
        if at.removesuffix(" (deleted)").startswith(str(folder)):
            found.append(int(path.name))
    return found


def is_gone(folder: Path) -> bool:
    """Say whether neither a process nor a file of the topology in *folder* is left."""
    return not folder.exists() and not pids_in(folder)


def loads(sessions: Any, session: Session) -> bool:
    """Say whether *session* can be loaded, which it cannot while the store is not reached."""
    try:
        return sessions.load(session.identifier) is not None
    except StoreUnavailable:
        return False


@pytest.fixture
def start_topology() -> Iterator[Callable[..., LocalTopology]]:
    """Start local topologies, stopped in the end; the arguments are the kind and those of `TopologySettings`."""
    with ExitStack() as stack:
        yield lambda kind, **settings: stack.enter_context(LocalTopology(kind, TopologySettings(**settings)))
