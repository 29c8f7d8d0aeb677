"""The workload: workers of both facades in this process, threads and tasks of an event loop at once."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from threading import Event, Thread
from typing import Any, Final, Self

import coatcheck
from coatcheck import StoreUnavailable
from coatcheck.engine.operations import Operations
from coatcheck.runtime.sync import run
from faults.ledger import Ledger, Outcome, watch
from faults.workers import Known, People, Worker

POLICY: Final = coatcheck.SessionPolicy(idle_timeout=timedelta(hours=3), absolute_timeout=timedelta(hours=12))


class Workload:
    """Workers of both facades in this process: while the block runs, they work."""

    def __init__(
        self,
        url: str,
        keys: str,
        *,
        seed: str,
        workers: int = 3,
        within: Callable[[], AbstractContextManager[object]] = nullcontext,
        is_apart: bool = False,
        **options: Any,
    ) -> None:
        """Let *workers* threads and as many tasks work at *url*.

        within: what each thread enters. is_apart: see `Operation`. options: of `coatcheck.Sessions`, policy among them.
        """
        self.ledger = Ledger()
        self.people = People(seed)
        self._open: Final = {"url": url, "keys": keys, "policy": POLICY, **options}
        self._workers = workers
        self._within = within
        self._is_apart = is_apart
        self._has_ended = Event()
        self._threads: list[Thread] = []

    def __enter__(self) -> Self:
        """Begin to work."""
        self._blocking = coatcheck.Sessions(**self._open)
        watch(self._blocking.core)
        for number in range(self._workers):
            worker = self._make_worker(f"thread{number}", self._blocking.core)
            self._threads.append(Thread(target=self._work, args=(worker,)))
        self._threads.append(Thread(target=self._work_on_a_loop))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop working."""
        self.stop()
        self._blocking.close()

    def stop(self) -> None:
        """Stop working, when what is under way has ended."""
        self._has_ended.set()
        for thread in self._threads:
            thread.join()

    def near_hits(self) -> int:
        """Say how many loads of the threads their near cache has answered so far."""
        counts = self._blocking.near_cache()
        return counts.hits if counts else 0

    def _work(self, worker: Worker) -> None:
        with self._within():
            run(worker.work(self._has_ended.is_set))

    def _work_on_a_loop(self) -> None:
        with self._within():
            asyncio.run(self._run_tasks())

    async def _run_tasks(self) -> None:
        async with coatcheck.AsyncSessions(**self._open) as sessions:
            watch(sessions)
            workers = [self._make_worker(f"task{number}", sessions) for number in range(self._workers)]
            await asyncio.gather(*(worker.work(self._has_ended.is_set) for worker in workers))

    def _make_worker(self, name: str, sessions: Operations) -> Worker:
        return Worker(name, sessions, self.people, self.ledger, is_apart=self._is_apart)

    @property
    def done(self) -> int:
        """How many operations have been acknowledged so far."""
        return sum(entry.outcome is Outcome.DONE for entry in list(self.ledger.entries))


def read_all(url: str, keys: str, people: People, ledger: Ledger, *, limit: float = 20.0) -> None:
    """Read every session once more, by its handle and by its last identifier, when all is well again.

    Raises StoreUnavailable when it is not within *limit* seconds.
    """
    deadline = time.monotonic() + limit
    with coatcheck.Sessions(url, keys=keys, policy=POLICY, deadline=timedelta(seconds=2)) as sessions:
        reader = Worker("last", sessions.core, people, ledger, is_last=True)
        for one in people.known:
            looks: list[Callable[[Known], Coroutine[Any, Any, Any]]] = [reader.look]
            looks += [] if one.is_retired else [reader.read]
            for look in looks:
                while True:
                    run(look(one))
                    last = ledger.entries[-1]
                    if last.outcome is Outcome.DONE or last.is_corrupted or last.is_foreign:
                        break
                    if time.monotonic() > deadline:
                        raise StoreUnavailable(f"the sessions cannot be read {limit:.0f} s after the fault: {last}")
                    time.sleep(0.05)
