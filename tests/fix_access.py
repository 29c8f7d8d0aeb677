"""Servers with users that may do no more than `coatcheck acl` allows: Valkey, and Debian's Redis 7."""

import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from coatcheck import IssuerSession
from coatcheck.engine import scripts
from coatcheck.engine.access import access_rules
from coatcheck.engine.keys import Keys
from coatcheck.engine.scripts import Command
from coatcheck.model.keyring import Place
from coatcheck.model.ticket import Handle
from coatcheck.runtime.embedded import Embedded
from tests import near_mode
from tests.fix_servers import KINDS, Started
from tests.waiting import PATIENCE_SECONDS, wait_until

# What the tests call their prefixes.
PREFIXES = ("cc", "one", "other", "cc:x", "other:cc", "shop", "forum")


class Guarded:
    """A server or a topology, clients that may do everything on it, and users that may not."""

    def __init__(self, started: Started) -> None:
        self.client: Any = started.client
        self.nodes = started.primaries
        self.all_nodes = started.primaries + started.replicas
        self._url = started.url

    def user(self, *prefixes: str, **options: bool) -> str:
        """Make a user for *prefixes* with the rules of `access_rules`; give the URL to connect with as that user."""
        options = {"clustered": self._url.startswith("cluster"), "near_cache": near_mode.IS_ON, **options}
        rules = [rule for prefix in prefixes for rule in access_rules(prefix, **options)]
        resets = ("resetkeys", "resetchannels", "-@all")
        rules = [*resets, *(rule for rule in rules if rule not in resets)]
        name, password = f"user-{secrets.token_hex(4)}", secrets.token_hex(16)
        for node in self.all_nodes:
            node.execute_command("ACL SETUSER", name, "reset", "on", f">{password}", *rules)
        return self.url_of(name, password)

    @contextmanager
    def allowing(self, url: str, **options: Any) -> Iterator[None]:
        """Let the user of *url* do meanwhile what these options of `access_rules` allow besides."""
        name, usual = urlsplit(url).username, access_rules("cc")
        more = [rule for rule in access_rules("cc", **options) if rule not in usual]
        if "+waitaof" in more and self.nodes[0].execute_command("COMMAND INFO", "waitaof") == [None]:
            pytest.skip("Redis before 7.2 has no WAITAOF")
        for node in self.all_nodes:
            node.execute_command("ACL SETUSER", name, *more)
        try:
            yield
        finally:
            for node in self.all_nodes:
                node.execute_command("ACL SETUSER", name, *(rule.replace("+", "-", 1) for rule in more))

    def url_of(self, name: str, password: str) -> str:
        """Give the URL to connect with as a user."""
        return self._url.replace("://", f"://{name}:{password}@")

    def of_one(self, url: str) -> str:
        """Give the URL of one server instead of the *url* of all, for the same user."""
        if url.startswith(("unix", "redis")):
            return url
        at = self.nodes[0].connection_pool.connection_kwargs
        return f"redis://{urlsplit(url).netloc.partition('@')[0]}@{at['host']}:{at['port']}"

    def refused(self) -> list[str]:
        """List what the users made here were refused, as the servers' ACL LOGs tell it, and forget it."""
        log = []
        for node in self.all_nodes:
            log += [
                " ".join(_text(entry[key]) for key in ("reason", "object"))
                for entry in node.acl_log(1000)
                if _text(entry["username"]).startswith("user-")
            ]
            node.execute_command("ACL LOG", "RESET")
        return log


def live(sessions: Any) -> None:
    """Do with sessions, under a policy with a limit of two, what can be done."""
    session = sessions.create({"cart": ["book"], "n": 1})
    sessions.touch(session)
    session = sessions.load(session.identifier)
    session["cart"].append("pen")
    session.increment("n")
    sessions.save(session)
    for _ in range(3):
        other = sessions.create({"a": 1})
        sessions.bind(other, "ada")
    sessions.bind(session, "ada")
    sessions.rotate(session)
    assert len(sessions.list_for("ada")) == sessions.policy.limit
    sessions.unbind(session)
    sessions.revoke(session)
    sessions.bind(session := sessions.create({"a": 1}), "bob")
    sessions.revoke(session.handle, subject="bob")
    sessions.revoke_all("ada")
    session = sessions.create({"a": 1})
    session.issuer_session = IssuerSession("https://id.example.org", str(session.handle), "s-1")
    sessions.bind(session, "ada")
    assert sessions.revoke_issued(IssuerSession("https://id.example.org", session.issuer_session.subject)) == 1
    sessions.bind(session := sessions.create({"a": 1}), "cleo")
    sessions.revoke_others(session)
    sessions.erase("cleo")
    sessions.sweep()
    sessions.revoke_everyone()
    sessions.sweep()
    events = sessions.read_events("audit", "one")
    assert sessions.acknowledge_events("audit", events) == len(events) > 5


def crossing(client: Any, own: str, other: str, handle: Handle) -> Command:
    """Give a script's call with the keys of the prefix *own*, which reaches for a key of *other*'s from within.

    client: writes into an own index the *handle* that it is led by.
    """
    mine, theirs = Keys(own), Keys(other)
    index = mine.subject(Place(handle.partition, "digest"))
    client.zadd(index, {handle.name: 9e12})
    keys = (index, *(name(handle.partition) for name in (mine.expiry, mine.epoch, mine.events)))
    return scripts.REVOKE_ALL.command(keys, theirs.stem(handle.partition), "digest", b"", 10, 1, "", "", "", 2**50)


def elsewhere(url: str) -> str:
    """Give a URL like *url* where nothing answers."""
    return re.sub(r":\d+(?=[,/?]|$)", ":1", url).replace("/socket", "/no-socket")


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
        with redis.Redis(unix_socket_path=str(socket)) as client:
            wait_until(lambda: _answers(client), "redis-server answers")
        yield str(socket)
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _answers(client: redis.Redis) -> bool:
    try:
        return client.ping()
    except redis.ConnectionError:
        return False


ON_SOCKETS = {"valkey": valkey, "redis7": redis_7}


@contextmanager
def guarded_server(kind: str, folder: Path) -> Iterator[Guarded]:
    """Run a server of *kind*."""
    with ON_SOCKETS[kind](folder) as socket, redis.Redis(unix_socket_path=socket) as client:
        yield Guarded(Started(f"unix://{socket}", client, [client], []))


@contextmanager
def guarded_topology(kind: str) -> Iterator[Guarded]:
    """Run one of `tests.fix_servers`."""
    with KINDS[kind]() as started:
        yield Guarded(started)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where the tests' server is to be used as a bare user, leave out the tests that do not use it."""
    if "COATCHECK_TEST_ACL" in os.environ:
        left_out = [item for item in items if "server" not in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def _kinds() -> list[str]:
    chosen = os.environ.get("COATCHECK_TEST_SERVER")
    return [chosen] if chosen else list(ON_SOCKETS)


@pytest.fixture(scope="session", params=_kinds())
def shared_acl_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Start one server of each kind for the whole run, or what COATCHECK_TEST_SERVER names."""
    is_chosen = "COATCHECK_TEST_SERVER" in os.environ
    folder = tmp_path_factory.mktemp("guarded")
    with guarded_topology(request.param) if is_chosen else guarded_server(request.param, folder) as guarded:
        yield guarded


@pytest.fixture
def acl_server(shared_acl_server: Guarded) -> Guarded:
    """Give a server without data, whose log of refusals is empty."""
    shared_acl_server.client.flushall()
    shared_acl_server.refused()
    return shared_acl_server
