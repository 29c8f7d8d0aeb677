"""For how long a session is still accepted after it was revoked, where every process has a near cache.

    python -m bench.staleness                    the line on which caches are told: sound, under writes, cut
    python -m bench.staleness --revocations 1000

Four worker processes, two with an event loop, load a session every half a millisecond; half of the loads are of the one
that is revoked next, at a moment they do not know. A fifth process revokes. All share a clock (CLOCK_MONOTONIC): a
session's figure is when the last load began that accepted it, less when `revoke` returned; 0 if there was none.
"""

import argparse
import asyncio
import multiprocessing
import secrets
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.queues import Queue
from multiprocessing.sharedctypes import Synchronized
from time import monotonic_ns
from typing import Any, Final

import coatcheck
from coatcheck import NearCache, SessionPolicy
from coatcheck.runtime.local.settings import TopologySettings
from coatcheck.runtime.local.topology import LocalTopology
from faults.proxy import Proxy

WORKERS: Final = 4
SERVERS: Final = {"Valkey": None, "Redis": "redis-server"}
_DEADLINE: Final = timedelta(seconds=5)  # more processes than cores
_PAUSE: Final = 0.0005
_OTHERS: Final = 1000
_OVER: Final = -1
_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is to do. next_one: which of *identifiers* is revoked next; _OVER: none."""

    url: str
    key: str
    near: NearCache
    identifiers: list[str]
    next_one: "Synchronized[int]"
    ready: "Synchronized[int]"
    results: "Queue[tuple[int, int, dict[int, int]]]"

    def is_ready(self) -> None:
        """Take note that another worker has loaded all of them."""
        with self.ready.get_lock():
            self.ready.value += 1

    @property
    def policy(self) -> SessionPolicy:
        """The policy of all processes."""
        return SessionPolicy(near_cache=self.near)

    def pick(self, number: int) -> int:
        """Say which session to load."""
        return self.next_one.value if number % 2 else secrets.randbelow(len(self.identifiers))


def work(task: Task) -> None:
    """Load sessions until all is over; tell how many, how many of them from memory, and when each was accepted last."""
    last: dict[int, int] = {}
    with coatcheck.Sessions(task.url, keys=task.key, policy=task.policy, deadline=_DEADLINE) as sessions:
        number = hits = 0
        for identifier in task.identifiers:
            while not sessions.load(identifier).is_near:  # type: ignore[union-attr]
                time.sleep(_PAUSE)
        task.is_ready()
        while (which := task.pick(number)) != _OVER:
            began, session = monotonic_ns(), sessions.load(task.identifiers[which])
            number += 1
            if session is not None:
                last[which], hits = began, hits + session.is_near
            time.sleep(_PAUSE)
    task.results.put((number, hits, last))


def work_async(task: Task) -> None:
    """Do as `work`, with two tasks on an event loop."""
    asyncio.run(_work_async(task))


async def _work_async(task: Task) -> None:
    last: dict[int, int] = {}
    count = hits = 0

    async def serve(sessions: coatcheck.AsyncSessions) -> None:
        nonlocal count, hits
        number = 0
        while (which := task.pick(number)) != _OVER:
            began, session = monotonic_ns(), await sessions.load(task.identifiers[which])
            number += 1
            if session is not None:
                last[which], hits = max(began, last.get(which, 0)), hits + session.is_near
            await asyncio.sleep(_PAUSE)
        count += number

    async with coatcheck.AsyncSessions(task.url, keys=task.key, policy=task.policy, deadline=_DEADLINE) as sessions:
        for identifier in task.identifiers:
            while not (await sessions.load(identifier)).is_near:  # type: ignore[union-attr]  # noqa: ASYNC110
                await asyncio.sleep(_PAUSE)
        task.is_ready()
        await asyncio.gather(serve(sessions), serve(sessions))
    task.results.put((count, hits, last))


def write(task: Task) -> None:
    """Save sessions that nobody revokes, without a pause."""
    with coatcheck.Sessions(task.url, keys=task.key, deadline=_DEADLINE) as sessions:
        stored = [sessions.create({"n": 0}) for _ in range(_OTHERS)]
        number = 0
        while task.next_one.value != _OVER:
            session, number = stored[number % _OTHERS], number + 1
            session["n"] = number
            sessions.save(session)


def study(name: str, url: str, told: str, near: NearCache, revocations: int, *, writers: int, way: Any = None) -> None:
    """Revoke as many sessions at random moments, and print a line. told: where to revoke; way: is cut, if given."""
    key, spawn = coatcheck.new_key(), multiprocessing.get_context("spawn")
    with coatcheck.Sessions(told, keys=key, policy=SessionPolicy(near_cache=near), deadline=_DEADLINE) as sessions:
        stored = [sessions.create({"user": number, "cart": ["book"] * 8}) for number in range(revocations)]
        identifiers = [session.identifier or "" for session in stored]
        task = Task(url, key, near, identifiers, spawn.Value("i", 0), spawn.Value("i", 0), spawn.Queue())
        doing = [work, work_async] * (WORKERS // 2) + [write] * writers
        processes = [spawn.Process(target=target, args=(task,)) for target in doing]
        for process in processes:
            process.start()
        while task.ready.value < WORKERS:
            time.sleep(_PAUSE)
        returned = {}
        for number, session in enumerate(stored):
            task.next_one.value = number
            time.sleep((10 + secrets.randbelow(70)) / 1000)
            if way is not None and number % 10 == 0:
                way.is_silent = number % 20 == 0
                time.sleep(0 if way.is_silent else 2)
            sessions.revoke(session.handle or "")
            returned[number] = monotonic_ns()
        time.sleep(near.staleness.total_seconds() + 1)
        task.next_one.value = _OVER
        results = [task.results.get(timeout=30) for _ in range(WORKERS)]
        for process in processes:
            process.join()
    last = {number: max(found.get(number, 0) for _, _, found in results) for number in returned}
    lags = sorted(max(0, last[number] - moment) / _MS for number, moment in returned.items())
    loads, hits = (sum(result[column] for result in results) for column in (0, 1))
    print(  # noqa: T201
        f"{name:42} {loads:8} loads, {hits / loads:4.0%} from memory; accepted after the revocation (ms): "
        f"median {statistics.median(lags):.2f}, p99 {lags[int(len(lags) * 0.99)]:.2f}, most {lags[-1]:.2f}; "
        f"not at all {sum(lag == 0 for lag in lags) / len(lags):.0%}"
    )


def main() -> None:
    """Do what the module says."""
    parser = argparse.ArgumentParser(prog="python -m bench.staleness")
    parser.add_argument("--revocations", type=int, default=300)
    revocations = parser.parse_args().revocations
    near = NearCache()
    patient = NearCache(staleness=timedelta(milliseconds=100), ends_wait=True)
    for server, binary in SERVERS.items():
        with ExitStack() as stack:
            topology = stack.enter_context(LocalTopology("single", TopologySettings(server=binary)))
            way = stack.enter_context(Proxy()).lay(int(topology.addresses[0].rpartition(":")[2]))
            way.singles_out = lambda piece: b"TRACKING" in piece
            url, cut = topology.url, f"redis://127.0.0.1:{way.port}"
            study(f"{server}", url, url, near, revocations, writers=0)
            study(f"{server}, two processes write", url, url, near, revocations, writers=2)
            study(f"{server}, line cut every other time", cut, url, near, revocations, writers=0, way=way)
            study(f"{server}, 100 ms, ends wait", url, url, patient, revocations, writers=0)


if __name__ == "__main__":
    main()
