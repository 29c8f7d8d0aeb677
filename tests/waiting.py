"""Waiting for what another thread, process or server brings about. Nothing else in the tests sleeps."""

import asyncio
import time
from collections.abc import Callable

PATIENCE_SECONDS = 30.0
"""How long a test waits at most; what is to be quick says so itself."""

SLACK = 0.75
"""Seconds by which what has a deadline may miss it, on a machine that does other things too."""

_PAUSE = 0.01


def wait_until(condition: Callable[[], object], what: str, limit: float = PATIENCE_SECONDS) -> None:
    """Wait until *condition* holds; fail after *limit* seconds, naming *what* was waited for."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"not in {limit:g} s: {what}"
        time.sleep(_PAUSE)


async def a_wait_until(condition: Callable[[], object], what: str, limit: float = PATIENCE_SECONDS) -> None:
    """Do as `wait_until`, letting other tasks run."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"not in {limit:g} s: {what}"
        await asyncio.sleep(_PAUSE)
