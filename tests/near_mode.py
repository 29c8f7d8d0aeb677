"""The near mode of `make near`: every load that can be is answered from a near cache, in all processes of the tests.

COATCHECK_TEST_ALL_NEAR turns it on, and is the staleness in ms of the near cache that sessions get whose policy has
none. A test expects to read what others have written, at its first load too. So each load of such sessions

- waits until the near cache knows of all that the store had done when the load began, or until `staleness` has passed,
  when it promises the same; for that the store is asked more often than four times in a staleness, while loads wait;
- is done again where the store had to be asked, for the near cache has the session then.

What a load counts for is told at the end: see tests/fix_near.py.
"""

import os
import time
from dataclasses import replace
from datetime import timedelta
from functools import cache, wraps
from pathlib import Path
from typing import Any

_PREFIX = "COATCHECK_TEST_ALL_NEAR"
_COUNTS = f"{_PREFIX}_COUNTS"

STALENESS = timedelta(milliseconds=int(os.environ.get(_PREFIX, "0")))
IS_ON = bool(STALENESS)
ENVIRONMENT = {name: value for name, value in os.environ.items() if name.startswith(_PREFIX)}

LOADS_SEND_NOTHING = "it counts what loads send, and one from memory sends nothing"
"""Why a test is left out in this mode."""

_INTERVAL = 0.001  # seconds between questions, for two of which a load waits; where none has waited lately, the usual
_LATELY = 0.2
_PAUSE = 0.0005
_TRIES = 2

_waited_at = 0.0


def count_in(path: Path) -> None:
    """Have this process, and those that it starts from now on, count their loads in the file *path*."""
    os.environ[_COUNTS] = ENVIRONMENT[_COUNTS] = str(path)


def stop_counting() -> None:
    """Remove that file, which is not counted in again."""
    Path(os.environ[_COUNTS]).unlink()


def counted(since: int) -> tuple[int, int, int]:
    """Count the loads that were noted behind byte *since*: those from memory, all; and say where they end."""
    noted = Path(os.environ[_COUNTS]).read_bytes()
    return noted.count(b"h", since), len(noted) - since, len(noted)


@cache
def _counts() -> int | None:
    path = os.environ.get(_COUNTS)
    return None if path is None else os.open(path, os.O_WRONLY | os.O_APPEND)


def _count(session: Any) -> None:
    file = _counts()
    if session is not None and file is not None:
        os.write(file, b"h" if session.is_near else b"m")  # processes and threads do not mix in one write


def install() -> None:
    """Turn it on in this process."""
    from coatcheck import NearCache, SessionPolicy  # noqa: PLC0415  otherwise `tests` does not import the library
    from coatcheck.engine.operations import Operations  # noqa: PLC0415
    from coatcheck.runtime import near  # noqa: PLC0415
    from coatcheck.runtime.carrier import Carrier  # noqa: PLC0415

    begin, load = Operations.__init__, Operations.load
    near._Conversation._interval = property(lambda line: _interval(line._staleness / near._QUESTIONS), _leave)

    @wraps(begin)
    def begin_near(self: Any, transport: Any, *, policy: Any = None, prefix: str = "cc", **options: Any) -> None:
        policy = policy or SessionPolicy()
        self.is_filled = policy.near_cache is None
        if self.is_filled:
            policy = replace(policy, near_cache=NearCache(staleness=STALENESS))
        begin(self, transport, policy=policy, prefix=prefix, **options)
        carrier = getattr(transport, "_sound", transport)  # of tests/fix_line.py
        if isinstance(carrier, Carrier):  # Sessions replace it by their own; operations alone would have none
            near.links_of(carrier, self.near, self.policy, prefix)

    @wraps(load)
    async def load_near(self: Any, identifier: Any, *, fresh: bool = False) -> Any:
        if fresh:
            return await load(self, identifier, fresh=True)
        if self.is_filled:
            await _until_known(self)
        session = await load(self, identifier)
        for _ in range(_TRIES if self.is_filled else 0):
            if session is None or session.is_near or session.is_leased:
                break
            await _until_known(self)
            session = await load(self, identifier)
        _count(session)
        return session

    Operations.__init__, Operations.load = begin_near, load_near


def _interval(usual: float) -> float:
    return _INTERVAL if time.monotonic() < _waited_at + _LATELY else usual


def _leave(line: Any, usual: float) -> None:
    """Take no note of what a line has reckoned for itself."""


async def _until_known(operations: Any) -> None:
    """Wait until the near cache knows of all that the store has done by now."""
    global _waited_at  # noqa: PLW0603  lines are threads, and nobody but them asks for it
    _waited_at = time.monotonic()
    wanted = time.monotonic() + STALENESS.total_seconds()
    links = operations.near.lines
    while links is not None and links._links and time.monotonic() < wanted:
        lines = links.lines()
        if lines and all(line.until >= wanted for line in lines):
            return
        await operations._store.transport.pause(_PAUSE)


if IS_ON:
    install()
