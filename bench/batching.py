"""What it brings that the tasks of an event loop share a connection, beside redis-py with one for each task.

    python -m bench.batching
    python -m bench.batching --rounds 15

On a Valkey of its own, over TCP, with asyncio's own loop. Contenders take turns in each round, and a ratio is that of a
round, so that what slows the machine for a while slows all of them. Medians; in brackets the lowest and the highest.
"""

import argparse
import asyncio
import os
import secrets
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from typing import Any, Final

import hiredis
import redis
import redis.asyncio

import coatcheck
from bench.load.content import SESSION
from coatcheck.runtime.address import Address
from coatcheck.runtime.asynchronous import AsyncTransport
from coatcheck.runtime.local.settings import TopologySettings
from coatcheck.runtime.local.topology import LocalTopology

TASKS: Final = 64
_CALLS: Final = 6_400
_ALONE: Final = 1_000
_SMALL, _LARGE = "cc:{bench}:small", "cc:{bench}:large"
_KIB: Final = 1024
_PATIENT: Final = timedelta(minutes=1)

Ask = Callable[[], Awaitable[Any]]


async def rate(ask: Ask, tasks: int = TASKS, calls: int = _CALLS) -> tuple[float, float]:
    """Let so many tasks ask, each again when it has its answer: calls a second, CPU us of the process for each."""

    async def work() -> None:
        for _ in range(calls // tasks):
            await ask()

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(tasks)))
    return calls / (time.perf_counter() - began), (time.process_time() - used) / calls * 1e6


async def waits(ask: Ask, calls: int = _ALONE) -> list[float]:
    """Give how long each of so many calls took (us), one after the other, sorted."""
    found = []
    for _ in range(calls):
        began = time.perf_counter()
        await ask()
        found.append((time.perf_counter() - began) * 1e6)
    return sorted(found)


async def beside(ask: Ask, neighbour: Ask | None) -> list[float]:
    """Do as `waits`, while another task asks without end."""
    ends = asyncio.Event()

    async def work(ask: Ask) -> None:
        while not ends.is_set():
            await ask()

    task = asyncio.create_task(work(neighbour)) if neighbour is not None else None
    try:
        return await waits(ask, _ALONE // 4)
    finally:
        if task is not None:
            ends.set()
            await task


def say(line: str) -> None:
    """Print a line."""
    print(line)  # noqa: T201


def spread(values: list[float], digits: int) -> str:
    """Write a median and the range."""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def row(name: str, values: list[float], baseline: list[float], digits: int = 0) -> None:
    """Print a line of a table."""
    ratios = [one / other for one, other in zip(values, baseline, strict=True)]
    say(f"| {name} | {spread(values, digits)} | {spread(ratios, 2)} |")


async def compare(url: str, rounds: int) -> None:
    """Print the tables of calls."""
    transport = AsyncTransport(Address(url), {"deadline": _PATIENT})
    peer = redis.asyncio.Redis.from_url(url, max_connections=TASKS)
    other = redis.asyncio.Redis.from_url(url, max_connections=1)
    await peer.set(_SMALL, secrets.token_bytes(500))
    await peer.set(_LARGE, secrets.token_bytes(256 * _KIB))
    async with coatcheck.AsyncSessions(url, keys=coatcheck.new_key(), deadline=_PATIENT) as sessions:
        identifier = (await sessions.create(SESSION)).identifier
        asks: dict[str, Ask] = {
            "redis-py, `get`, a connection for each task": lambda: peer.get(_SMALL),
            "coatcheck's transport, GET, one connection": lambda: transport.call(("GET", _SMALL)),
            "`AsyncSessions.load`, one connection": lambda: sessions.load(identifier),
        }
        for ask in asks.values():  # every connection is open
            await rate(ask)
        rates: dict[str, list[float]] = {name: [] for name in asks}
        used: dict[str, list[float]] = {name: [] for name in asks}
        medians: dict[str, list[float]] = {name: [] for name in asks}
        for _ in range(rounds):
            for name, ask in asks.items():
                a_second, cpu_us = await rate(ask)
                rates[name].append(a_second)
                used[name].append(cpu_us)
            for name, ask in asks.items():
                medians[name].append(statistics.median(await waits(ask)))
        baseline = next(iter(asks))
        tables = {
            f"{TASKS} tasks: calls/s": rates,
            f"{TASKS} tasks: CPU us of the process for a call": used,
            "one task: p50 us": medians,
        }
        for title, found in tables.items():
            say(f"\n| {title} | | of redis-py's |\n| --- | ---: | ---: |")
            for name, values in found.items():
                row(name, values, found[baseline])

        neighbours: dict[str, Ask | None] = {
            "nobody": None,
            "one on the same connection": lambda: transport.call(("GET", _LARGE)),
            "one on a connection of its own (redis-py)": lambda: other.get(_LARGE),
        }
        slow: dict[str, list[list[float]]] = {name: [] for name in neighbours}
        for _ in range(rounds):
            for name, neighbour in neighbours.items():
                slow[name].append(await beside(asks["coatcheck's transport, GET, one connection"], neighbour))
        say("\n| a lone GET, beside a task that reads 256 KiB without end | p50 us | p99 us |\n| --- | ---: | ---: |")
        for name, found_waits in slow.items():
            middles = [statistics.median(one) for one in found_waits]
            highs = [one[len(one) * 99 // 100] for one in found_waits]
            say(f"| {name} | {spread(middles, 0)} | {spread(highs, 0)} |")
    await transport.aclose()
    await peer.aclose()
    await other.aclose()


@contextmanager
def cpu(into: list[float]) -> Iterator[None]:
    """Add the CPU (us) that each of _ALONE calls takes of this process."""
    began = time.process_time()
    yield
    into.append((time.process_time() - began) / _ALONE * 1e6)


def lone_loads(url: str, rounds: int) -> None:
    """Print what a lone load takes of this process's CPU, from the near cache and from the store."""
    key, policy = coatcheck.new_key(), coatcheck.SessionPolicy(near_cache=coatcheck.NearCache())
    found: dict[str, list[float]] = {}

    def load_often(sessions: coatcheck.Sessions, into: list[float], *, is_near: bool) -> None:
        while sessions.load(identifier).is_near != is_near:
            pass
        with cpu(into):
            for _ in range(_ALONE):
                sessions.load(identifier)

    async def load_often_awaiting(sessions: coatcheck.AsyncSessions, into: list[float], *, is_near: bool) -> None:
        while (await sessions.load(identifier)).is_near != is_near:
            pass
        with cpu(into):
            for _ in range(_ALONE):
                await sessions.load(identifier)
        await sessions.close()

    with coatcheck.Sessions(url, keys=key, deadline=_PATIENT) as sessions, asyncio.Runner() as runner:
        identifier = sessions.create(SESSION).identifier
        for _ in range(rounds):
            for where, chosen in (("near cache", policy), ("store", None)):
                options = {"keys": key, "policy": chosen, "deadline": _PATIENT}
                into = found.setdefault(f"`Sessions.load`, from the {where}", [])
                with coatcheck.Sessions(url, **options) as blocking:
                    load_often(blocking, into, is_near=chosen is policy)
                into = found.setdefault(f"`AsyncSessions.load`, from the {where}", [])
                runner.run(load_often_awaiting(coatcheck.AsyncSessions(url, **options), into, is_near=chosen is policy))
    say("\n| a lone load | CPU us of the process |\n| --- | ---: |")
    for name, values in found.items():
        say(f"| {name} | {spread(values, 1)} |")


def main() -> None:
    """Do what the module says."""
    parser = argparse.ArgumentParser(prog="python -m bench.batching")
    parser.add_argument("--rounds", type=int, default=9, help="how often each contender has its turn")
    rounds = parser.parse_args().rounds
    with LocalTopology("single", TopologySettings(appendfsync=None)) as topology:
        asyncio.run(compare(topology.url, rounds))
        lone_loads(topology.url, rounds)
        with redis.Redis.from_url(topology.url) as client:
            server = client.info("server")
    say(
        f"\nValkey {server.get('valkey_version')}, CPython {sys.version.split()[0]}, redis-py {redis.__version__} with "
        f"hiredis {hiredis.__version__}, coatcheck {version('coatcheck')}; {os.cpu_count()} cores, load average now "
        f"{os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
