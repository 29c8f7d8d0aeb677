"""A real Valkey for the tests, a clock that can be moved, and both facades behind one interface."""

import asyncio
import inspect
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

import coatcheck
from coatcheck.engine.clock import Clock
from coatcheck.engine.scripts import BY_SHA
from coatcheck.runtime.embedded import Embedded
from tests import near_mode
from tests.fix_access import PREFIXES, Guarded, guarded_server
from tests.fix_servers import KINDS

# Shortens the life of every key by ARGV[1] ms, as if that time had passed.
_MOVE = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left > tonumber(ARGV[1]) then redis.call('PEXPIRE', key, left - ARGV[1])
  elseif left >= 0 then redis.call('DEL', key) end
end
"""

_BETWEEN_SERVERS = frozenset({"REPLCONF", "PUBLISH", "PING", "INFO", "CLIENT", "AUTH", "SENTINEL", "MULTI", "EXEC"})
_OF_NEAR_CACHES = frozenset({"HELLO", "SUBSCRIBE"} if near_mode.IS_ON else ())  # and PING and CLIENT


class Server:
    """A running server of the tests' own, and a client that looks at it from outside.

    It may be several: *client* then knows which of them has a key, and *nodes* are clients of each primary.
    """

    def __init__(
        self, url: str, client: Any, guarded: Guarded | None = None, nodes: list[redis.Redis] | None = None
    ) -> None:
        self.url = url
        self.client = client
        self.guarded = guarded
        self.nodes = nodes or [client]

    @property
    def socket(self) -> str:
        """The path of its socket."""
        return urlsplit(self.url).path

    def keys(self, part: str = "") -> list[str]:
        """List the names of all keys, or of those with *part* in them."""
        found = [key.decode() for node in self.nodes for key in node.scan_iter(count=1000)]
        return sorted(name for name in found if part in name)

    def left(self) -> list[str]:
        """List the names of all keys but those of the streams of events, which outlive the sessions."""
        return [name for name in self.keys() if not name.endswith("}:e")]

    def contents(self) -> dict[str, bytes]:
        """Give what every key holds."""
        return self._of_every_key("dump")

    def keys_without_ttl(self) -> list[str]:
        """List the keys that would live for ever."""
        return [name for name, left in self._of_every_key("pttl").items() if left == -1]

    def listeners(self) -> list[str]:
        """List the connections (their ids) that listen for events. A near cache's has no pattern."""
        return [client["id"] for client in self.client.client_list(_type="pubsub") if client["psub"] != "0"]

    def _of_every_key(self, command: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for node in self.nodes:
            names = list(node.scan_iter(count=1000))
            with node.pipeline(transaction=False) as pipeline:
                for name in names:
                    getattr(pipeline, command)(name)
                found |= zip((name.decode() for name in names), pipeline.execute(), strict=True)
        return found

    @contextmanager
    def commands(self) -> Iterator[list[str]]:
        """Record the commands that clients send meanwhile (not those that scripts run), as "NAME first-argument"."""
        seen: list[str] = []
        token = secrets.token_hex(8)
        with ExitStack() as stack:
            monitors = [stack.enter_context(node.monitor()) for node in self.nodes]
            for node, monitor in zip(self.nodes, monitors, strict=True):
                node.echo(token)  # opens the client's own connection, if it has none yet
                while token not in monitor.next_command()["command"].split():
                    pass
            yield seen
            for node, monitor in zip(self.nodes, monitors, strict=True):
                node.echo(token)
                for command in monitor.listen():
                    words = command["command"].split()
                    if token in words:
                        break
                    if command["client_type"] != "lua" and words[0] not in _BETWEEN_SERVERS | _OF_NEAR_CACHES:
                        seen.append(" ".join(words[:2]))


class MovableClock(Clock):
    """The server's clock, and what a test has added to it."""

    __slots__ = ("_server", "moved")

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        self.moved = 0

    def now(self) -> int:
        """Give the moved time."""
        return super().now() + self.moved

    def advance(self, duration: timedelta) -> None:
        """Let *duration* pass, on this clock and for the keys of the server."""
        step = duration // timedelta(milliseconds=1)
        self.moved += step
        for node in self._server.nodes:
            node.eval(_MOVE, 0, step)


class Stepped:
    """AsyncSessions with the interface of Sessions: each call runs on an event loop until it is done."""

    def __init__(self, sessions: coatcheck.AsyncSessions, loop: asyncio.AbstractEventLoop) -> None:
        self._sessions = sessions
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._sessions, name)
        if not inspect.iscoroutinefunction(attribute):
            return attribute

        @wraps(attribute)
        def call(*args: Any, **options: Any) -> Any:
            return self._loop.run_until_complete(attribute(*args, **options))

        return call


def _teach(*nodes: redis.Redis) -> None:
    """Load every script: no test is to depend on which one came first and did that."""
    for node in nodes:
        for script in BY_SHA.values():
            node.script_load(script.source)


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start one server for the whole run, by default the embedded one.

    COATCHECK_TEST_SERVER names another, or a topology (`tests.fix_servers`); COATCHECK_TEST_ACL names one that is to be
    used as a bare user.
    """
    if kind := os.environ.get("COATCHECK_TEST_ACL"):
        with guarded_server(kind, tmp_path_factory.mktemp("store")) as guarded:
            _teach(guarded.client)
            yield Server(guarded.user(*PREFIXES, reseals=True), guarded.client, guarded)
        return
    if kind := os.environ.get("COATCHECK_TEST_SERVER"):
        with KINDS[kind]() as started:
            _teach(*started.primaries)
            yield Server(started.url, started.client, nodes=started.primaries)
        return
    embedded = Embedded(Path(tmp_path_factory.mktemp("store")))
    with redis.Redis(unix_socket_path=embedded.socket()) as client:
        _teach(client)
        yield Server(f"unix://{embedded.socket()}", client)
    embedded.leave()


@pytest.fixture
def server(request: pytest.FixtureRequest, shared_server: Server) -> Iterator[Server]:
    """Give the server, emptied. Where a bare user uses it, nothing may be refused to that user.

    The mark `access` says which options of `access_rules` the test's sessions need.
    """
    shared_server.client.flushall()
    guarded, mark = shared_server.guarded, request.node.get_closest_marker("access")
    if guarded is None:
        yield shared_server
        return
    with guarded.allowing(shared_server.url, **(mark.kwargs if mark else {})):
        yield shared_server
    assert guarded.refused() == []


@pytest.fixture
def clock(server: Server) -> MovableClock:
    """Give a clock that the test may move."""
    return MovableClock(server)


@pytest.fixture
def key() -> str:
    """Give a sealing key."""
    return coatcheck.new_key()


@pytest.fixture(params=["sync", "async"])
def open_sessions(
    request: pytest.FixtureRequest, server: Server, clock: MovableClock, key: str
) -> Iterator[Callable[..., coatcheck.Sessions]]:
    """Give a function that makes Sessions, or AsyncSessions behind the same interface, on the server.

    Its arguments are theirs; by default they share the server, the clock and the key of the test.
    """
    loop = asyncio.new_event_loop()
    opened: list[Any] = []

    def make(**options: Any) -> Any:
        options = {"url": server.url, "keys": key, "clock": clock, **options}
        if request.param == "sync":
            sessions: Any = coatcheck.Sessions(**options)
        else:
            sessions = Stepped(coatcheck.AsyncSessions(**options), loop)
        opened.append(sessions)
        return sessions

    yield make
    for sessions in opened:
        sessions.close()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture
def open_at(open_sessions: Callable[..., coatcheck.Sessions]) -> Callable[..., coatcheck.Sessions]:
    """Give a function that makes sessions of either facade at a URL, by the clock of the server there."""
    return lambda url, **options: open_sessions(url=url, clock=None, **options)


@pytest.fixture
def sessions(open_sessions: Callable[..., coatcheck.Sessions]) -> coatcheck.Sessions:
    """Give sessions under the default policy."""
    return open_sessions()
