"""Whether what a server does for a session depends on how many sessions it has, and which scripts keep it longest.

    python -m bench.flatness 10000 100000 1000000     (10000000 take some 8 GB)

A server for each size is filled with copies of a real session; what is measured is done with sessions made through
the library among them, in rounds that go through all sizes in turn. The longest scripts are by SLOWLOG, on the wall
clock, and so are waits: on a busy machine they may have been interrupted. The CPU of the server's process, divided by
the scripts, has no such doubt.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import redis

from bench.costs import Bench, Cost, cpu_of, info
from bench.fill import Filler
from bench.memory import used, version_of, write
from coatcheck.engine.keys import Keys
from coatcheck.engine.operations import Operations
from coatcheck.model.partition import PARTITIONS
from coatcheck.model.policy import SessionPolicy
from coatcheck.runtime.local.settings import TopologySettings
from coatcheck.runtime.local.topology import LocalTopology

MANY: Final = 3000
"""Sessions of one subject, in the longest scripts."""


def flatness(settings: TopologySettings, sizes: list[int], rounds: int) -> None:
    """Fill a server to each of *sizes*, and write what the operations cost there: medians of interleaved rounds."""
    with ExitStack() as stack:
        found: dict[int, list[list[Cost]]] = {}
        benches = {}
        for size in sizes:
            topology = stack.enter_context(LocalTopology("single", settings))
            client = stack.enter_context(redis.Redis.from_url(topology.url))
            filler = Filler([client])
            filler.copies(size, bound=True)
            write(f"{size:,} sessions: {client.dbsize():,} keys, {used(client) / 1e6:,.0f} MB")
            benches[size] = Bench(topology.url, filler)
        for _ in range(rounds):
            for size, bench in benches.items():
                found.setdefault(size, []).append(bench.measure())
    write("\n| | sessions | in the command us | server CPU us | alone p50 us | p99 us |")
    write("| --- | --- | --- | --- | --- | --- |")
    for number, cost in enumerate(found[sizes[0]][0]):
        for size in sizes:
            costs = [measured[number] for measured in found[size]]
            script, cpu, p50, p99 = (
                statistics.median(getattr(one, field) for one in costs) for field in ("script", "cpu", "p50", "p99")
            )
            write(f"| {cost.name} | {size:,} | {script:.1f} | {cpu:.1f} | {p50:.0f} | {p99:.0f} |")


def longest(client: redis.Redis) -> None:
    """Write how long the scripts take that do many things at once: median and longest, and what others wait for."""
    client.config_set("slowlog-log-slower-than", 200)  # microseconds; 0 would log what the scripts call too
    client.config_set("slowlog-max-len", 10_000)
    filler = Filler([client])
    operations, run = filler.operations, filler.transport.run
    write("\n| | scripts | CPU of each, ms | longest, ms | others wait at most, ms |")
    write("| --- | --- | --- | --- | --- |")
    keys = Keys("cc")

    def report(name: str, work: Any) -> None:
        client.slowlog_reset()
        client.config_resetstat()
        with pings(client) as waits:
            begin = cpu_of(client)
            run([work])
            cpu = cpu_of(client) - begin
        count = info(client, "commandstats")["cmdstat_evalsha"]["calls"]
        times = [entry["duration"] / 1000 for entry in _scripts(client)]
        write(f"| {name} | {count} | {cpu / count / 1000:.2f} | {max(times, default=0.2):.2f} | {max(waits):.1f} |")

    for turn in range(3):
        subject = f"many-{turn}"
        filler.bound([subject] * MANY)
        report(f"list_for, {MANY:,} sessions of a subject", operations.list_for(subject))
        report(f"revoke_all, {MANY:,} sessions of a subject", operations.revoke_all(subject))
    limited = Operations(filler.transport, keyring=filler.keyring, policy=SessionPolicy(limit=5))
    for turn in range(3):
        subject = f"limited-{turn}"
        filler.bound([subject] * MANY)
        session = limited.new()
        session["x"] = 1
        report(f"sign-in of a subject with {MANY:,} sessions, now limited to 5", limited.bind(session, subject))
    filler.copies(PARTITIONS * 250, bound=True)
    _make_due(client, keys, end=False)
    report("sweep, 250 due in each partition, alive", operations.sweep())
    _make_due(client, keys, end=True)
    report("sweep, 250 due in each partition, ended", operations.sweep())
    report("read_events, 100 of each partition", operations.read_events("group", "one"))
    report("read_events, 1,000 of each partition", operations.read_events("other", "one", at_most=1000))
    report("revoke_everyone", operations.revoke_everyone())


def _make_due(client: redis.Redis, keys: Keys, *, end: bool) -> None:
    """Make every entry of the expiry indexes due, and *end* their sessions as a timeout does."""
    for partition in range(PARTITIONS):
        entries: Any = client.zrange(keys.expiry(partition), 0, -1)
        client.zadd(keys.expiry(partition), dict.fromkeys(entries, 1.0))
        if end:
            client.delete(*(keys.stem(partition).encode() + entry[:16] for entry in entries))


def _scripts(client: redis.Redis) -> list[dict[str, Any]]:
    found: Any = client.slowlog_get(10_000)
    return [entry for entry in found if entry["command"].startswith(b"EVALSHA")]


@contextmanager
def pings(client: redis.Redis) -> Iterator[list[float]]:
    """Ask the server something small all the time meanwhile; give how long each answer took, in ms."""
    waits: list[float] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            begin = time.perf_counter()
            client.ping()
            waits.append((time.perf_counter() - begin) * 1000)
            is_over.wait(0.0005)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield waits
    finally:
        is_over.set()
        asking.join()


def main() -> None:
    """Measure, and write tables in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.flatness", description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--server", help="another server than the bundled one, such as redis-server")
    parser.add_argument("--only-longest", action="store_true", help="the scripts only")
    parser.add_argument("--only-flatness", action="store_true", help="the operations only")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    settings = TopologySettings(server=given.server, appendfsync=None)
    with LocalTopology("single", settings) as topology, redis.Redis.from_url(topology.url) as client:
        write(f"{version_of(client)}\n")
        if not given.only_flatness:
            longest(client)
    if not given.only_longest:
        flatness(settings, given.sizes, given.rounds)


if __name__ == "__main__":
    main()
