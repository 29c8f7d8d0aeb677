"""What it costs a server to tell near caches what has changed: by broadcast on a prefix, or key by key.

    python -m bench.tracking                    on Valkey and on Redis
    python -m bench.tracking --writes 50000

Eight processes have a near cache, each with a connection of its own on which it is told. Reads are those of a load
(MGET of record and epoch), writes replace a record; both come in pipelines, so a figure is the server's own work. CPU
is the server's process's, in user and system mode. Key by key, each of the eight has read every record before.
"""

import argparse
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final

import hiredis
import redis

from coatcheck.model.partition import TAGS
from coatcheck.runtime.local.settings import TopologySettings
from coatcheck.runtime.local.topology import LocalTopology

SERVERS: Final = {"Valkey": None, "Redis": "redis-server"}
CACHES: Final = 8
_RECORD: Final = secrets.token_bytes(400)
_AT_ONCE: Final = 50


class Listener(threading.Thread):
    """A connection that is told what has changed; counts what it is told, and the CPU that takes."""

    def __init__(self, port: int, *arguments: str) -> None:
        """Listen on the server at *port*. arguments: of CLIENT TRACKING ON; none: to be named by another."""
        super().__init__(daemon=True)
        self._connection = redis.Connection(port=port, protocol=3, socket_timeout=None)
        self._connection.connect()
        if arguments:
            self.ask("CLIENT", "TRACKING", "ON", *arguments)
        self.id = self.ask("CLIENT", "ID")
        self.keys, self.bytes, self.seconds = 0, 0, 0.0
        self.start()

    def ask(self, *command: str) -> Any:
        """Send a command, before it listens."""
        self._connection.send_command(*command)
        return self._connection.read_response()

    def run(self) -> None:
        """Read until the connection ends."""
        reader, socket = hiredis.Reader(), self._connection._sock  # noqa: SLF001  redis-py gives it to nobody
        while data := socket.recv(65536):
            begun = time.thread_time()
            reader.feed(data)
            while (message := reader.gets()) is not False:
                self.keys += len(message[1] or ())
            self.bytes += len(data)
            self.seconds += time.thread_time() - begun


def cpu(client: redis.Redis) -> float:
    """Give the seconds of CPU that the server has used."""
    info = client.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])


def carry_out(client: redis.Redis, commands: Iterator[tuple[Any, ...]], count: int) -> None:
    """Send *count* commands in pipelines."""
    for _ in range(count // _AT_ONCE):
        with client.pipeline(transaction=False) as pipeline:
            for _ in range(_AT_ONCE):
                pipeline.execute_command(*next(commands))
            pipeline.execute()


def measure(client: redis.Redis, work: Callable[[], None], count: int) -> float:
    """Give the microseconds of the server's CPU for each of *count* commands."""
    before = cpu(client)
    work()
    return (cpu(client) - before) / count * 1e6


@contextmanager
def server(binary: str | None) -> Iterator[tuple[redis.Redis, int]]:
    """Start a server; give a client and the port."""
    with LocalTopology("single", TopologySettings(server=binary)) as topology:
        host, _, port = topology.addresses[0].partition(":")
        with redis.Redis(host=host, port=int(port)) as client:
            yield client, int(port)


def study(name: str, binary: str | None, writes: int) -> None:
    """Measure one server, and print a line for each way."""
    keys = [f"cc:{{{TAGS[number % 256]}}}:s:{number:016d}" for number in range(writes)]
    epochs = [f"cc:{{{tag}}}:g" for tag in TAGS]

    def reading() -> Iterator[tuple[Any, ...]]:
        return (("MGET", key, epochs[number % 256]) for number, key in enumerate(keys))

    def writing() -> Iterator[tuple[Any, ...]]:
        return (("SET", key, _RECORD, "PX", 10**7) for key in keys)

    narrow = [word for tag in TAGS for kind in "scg" for word in ("PREFIX", f"cc:{{{tag}}}:{kind}")]
    ways: dict[str, tuple[str, ...] | None] = {
        "nobody is told": None,
        "broadcast, one prefix": ("BCAST", "PREFIX", "cc:{"),
        "broadcast, 768 prefixes": ("BCAST", *narrow),
        "key by key": (),
    }
    for way, arguments in ways.items():
        with ExitStack() as stack:
            client, port = stack.enter_context(server(binary))
            carry_out(client, writing(), writes)
            listeners = [Listener(port, *arguments) for _ in range(CACHES)] if arguments is not None else []
            readers = [stack.enter_context(redis.Redis(port=port, max_connections=1)) for _ in range(CACHES)]
            if way == "key by key":
                for reader, listener in zip(readers, listeners, strict=True):
                    reader.execute_command("CLIENT", "TRACKING", "ON", "REDIRECT", listener.id)
            used = client.info("memory")["used_memory"]
            read = sum(measure(client, partial(carry_out, reader, reading(), writes), writes) for reader in readers)
            used = client.info("memory")["used_memory"] - used
            wrote = measure(client, partial(carry_out, client, writing(), writes), writes)
            time.sleep(0.5)
            told, size = sum(one.keys for one in listeners), sum(one.bytes for one in listeners)
            seconds = sum(one.seconds for one in listeners)
            print(  # noqa: T201
                f"{name:7} {way:24} read {read / CACHES:5.2f} us  write {wrote:6.2f} us  "
                f"memory {used / writes:6.1f} B/session  told {told / writes / CACHES:4.2f} keys and "
                f"{size / writes / CACHES:5.1f} B of each write to each cache, "
                f"{seconds / told * 1e6 if told else 0:4.2f} us of its CPU"
            )


def main() -> None:
    """Do what the module says."""
    parser = argparse.ArgumentParser(prog="python -m bench.tracking")
    parser.add_argument("--writes", type=int, default=20_000, help="records, each read and written once")
    writes = parser.parse_args().writes
    for name, binary in SERVERS.items():
        study(name, binary, writes)


if __name__ == "__main__":
    main()
