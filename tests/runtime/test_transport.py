"""The transports: errors in our words, servers that restart or forget scripts, threads, forks and event loops."""

import asyncio
import gc
import os
import select
import shutil
import socket
import subprocess
import time
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import redis

import coatcheck
from coatcheck import ConfigurationError, Keyring, StoreUnavailable
from coatcheck.engine.operations import Operations
from coatcheck.runtime import blocking
from coatcheck.runtime._embedded_host import find_server
from coatcheck.runtime.address import Address, Node
from coatcheck.runtime.asynchronous import AsyncTransport
from coatcheck.runtime.blocking import BlockingTransport
from coatcheck.runtime.sync import run
from tests.waiting import SLACK, wait_until

REFUSED = "redis://127.0.0.1:1/0"


class Private:
    """A server of one test's own, which it may stop, fill and break."""

    def __init__(self, folder):
        self.folder = folder
        self.socket = folder / "private.sock"
        self.data = folder / "data"
        self.data.mkdir()
        self.url = f"unix://{self.socket}"
        self._process = None

    def start(self):
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(
            [
                find_server(),
                *("--port", "0", "--unixsocket", self.socket, "--dir", self.data),
                *("--save", "", "--appendonly", "yes", "--appendfsync", "always", "--loglevel", "warning"),
            ],
            stdout=subprocess.DEVNULL,
        )
        wait_until(self._answers, "the server starts")

    def kill(self):
        """Kill it, as kill -9 does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.socket.unlink(missing_ok=True)

    def client(self):
        """Give a client."""
        return redis.Redis(unix_socket_path=str(self.socket))

    def _answers(self):
        with suppress(redis.ConnectionError), self.client() as client:
            return client.ping()
        return False

    def do(self, *command):
        """Carry out a command."""
        with self.client() as client:
            return client.execute_command(*command)


@pytest.fixture
def private(tmp_path_factory):
    """Give a running server of the test's own."""
    folder = Path(tmp_path_factory.mktemp("own"))
    server = Private(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=["sync", "async"])
def opened(request, key):
    """Give a function that opens sessions on a URL and gives a function that runs an operation of theirs."""
    loop = asyncio.new_event_loop()
    everything = []

    def make(url, **options):
        if request.param == "sync":
            sessions = coatcheck.Sessions(url, keys=key, **options)
            everything.append(sessions.close)
            return lambda name, *args: getattr(sessions, name)(*args)
        sessions = coatcheck.AsyncSessions(url, keys=key, **options)
        everything.append(lambda: loop.run_until_complete(sessions.close()))
        return lambda name, *args: loop.run_until_complete(getattr(sessions, name)(*args))

    yield make
    for close in everything:
        close()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.mark.requirement("R45")
def test_refused_connection(opened):
    """A server that is not there is unavailable: the text says which, and not its password."""
    does = opened("redis://user:hunter2@127.0.0.1:1/0?deadline=5")

    with pytest.raises(StoreUnavailable) as failed:
        does("list_for", "ada")

    assert str(failed.value) == (
        "redis://127.0.0.1:1/0 cannot be reached: Error 111 connecting to 127.0.0.1:1. Connection refused."
    ) or str(failed.value).startswith("redis://127.0.0.1:1/0 cannot be reached: Error 111 connecting to 127.0.0.1:1")
    assert "hunter2" not in "".join(traceback.format_exception(failed.value))


def test_wrong_password(opened, private):
    """A wrong password is a mistake in the configuration."""
    private.do("ACL", "SETUSER", "web", "on", ">right", "~*", "+@all")
    does = opened(f"unix://web:wrong@{private.socket}")

    with pytest.raises(ConfigurationError) as refused:
        does("list_for", "ada")

    assert str(refused.value).startswith(f"unix://{private.socket} refuses the user or the password: ")
    assert "wrong" not in str(refused.value).replace("wrong password", "").replace("WRONGPASS", "")


def test_missing_password(opened, private):
    """A server that wants a password and is given none says so as a mistake in the configuration."""
    private.do("ACL", "SETUSER", "default", "resetpass", ">right")
    does = opened(private.url)

    with pytest.raises(ConfigurationError, match="refuses the user or the password: "):
        does("list_for", "ada")


def test_missing_database(opened, private):
    """A database that the server does not have is a mistake in the configuration, not an outage."""
    does = opened(f"{private.url}?db=99")

    with pytest.raises(ConfigurationError) as refused:
        does("list_for", "ada")

    assert str(refused.value) == (
        f"{private.url} has no database of the number that its URL asks for: DB index is out of range. "
        "See `databases` in the server's configuration; a Cluster has no databases by number"
    )


@pytest.mark.parametrize(
    ("rights", "what"),
    [
        ("~* &* +@all -mget", "mget"),
        ("~* &* +@all -evalsha", "evalsha"),
        ("~other:* &* +@all", "key"),
        ("~* &* +@all -xadd", "ACL failure in script"),
        ("~* resetchannels +@all", "channel"),
    ],
)
def test_missing_permission(opened, private, rights, what):
    """A user who may not do what sessions need is a mistake in the configuration; the text names what is missing."""
    private.do("ACL", "SETUSER", "web", "on", ">right", *rights.split())
    does = opened(f"unix://web:right@{private.socket}")

    with pytest.raises(ConfigurationError) as refused:
        does("load", does("create", {"a": 1}).identifier)

    start = f"unix://{private.socket} does not let this user do what sessions need: "
    assert str(refused.value).startswith(start)
    assert what in str(refused.value)


@pytest.mark.requirement("R57")
def test_memory_full(opened, private):
    """A server without memory refuses writes in its own words; reading and revoking still work."""
    does = opened(private.url)
    session = does("create", {"a": 1})
    does("bind", session, "ada")
    private.do("CONFIG", "SET", "maxmemory", "1")

    with pytest.raises(
        StoreUnavailable, match=r"has no memory left for writes: raise its maxmemory, or end sessions \("
    ):
        does("create", {"a": 2})

    assert dict(does("load", session.identifier)) == {"a": 1}
    assert does("revoke", session.handle) is True
    assert does("load", session.identifier) is None


@pytest.mark.requirement("R57")
def test_memory_full_and_scripts_forgotten(opened, private):
    """A session can be ended on a full server even if that has to be given the script first."""
    does = opened(private.url)
    session = does("create", {"a": 1})
    private.do("SCRIPT", "FLUSH")
    private.do("CONFIG", "SET", "maxmemory", "1")

    assert does("revoke", session) is True


@pytest.mark.requirement("R45")
def test_replica(opened, private):
    """A server that has become a read-only replica is unavailable for writes, and recovers."""
    does = opened(private.url)
    session = does("create", {"a": 1})
    private.do("REPLICAOF", "127.0.0.1", "1")
    session["a"] = 2

    with pytest.raises(StoreUnavailable, match=r"is a replica that was to be the primary: .*read only replica"):
        does("save", session)

    private.do("REPLICAOF", "NO", "ONE")
    does("save", session)
    assert dict(does("load", session.identifier)) == {"a": 2}


def test_disk_full(opened, private):
    """A server that cannot write its snapshot refuses writes in its own words; reads work."""
    does = opened(private.url)
    session = does("create", {"a": 1})
    private.do("CONFIG", "SET", "appendonly", "no")
    private.do("CONFIG", "SET", "save", "3600 1000")
    shutil.rmtree(private.data)
    private.do("BGSAVE")
    wait_until(lambda: private.do("INFO", "persistence")["rdb_last_bgsave_status"] != "ok", "a snapshot has failed")

    with pytest.raises(
        StoreUnavailable, match=r"because it cannot write to its disk: see its log and the space left \(.*snapshot"
    ):
        does("create", {"a": 2})

    assert dict(does("load", session.identifier)) == {"a": 1}


@pytest.mark.requirement("R45")
def test_server_killed_and_started_again(opened, private):
    """While the server is down there is an error, no logout; the first call after its return works."""
    does = opened(private.url)
    session = does("create", {"a": 1})
    for _ in range(3):
        private.kill()
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            does("load", session.identifier)
        private.start()

        assert dict(does("load", session.identifier)) == {"a": 1}


@pytest.mark.requirement("R45")
def test_server_restarted_between_calls(opened, private):
    """A restart between two calls is not noticed, not by reads, writes or pipelines."""
    does = opened(private.url)
    session = does("create", {"a": 1})
    for operation in (("load", session.identifier), ("save", session), ("sweep",), ("list_for", "ada")):
        session["a"] += 1
        private.kill()
        private.start()
        does(*operation)

    does("save", session)
    assert dict(does("load", session.identifier)) == {"a": 5}


@pytest.mark.requirement("R43")
def test_frozen_server(opened, private):
    """A server that does not answer is unavailable within the deadline, and what it missed can be sent again."""
    does = opened(private.url, deadline=timedelta(milliseconds=300))
    session = opened(private.url)("create", {"n": 1})
    wait_until(lambda: is_answered(does, "load", session.identifier), "it is in time once")
    session.increment("n")
    os.kill(private._process.pid, 19)
    try:
        started = time.monotonic()
        with pytest.raises(StoreUnavailable) as failed:
            does("save", session)
        assert time.monotonic() - started < 0.3 + SLACK
        assert str(failed.value) == (
            f"{private.url} cannot be reached: no answer within the deadline of 300 ms: "
            f"{private.socket} did not answer in time"
        )
    finally:
        os.kill(private._process.pid, 18)

    wait_until(lambda: is_answered(does, "save", session), "it is asked again")
    assert opened(private.url)("load", session.identifier)["n"] == 2


def is_answered(does, *operation):
    """Carry out an operation; say whether the server answered within the deadline."""
    try:
        does(*operation)
    except StoreUnavailable:
        return False
    return True


@pytest.mark.requirement("R49")
def test_forgotten_scripts(opened, server):
    """A server that has forgotten the scripts is given them again, for each operation."""
    does = opened(server.url)
    session = does("create", {"a": 1})
    for name, *arguments in (
        ("create", {"b": 1}),
        ("bind", session, "ada"),
        ("list_for", "ada"),
        ("rotate", session),
        ("sweep",),
        ("revoke_all", "bob"),
        ("unbind", session),
        ("revoke", session),
    ):
        server.client.script_flush()
        does(name, *arguments)

    assert does("load", session.identifier or "") is None


@pytest.mark.requirement("R49")
def test_forgotten_scripts_in_a_pipeline(server):
    """In a pipeline the commands whose script was forgotten are sent again, in order; the others are not."""
    from coatcheck.engine import scripts  # noqa: PLC0415  beside what it is used for

    transport = BlockingTransport(Address(server.url), {})
    for number in range(3):
        server.client.set(f"cc:{{t}}:{number}", b"old", px=60_000)
    replace = [scripts.RESEAL.command((f"cc:{{t}}:{number}",), b"old", b"new") for number in range(3)]
    add = ("XADD", "cc:{t}:n", "*", "a", "1")
    server.client.script_flush()
    try:
        replies = run(transport.call(add, replace[0], add, *replace[1:], replace[0], ("TIME",)))
    finally:
        transport.close()

    assert replies[1:6:2] == [1, 1, 1]
    assert (replies[4], len(replies[6])) == (1, 2)
    assert [entry for entry, _ in server.client.xrange("cc:{t}:n")] == [replies[0], replies[2]]


@pytest.mark.requirement("R44")
def test_many_threads(server, key):
    """Many threads share one object, more of them than there are connections."""
    with coatcheck.Sessions(server.url, keys=key, max_connections=4) as sessions:
        session = sessions.create({"n": 0})

        def count(_):
            mine = sessions.load(session.identifier)
            mine.increment("n")
            sessions.save(mine)

        with ThreadPoolExecutor(24) as threads:
            list(threads.map(count, range(96)))

        assert sessions.load(session.identifier)["n"] == 96


@pytest.mark.requirement("R44")
def test_thread_that_waited_for_a_connection(server, monkeypatch):
    """To wait for a connection takes nothing of the time that the server has to answer: the connection is kept."""
    waited, take = [0.0], blocking._Pool.take

    def take_late(pool, ends_at):
        waited[0] += 0.6
        return take(pool, ends_at)

    transport = BlockingTransport(Address(server.url), {"deadline": timedelta(seconds=1)})  # half of it for an attempt
    (connection,) = run(transport.call(("CLIENT", "ID")))
    monkeypatch.setattr(blocking, "monotonic", lambda: time.monotonic() + waited[0])
    monkeypatch.setattr(blocking._Pool, "take", take_late)
    try:
        run(transport.call(("BLPOP", "nothing", "0.05")))
        monkeypatch.undo()
        assert run(transport.call(("CLIENT", "ID"))) == [connection]
    finally:
        transport.close()


@pytest.mark.requirement("R44")
def test_thread_that_finds_no_connection(tmp_path, key):
    """A thread that finds all connections in use says so, and leaves those of other threads alone."""
    address = Address(f"embedded://{tmp_path}")
    transport = BlockingTransport(
        address, {"max_connections": 1, "deadline": timedelta(seconds=20), "socket_timeout": 20}
    )
    with redis.Redis(unix_socket_path=address.join().host) as outside, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(run, transport.call(("BLPOP", "list", 10)))
        while not outside.info("clients")["blocked_clients"]:
            pass
        transport.settings = replace(transport.settings, deadline=0.05)

        with pytest.raises(
            StoreUnavailable, match=r"within the deadline of 50 ms: all 1 connections are in use \(max_c"
        ):
            run(transport.call(("EXISTS", "list")))

        outside.rpush("list", "done")
        assert waiting.result() == [[b"list", b"done"]]
    transport.close()
    address.leave()


@pytest.fixture
def idle(server):
    """Give a blocking transport, and the socket of its one connection, which is not in use."""
    transport = BlockingTransport(Address(server.url), {})
    run(transport.call(("PING",)))
    (pool,) = transport._pools.values()
    yield transport, pool._free[0]._sock
    transport.close()


@pytest.mark.requirement("R42")
def test_reply_that_nobody_asked_for(idle):
    """A reply that comes while a connection is not in use is nobody's: the connection is given up."""
    transport, sock = idle
    sock.sendall(b"PING\r\n")
    select.select([sock], [], [], 10)

    assert run(transport.call(("MGET", "cc:{t}:a"))) == [[None]]
    assert sock.fileno() == -1


def test_connection_that_was_closed_while_idle(idle, server):
    """That the server has closed a connection is seen before it is used, and costs no retry."""
    transport, sock = idle
    server.client.client_kill_filter(_type="normal", skipme=True)
    select.select([sock], [], [], 10)

    assert run(transport.call(("MGET", "cc:{t}:a"))) == [[None]]
    assert transport._budget._tokens == 10


def test_connections_are_used_again(idle, server):
    """Who asks one thing after the other uses one connection, also after one whose reply did not come."""
    transport, _ = idle
    server.client.xgroup_create("cc:{t}:e", "audit", mkstream=True)
    for _ in range(3):
        run(transport.call(("PING",)))
    with pytest.raises(StoreUnavailable):
        run(transport.call(("XREADGROUP", "GROUP", "audit", "one", "BLOCK", 0, "STREAMS", "cc:{t}:e", ">")))
    (pool,) = transport._pools.values()

    assert run(transport.call(("MGET", "cc:{t}:a"))) == [[None]]
    assert pool._made == 1


@pytest.mark.requirement("R44")
def test_threads_that_start_together(server, key):
    """Threads that make the first call at the same time all get their own answer."""
    for _ in range(10):
        with coatcheck.Sessions(server.url, keys=key) as sessions, ThreadPoolExecutor(8) as threads:
            stored = list(threads.map(lambda number: sessions.create({"n": number}), range(8)))
            assert [sessions.load(session.identifier)["n"] for session in stored] == list(range(8))


@pytest.mark.requirement("R44")
def test_new_loop_for_every_call(server, key):
    """Each call may run on a loop of its own, as test clients do; no connection is left open behind it."""
    sessions = coatcheck.AsyncSessions(server.url, keys=key)
    before = len(server.client.client_list())
    session = asyncio.run(sessions.create({"n": 0}))
    for _ in range(20):
        asyncio.run(_count(sessions, session.identifier))
    gc.collect()  # a connection left open would warn, and a warning is an error here

    assert asyncio.run(sessions.load(session.identifier))["n"] == 20
    wait_until(lambda: len(server.client.client_list()) == before, "no connection is left open")


async def _count(sessions, identifier):
    mine = await sessions.load(identifier)
    mine.increment("n")
    await sessions.save(mine)


@pytest.mark.requirement("R44")
def test_two_loops_at_once(server, key):
    """Loops in several threads share one object at the same time."""
    sessions = coatcheck.AsyncSessions(server.url, keys=key)
    session = asyncio.run(sessions.create({"n": 0}))

    async def count_often():
        await asyncio.gather(*(_count(sessions, session.identifier) for _ in range(20)))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: asyncio.run(count_often()), range(4)))

    assert asyncio.run(sessions.load(session.identifier))["n"] == 80


@pytest.mark.requirement("R44")
def test_loops_are_forgotten(server, key):
    """A loop that has ended is not kept alive by the object that was used on it."""
    sessions = coatcheck.AsyncSessions(server.url, keys=key)
    for _ in range(5):
        asyncio.run(asyncio.wait_for(_gathered(sessions), 5))
    gc.collect()

    assert len(sessions._store.transport._lines) == 0


@pytest.mark.requirement("R44")
@pytest.mark.filterwarnings("ignore")  # of what is left behind on purpose
def test_loop_that_is_thrown_away(private, key):
    """Where a loop is closed while a save waits for its answer, all is freed: the task, the loop and the sessions."""

    def left_behind():
        sessions = coatcheck.AsyncSessions(private.url, keys=key, deadline=timedelta(seconds=9))
        loop = asyncio.new_event_loop()

        async def leave_a_save():
            session = await sessions.create({"n": 0})
            session["n"] = 1
            private.do("CLIENT", "PAUSE", "5000")
            task = loop.create_task(sessions.save(session))
            task._log_destroy_pending = False
            await asyncio.sleep(0.05)
            return weakref.ref(task)

        task = loop.run_until_complete(leave_a_save())
        loop.close()
        return task, weakref.ref(loop), weakref.ref(sessions)

    references = left_behind()
    for _ in range(3):
        gc.collect()

    assert [reference() for reference in references] == [None, None, None]


async def _gathered(sessions):
    await asyncio.gather(*(sessions.create({"n": 1}) for _ in range(80)))


def test_closing_and_going_on(opened, server):
    """A closed object connects again when it is used again."""
    does = opened(server.url)
    session = does("create", {"a": 1})
    does("close")
    does("close")

    assert dict(does("load", session.identifier)) == {"a": 1}


def test_nothing_is_sent_at_birth(server, key):
    """Making the objects connects to nothing: they may be global, in any process."""
    coatcheck.Sessions(REFUSED, keys=key)
    coatcheck.AsyncSessions(REFUSED, keys=key)
    before = len(server.client.client_list())
    coatcheck.Sessions(server.url, keys=key)

    assert len(server.client.client_list()) == before


def test_nothing_to_carry_out(server):
    """A call of no commands gives no replies, also once a connection stands."""
    blocking, found = BlockingTransport(Address(server.url), {}), []

    async def ask():
        transport = AsyncTransport(Address(server.url), {})
        found.extend([await transport.call(), await transport.call(("TIME",)), await transport.call()])
        await transport.aclose()

    asyncio.run(ask())
    replies = [run(blocking.call()), run(blocking.call(("TIME",))), run(blocking.call())]
    blocking.close()

    assert [len(reply) for reply in found] == [len(reply) for reply in replies] == [0, 1, 0]


def test_both_transports_meet_the_protocol(server, key):
    """Operations work over either transport, made by hand."""
    ring = Keyring.parse(key)
    blocking, awaited = BlockingTransport(Address(server.url), {}), AsyncTransport(Address(server.url), {})
    stored = run(Operations(blocking, keyring=ring).create({"a": 1}))
    blocking.close()

    assert dict(asyncio.run(Operations(awaited, keyring=ring).load(stored.identifier))) == {"a": 1}


def test_unknown_option(opened, private):
    """An option that redis-py does not know is refused by name."""
    with pytest.raises(
        ConfigurationError, match=r"^there is no option sockettimeout for unix://.*: see the list in docs/settings"
    ):
        opened(f"unix://{private.socket}", sockettimeout=3)


def test_closed_with_a_call_under_way():
    """A connection that was given up while a call was under way on it is closed with the others."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        node = Node(*silent.getsockname())

        async def use():
            transport = AsyncTransport(Address(f"redis://{node}"), {})
            asked = asyncio.create_task(transport.call(("PING",)))
            accepted, _ = await asyncio.to_thread(silent.accept)
            assert b"PING" in await asyncio.to_thread(accepted.recv, 100)
            transport.drop(node)
            asked.cancel()
            await transport.aclose()
            return accepted

        loop = asyncio.new_event_loop()
        loop.run_until_complete(use()).close()
        loop.close()

    gc.collect()  # what is still open now, pytest makes an error
