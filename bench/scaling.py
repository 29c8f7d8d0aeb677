"""How sessions behave on 1 to 100 shards: computed from measured unit costs, and checked on a real cluster.

    python -m bench.scaling                    tables for docs/scaling.md, from the unit costs below
    python -m bench.scaling --check            fill a real cluster of three shards, and compare
    python -m bench.scaling --check 1000000    with a million sessions

The model, in words: a session lies in one of 256 partitions, chosen at random (anonymous) or by a hash of its subject
(bound), and every partition in one slot; so a shard's sessions are binomial around its share of the partitions. Its
memory is its sessions times what one takes, and its partitions times what they take whatever they hold. Its work is
what its sessions ask for, times what each operation costs.
"""

import argparse
import math
import sys
from dataclasses import dataclass
from typing import Final

import redis

from bench.fill import Filler
from bench.memory import used, write
from bench.shards import partitions_of_each, shard_of
from coatcheck.model.partition import PARTITIONS
from coatcheck.runtime.local.settings import TopologySettings
from coatcheck.runtime.local.topology import LocalTopology

EVENTS_KEPT: Final = 10_000
"""Of each partition, about (engine/lua/events.lua)."""

MEMORY_TOLERANCE: Final = 0.12
"""How far a shard's memory may be from the prediction: tables of servers grow by doubling, and unit costs are taken
where they are half to fully used."""

SPREAD_TOLERANCE: Final = 5.0
"""How many standard deviations a shard's sessions may be from its share: beyond is one run in a million."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Units:
    """What things cost: bytes of memory, microseconds of the server's CPU."""

    anonymous: float
    """Bytes of an anonymous session, without events."""
    bound: float
    """Bytes of a bound session, the only one of its subject, with its index entries, without events."""
    event: float
    """Bytes of an event."""
    node: float
    """Bytes that a stream takes at a time: each of its nodes has them until it is full."""
    partition: float
    """Bytes of a partition that is in use, however little, without its events: keys, tables of its own on a cluster."""
    epoch: float
    """Bytes of an epoch: there is one a partition after `revoke_everyone`."""
    load: float
    save: float
    touch: float
    sign_in: float
    swept: float
    """Of an entry that is due in the expiry index, and put off; settling one that has ended takes three times that."""


VALKEY: Final = Units(
    anonymous=460,
    bound=715,
    event=70,
    node=4096,
    partition=1500,
    epoch=100,
    load=2.9,
    save=12.5,
    touch=7.5,
    sign_in=45.0,
    swept=4.0,
)
"""Of Valkey 9.1.2 without a dictionary, measured with bench.memory and bench.flatness (docs/scaling.md)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What sessions do."""

    bound: float = 0.5
    """The share of sessions that are a subject's."""
    requests: float = 100 / 3600
    """Requests of a session a second; each loads it."""
    written: float = 0.1
    """The share of requests that save a change."""
    idle: float = 1800
    """The idle timeout, in seconds: use is recorded once in a tenth of it, an index entry looked at once in it."""
    lives: float = 3600
    """Seconds between the beginning of a session and its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """The shard with the most partitions."""

    partitions: int
    sessions: float
    deviation: float
    """The standard deviation of its sessions."""
    bytes: float
    operations: float
    """A second: loads, saves, touches, sign-ins and creations, sweeping not counted."""
    cpu: float
    """Seconds of CPU a second: 1 is one core."""


def largest_shard(sessions: float, shards: int, units: Units, load: Load) -> Shard:
    """Compute the shard with the most partitions."""
    partitions = max(partitions_of_each(shards))
    share = partitions / PARTITIONS
    own = sessions * share
    told = own / partitions / load.lives * 7 * 86_400  # an event a session at least, kept for a week
    size = own * ((1 - load.bound) * units.anonymous + load.bound * units.bound)
    size += partitions * (units.partition + stream(told, units) + units.epoch)
    touches = min(load.requests * (1 - load.written), 10 / load.idle)
    begins = 1 / load.lives
    work = load.requests * units.load + load.requests * load.written * units.save + touches * units.touch
    work += begins * units.sign_in + load.bound / load.idle * units.swept
    return Shard(
        partitions=partitions,
        sessions=own,
        deviation=math.sqrt(sessions * share * (1 - share)),
        bytes=size,
        operations=own * (load.requests * (1 + load.written) + touches + begins),
        cpu=own * work / 1e6,
    )


def stream(events: float, units: Units) -> float:
    """Compute the bytes of a partition's stream that was told of *events*: its last node is half full on average."""
    return max(units.node, min(events, EVENTS_KEPT) * units.event + units.node / 2)


def spread() -> list[tuple[int, int, int, float]]:
    """For each number of shards: fewest and most partitions, and how much more than an even share the largest has."""
    found = []
    for shards in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 50, 64, 100, 128, 200, 256, 300, 512):
        held = partitions_of_each(shards)
        found.append((shards, min(held), max(held), max(held) * shards / PARTITIONS - 1))
    return found


@dataclass(frozen=True, slots=True)
class Comparison:
    """A shard as it was predicted, and as it was found."""

    partitions: int
    sessions: float
    found_sessions: int
    deviations: float
    """How many standard deviations lie between the two."""
    bytes: float
    """Predicted from the sessions that it has been found to have."""
    found_bytes: int

    @property
    def is_close(self) -> bool:
        """Whether both are within what this module allows."""
        is_near = abs(self.found_bytes / self.bytes - 1) <= MEMORY_TOLERANCE
        return is_near and self.deviations <= SPREAD_TOLERANCE


def check(servers: list[redis.Redis], count: int, units: Units) -> list[Comparison]:
    """Sign *count* subjects in through the library, on the primaries of a cluster; compare each with the prediction."""
    filler = Filler(servers)
    empty = [used(server) for server in servers]
    sessions = filler.bound(f"user-{number}" for number in range(count))
    places = [shard_of(session.handle.partition, len(servers)) for session in sessions if session.handle]
    found = []
    for shard, (server, held) in enumerate(zip(servers, partitions_of_each(len(servers)), strict=True)):
        share, own = held / PARTITIONS, places.count(shard)
        deviation = math.sqrt(count * share * (1 - share))
        found.append(
            Comparison(
                partitions=held,
                sessions=count * share,
                found_sessions=own,
                deviations=abs(own - count * share) / deviation,
                bytes=own * units.bound + held * (units.partition + stream(own / held, units)),
                found_bytes=used(server) - empty[shard],
            )
        )
    return found


def primaries(topology: LocalTopology) -> list[redis.Redis]:
    """Make clients of the primaries of a fresh cluster, in the order of their slots."""
    return [redis.Redis.from_url(f"redis://{address}") for address in topology.addresses]


def main() -> None:
    """Write tables in Markdown, or check the model. Exit code 1: it does not hold."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--check", nargs="?", type=int, const=100_000, metavar="SESSIONS")
    given = parser.parse_args()
    if given.check is None:
        write("\n".join(tables()))
        return
    with LocalTopology("cluster", TopologySettings(appendfsync=None)) as topology:
        servers = primaries(topology)
        compared = check(servers, given.check, VALKEY)
        for server in servers:
            server.close()
    write("| shard | partitions | sessions predicted | found | deviations | MB predicted | found | |")
    write("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for shard, one in enumerate(compared, 1):
        off = one.found_bytes / one.bytes - 1
        write(
            f"| {shard} | {one.partitions} | {one.sessions:,.0f} | {one.found_sessions:,} | {one.deviations:.1f} "
            f"| {one.bytes / 1e6:.1f} | {one.found_bytes / 1e6:.1f} | {off:+.1%} |"
        )
    if not all(one.is_close for one in compared):
        sys.exit(f"memory is to be within {MEMORY_TOLERANCE:.0%}, sessions within {SPREAD_TOLERANCE:g} deviations")


def tables() -> list[str]:
    """Make the tables of docs/scaling.md that are computed, in Markdown."""
    lines = ["| shards | partitions of a shard | the largest has more than an even share |", "| --- | --- | --- |"]
    for shards, fewest, most, above in spread():
        lines.append(f"| {shards} | {fewest if fewest == most else f'{fewest} to {most}'} | {above:+.1%} |")
    lines += ["", "| sessions | shards | on the largest | deviation | memory GB | operations/s | cores busy |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for exponent in range(4, 10):
        for shards in (1, 3, 10, 30, 100):
            shard = largest_shard(10**exponent, shards, VALKEY, Load())
            lines.append(
                f"| 10^{exponent} | {shards} | {shard.sessions:,.0f} | ±{shard.deviation / shard.sessions:.2%} "
                f"| {shard.bytes / 1e9:,.3f} | {shard.operations:,.0f} | {shard.cpu:.4f} |"
            )
    lines += ["", "| in all | a partition | on 1 shard | on 3 | on 100 |", "| --- | --- | --- | --- | --- |"]
    for name, unit in (("epochs", VALKEY.epoch), ("streams of events, full", stream(EVENTS_KEPT, VALKEY))):
        sizes = [unit, *(max(partitions_of_each(shards)) * unit for shards in (1, 3, 100))]
        lines.append(f"| {name} | {' | '.join(f'{size / 1e6:.4f} MB' for size in sizes)} |")
    return lines


if __name__ == "__main__":
    main()
