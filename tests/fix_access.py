"""Servers with users that may do no more than `coatcheck acl` allows: Valkey, and Debian's Redis 7."""

import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from coatcheck.engine.access import access_rules
from coatcheck.runtime.embedded import Embedded

# What the tests call their prefixes.
PREFIXES = ("cc", "one", "other", "cc:x", "other:cc", "shop", "forum")


class Guarded:
    """A server, a client that may do everything on it, and users that may not."""

    def __init__(self, socket: str, client: redis.Redis) -> None:
        self.client = client
        self.nodes = [client]
        self.socket = socket

    def user(self, *prefixes: str, **options: bool) -> str:
        """Make a user for *prefixes* with the rules of `access_rules`; give the URL to connect with as that user."""
        name, password = f"user-{secrets.token_hex(4)}", secrets.token_hex(16)
        rules = [rule for prefix in prefixes for rule in access_rules(prefix, **options)]
        resets = ("resetkeys", "resetchannels", "-@all")
        rules = [*resets, *(rule for rule in rules if rule not in resets)]
        self.client.execute_command("ACL SETUSER", name, "reset", "on", f">{password}", *rules)
        return f"unix://{name}:{password}@{self.socket}"

    def refused(self) -> list[str]:
        """List what the users made here were refused, as the server's ACL LOG tells it, and forget it."""
        log = [
            " ".join(_text(entry[key]) for key in ("reason", "object"))
            for entry in self.client.acl_log(1000)
            if _text(entry["username"]).startswith("user-")
        ]
        self.client.execute_command("ACL LOG", "RESET")
        return log


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@contextmanager
def valkey(folder: Path) -> Iterator[str]:
    """Run the embedded Valkey; give its socket."""
    embedded = Embedded(folder)
    try:
        yield embedded.socket()
    finally:
        embedded.leave()


@contextmanager
def redis_7(folder: Path) -> Iterator[str]:
    """Run the redis-server of the system; give its socket."""
    socket = folder / "socket"
    command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        with redis.Redis(unix_socket_path=str(socket)) as client:
            while not _answers(client):
                assert time.monotonic() < deadline, "redis-server does not start"
                time.sleep(0.01)
        yield str(socket)
    finally:
        process.terminate()
        process.wait(10)


def _answers(client: redis.Redis) -> bool:
    try:
        return client.ping()
    except redis.ConnectionError:
        return False


KINDS = {"valkey": valkey, "redis7": redis_7}


@contextmanager
def guarded_server(kind: str, folder: Path) -> Iterator[Guarded]:
    """Run a server of *kind*."""
    with KINDS[kind](folder) as socket, redis.Redis(unix_socket_path=socket) as client:
        yield Guarded(socket, client)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where the tests' server is to be used as a bare user, leave out the tests that do not use it."""
    if "COATCHECK_TEST_ACL" in os.environ:
        left_out = [item for item in items if "server" not in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(scope="session", params=KINDS)
def shared_acl_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Start one server of each kind for the whole run."""
    with guarded_server(request.param, tmp_path_factory.mktemp("guarded")) as guarded:
        yield guarded


@pytest.fixture
def acl_server(shared_acl_server: Guarded) -> Guarded:
    """Give a server without data, whose log of refusals is empty."""
    shared_acl_server.client.flushall()
    shared_acl_server.refused()
    return shared_acl_server
