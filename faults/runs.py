"""Runs of a cell: one after the other, or some at once, each in a process of its own."""

import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from faults.cells import CELLS
from faults.levels import Level
from faults.ports import take_share
from faults.stage import NotBegun, Run, Stage

_REPLAYS: Final = 10


class Runs:
    """Plays cells. Within the block its processes live."""

    def __init__(self, jobs: int, keep: Path | None = None) -> None:
        """Play *jobs* runs at once. 1: one after the other, in this process. keep: see `Stage`."""
        self._jobs: Final = jobs
        self._keep: Final = keep
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        """Begin."""
        if self._jobs > 1:
            context = multiprocessing.get_context("spawn")  # threads of who plays are no business of theirs
            places: Any = context.Queue()
            for place in range(self._jobs):
                places.put(place)
            self._pool = ProcessPoolExecutor(self._jobs, context, initializer=_settle_in, initargs=(places, self._jobs))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """End the processes, when what they do has ended."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def play(self, name: str, level: Level, count: int, *, is_quick: bool) -> Iterator[Run]:
        """Give *count* runs of the cell called *name*, as they end; to go through them raises Skipped.

        Processes begin with them now, when they have done what they were given before.
        """
        if self._pool is None:
            return (_play(name, level, is_quick, self._keep) for _ in range(count))
        return _ended([self._pool.submit(_play, name, level, is_quick, self._keep) for _ in range(count)])


def _ended(futures: list[Future[Run]]) -> Iterator[Run]:
    try:
        for future in as_completed(futures):
            yield future.result()
    finally:
        for future in futures:
            future.cancel()


def _settle_in(places: Any, shares: int) -> None:
    take_share(places.get(), shares)


def _play(name: str, level: Level, is_quick: bool, keep: Path | None) -> Run:  # noqa: FBT001  a pool knows no names
    for replays in range(_REPLAYS):
        try:
            return replace(Stage(CELLS[name], level, is_quick=is_quick, keep=keep).run(), replays=replays)
        except NotBegun as reason:
            print(f"{name} at {level} is played again: {reason}", file=sys.stderr, flush=True)
    raise RuntimeError(f"{name} at {level} could not begin {_REPLAYS} times in a row")
