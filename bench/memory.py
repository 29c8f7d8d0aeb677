"""How much memory of the server a session takes, everything counted.

    python -m bench.memory                     both servers, 100,000 sessions
    python -m bench.memory 1000000             a million
    python -m bench.memory --dictionary        and once more, compressed with a dictionary that is trained there
    python -m bench.memory --through-library   all through the library (slow), instead of copies made by a script

Sessions hold what those of a shop's customers do (bench.shoppers): no two the same, MODELS different ones among the
copies. A dictionary is trained as an operator does it (`train_dictionary`), on sessions of TRAINED other customers.

A figure is what INFO says of used_memory with the sessions, less what it said before, divided by their number; so it
has the records, the indexes, the events, and the tables of the server that lead to them. Parts: MEMORY USAGE (of all
indexes and streams of the partitions, and of a sample of the other keys); what they leave is the server's tables, whose
share depends on how far they have grown (by doubling) when one looks.
"""

import argparse
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import redis

from bench.fill import Filler
from bench.shoppers import plain_json, shopper
from coatcheck.model.training import Training
from coatcheck.runtime.local.settings import TopologySettings
from coatcheck.runtime.local.topology import LocalTopology

SERVERS: Final = {"Valkey": None, "Redis": "redis-server"}
PARTS: Final = {"s": "record", "u": "subject's index", "x": "expiry index", "e": "events"}
MODELS: Final = 400
"""Different sessions, of which the others are copies."""
TRAINED: Final = 5000
"""Sessions that a dictionary is trained on; it takes a megabyte of them."""
PLAIN_BYTES: Final = sum(len(plain_json(shopper(number))) for number in range(MODELS)) / MODELS
_SAMPLE: Final = 1000
_MONTH: Final = 31 * 86_400


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes of one session: in all, by part, and of its record's value."""

    total: float
    parts: dict[str, float]
    value: float = 0.0

    @property
    def without_events(self) -> float:
        """What is left when the streams of events are gone; they grow up to 10,000 entries a partition only."""
        return self.total - self.parts.get("events", 0.0)


def measure(server: str | None, count: int, fill: Callable[[redis.Redis], None]) -> tuple[str, Cost]:
    """Run *server*, let *fill* put *count* sessions into it; give its version and what one costs."""
    with LocalTopology("single", TopologySettings(server=server, appendfsync=None)) as topology:
        with redis.Redis.from_url(topology.url, protocol=2) as client:
            Filler([client])  # the scripts are no session's
            before = used(client)
            version = version_of(client)
            fill(client)
        with redis.Redis.from_url(topology.url) as client:  # a new one: buffers of the other are gone
            return version, cost_of(client, used(client) - before, count)


def used(client: redis.Redis) -> int:
    """Give used_memory, less the buffers of clients and replicas, which are no session's.

    When it has come to rest: no table is being moved to its new size, and little changes.
    """
    last, now, is_moving = 0, 0, True
    while is_moving or abs(now - last) > now // 1000:
        time.sleep(0.2)
        memory: dict[str, Any] = dict(client.info("memory"))
        last, now = now, memory["used_memory"] - memory["mem_clients_normal"] - memory["mem_total_replication_buffers"]
        is_moving = memory.get("mem_overhead_db_hashtable_rehashing", 0) > 0  # Valkey says it
    return now


def cost_of(client: redis.Redis, added: int, count: int) -> Cost:
    """Take *added* bytes apart by key."""
    parts, value = {}, 0.0
    for letter, name in PARTS.items():
        pattern = f"cc:{{*}}:{letter}:*" if letter in "su" else f"cc:{{*}}:{letter}"
        keys: list[bytes] = []
        for key in client.scan_iter(match=pattern, count=10_000):
            keys.append(key)
            if letter in "su" and len(keys) == _SAMPLE:
                break
        if not keys:
            continue
        with client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.memory_usage(key, samples=0)
            bytes_of = pipeline.execute()
        parts[name] = sum(bytes_of) / (len(keys) if letter in "su" else count)
        if letter == "s":
            with client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.strlen(key)
                value = sum(pipeline.execute()) / len(keys)
    parts["the server's tables"] = added / count - sum(parts.values())
    return Cost(added / count, parts, value)


def contenders(
    count: int, *, through_library: bool = False, trained: list[Training] | None = None
) -> dict[str, Callable[[redis.Redis], None]]:
    """Give what fills a server with *count* sessions of each kind; *trained*: with dictionaries too, told there."""

    def ours(client: redis.Redis, *, bound: bool, dictionaries: list[Training] | None = None) -> None:
        filler = Filler([client])
        if dictionaries is not None:
            dictionaries.append(filler.train(TRAINED, shopper))
        if not through_library:
            filler.copies(count, bound=bound, models=MODELS, content=shopper)
        elif bound:
            filler.bound((f"user-{number}" for number in range(count)), shopper)
        else:
            filler.anonymous(count, shopper)

    plain = [plain_json(shopper(number)) for number in range(MODELS)]
    flask_session = [msgspec.msgpack.encode({**shopper(number), "_permanent": True}) for number in range(MODELS)]
    found: dict[str, Callable[[redis.Redis], None]] = {
        "plain JSON": lambda client: _set(client, count, "session:", plain),
        "Flask-Session's SET": lambda client: _set(client, count, "session:", flask_session),
        "coatcheck, anonymous": lambda client: ours(client, bound=False),
        "coatcheck, bound": lambda client: ours(client, bound=True),
    }
    if trained is not None:
        found["the same with a dictionary, anonymous"] = lambda client: ours(client, bound=False, dictionaries=trained)
        found["the same with a dictionary, bound"] = lambda client: ours(client, bound=True, dictionaries=trained)
    return found


def _set(client: redis.Redis, count: int, prefix: str, values: Sequence[bytes]) -> None:
    """Store *values* in turn under as many names as sessions of Flask-Session have: 256 bits of base64url."""
    for begin in range(0, count, 1000):
        with client.pipeline(transaction=False) as pipeline:
            for number in range(begin, min(begin + 1000, count)):
                pipeline.set(prefix + secrets.token_urlsafe(32), values[number % len(values)], ex=_MONTH)
            pipeline.execute()


def write(line: str) -> None:
    """Print *line* at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def version_of(client: redis.Redis) -> str:
    """Say what server it is."""
    info = client.info("server")
    return f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=100_000)
    parser.add_argument("--through-library", action="store_true")
    parser.add_argument("--dictionary", action="store_true", help="measure with trained dictionaries, too")
    given = parser.parse_args()
    trained: list[Training] | None = [] if given.dictionary else None
    write("| server | sessions | | bytes | / plain JSON | without events | / plain JSON | of that |")
    write("| --- | --- | --- | --- | --- | --- | --- | --- |")
    fills = contenders(given.count, through_library=given.through_library, trained=trained)
    for server in SERVERS.values():
        for name, fill in fills.items():
            version, cost = measure(server, given.count, fill)
            parts = ", ".join(f"{part} {size:.0f}" for part, size in cost.parts.items())
            value = f" (the value: {cost.value:.0f})" if cost.value else ""
            write(
                f"| {version} | {given.count:,} | {name} | {cost.total:.0f} | {cost.total / PLAIN_BYTES:.2f} "
                f"| {cost.without_events:.0f} | {cost.without_events / PLAIN_BYTES:.2f} | {parts}{value} |"
            )
    write(f"\nPlain JSON of a session: {PLAIN_BYTES:.0f} bytes on average.")
    for one in trained or ():
        before, after = one.record_before, one.record_after
        size = len(one.dictionary.content)
        write(
            f"A dictionary of {size} bytes, trained on {one.samples} and measured on {one.measured} others: "
            f"a record has {before:.0f} bytes without and {after:.0f} with it."
        )


if __name__ == "__main__":
    main()
