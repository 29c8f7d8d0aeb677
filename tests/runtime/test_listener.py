"""Subscribers in the process: what they are told, by whom, and what becomes of it when something fails."""

import asyncio
import logging
import signal
import subprocess
import sys
import threading

import pytest

from coatcheck import AsyncSessions, EventType, Sessions
from tests.waiting import a_wait_until, wait_until


@pytest.fixture
def elsewhere(server, key):
    """Give sessions as another process has them."""
    with Sessions(server.url, keys=key) as sessions:
        yield sessions


@pytest.fixture
def blocking(server, key):
    """Give sessions that subscribe."""
    with Sessions(server.url, keys=key) as sessions:
        yield sessions


def test_told_in_a_thread(blocking, elsewhere):
    """A function hears, in the listening thread, what another process does, with all that its event says."""
    heard, threads = [], []

    @blocking.on(EventType.REVOKED)
    def revoked(event):
        threads.append(threading.current_thread().name)
        heard.append(event)

    session = elsewhere.create()
    elsewhere.bind(session, "ada")
    with blocking.listening():
        elsewhere.revoke(session, by="bob", why="lost phone")
        wait_until(lambda: heard, "it is told")

    (event,) = heard
    (kept,) = [event for event in elsewhere.read_events("g", "c") if event.type is EventType.REVOKED]
    assert (event.handle, event.by, event.why, event.at) == (session.handle, "bob", "lost phone", kept.at)
    assert event.subject_digest in elsewhere.subject_digests("ada")
    assert threads == ["coatcheck-listener"]


def test_told_all_in_order(blocking, elsewhere):
    """A function registered for no type in particular hears every type, in the order in which things happened."""
    heard = []
    blocking.on()(lambda event: heard.append(event.type))

    with blocking.listening():
        session = elsewhere.create({"a": 1})
        elsewhere.bind(session, "ada")
        elsewhere.rotate(session)
        elsewhere.bind(session, "ada", assurance=2)
        elsewhere.revoke_everyone()
        wait_until(lambda: heard.count(EventType.REVOKED) == 257, "everything is told")

    assert [kind.value for kind in heard[:5]] == ["created", "bound", "rotated", "revoked", "bound"]


def test_not_listening(blocking, elsewhere):
    """What happens while nobody listens is not told afterwards."""
    heard = []
    blocking.on()(heard.append)
    elsewhere.create()

    with blocking.listening():
        session = elsewhere.create()
        wait_until(lambda: heard, "it is told")

    assert [event.handle for event in heard] == [session.handle]


def test_other_prefix(blocking, server, key):
    """What happens under another prefix is not told."""
    heard = []
    blocking.on()(heard.append)

    with Sessions(server.url, keys=key, prefix="other:cc") as other, blocking.listening():
        other.create()
        session = blocking.create()
        wait_until(lambda: heard, "it is told")

    assert [event.handle for event in heard] == [session.handle]


@pytest.mark.anyio
async def test_awaited(server, key, elsewhere):
    """AsyncSessions awaits coroutine functions, one event after the other, and calls plain functions too."""
    order, plain = [], []
    async with AsyncSessions(server.url, keys=key) as sessions:

        @sessions.on(EventType.CREATED)
        async def slow(event):
            order.append("begin")
            await asyncio.sleep(0)
            order.append("end")

        sessions.on(EventType.CREATED)(plain.append)
        async with sessions.listening():
            await asyncio.to_thread(lambda: (elsewhere.create(), elsewhere.create()))
            await a_wait_until(lambda: len(plain) == 2, "both are told")

    assert order == ["begin", "end"] * 2


@pytest.mark.anyio
async def test_listen_until_cancelled(server, key):
    """The coroutine listens until it is cancelled, and leaves no connection behind."""
    heard = []
    async with AsyncSessions(server.url, keys=key) as sessions:
        sessions.on()(heard.append)
        task = asyncio.create_task(sessions.listen())
        await a_wait_until(server.listeners, "it listens")
        await sessions.create()
        await a_wait_until(lambda: heard, "it is told")

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    await a_wait_until(lambda: not server.listeners(), "nobody listens any more")


def test_listen_blocks(server, key, elsewhere):
    """Without a loop `listen` blocks the thread that calls it, in a process that does nothing else."""
    program = """
import sys, coatcheck
sessions = coatcheck.Sessions(sys.argv[1], keys=sys.argv[2])
sessions.on()(lambda event: print(event.type.value, flush=True))
sessions.listen()
"""
    process = subprocess.Popen([sys.executable, "-c", program, server.url, key], stdout=subprocess.PIPE, text=True)
    with process:
        wait_until(server.listeners, "it listens")
        elsewhere.create()
        told = process.stdout.readline()
        process.kill()

    assert told == "created\n"


def test_failing_function(blocking, elsewhere, caplog):
    """What a function raises is logged; the others are told, and the next event is told to all."""
    heard = []

    @blocking.on()
    def fail(event):
        raise LookupError("mine")

    blocking.on()(heard.append)
    with blocking.listening(), caplog.at_level(logging.ERROR, "coatcheck"):
        elsewhere.create()
        elsewhere.create()
        wait_until(lambda: len(heard) == 2, "the others are told")

    failed = [record for record in caplog.records if record.message == "session_subscriber_failed"]
    assert len(failed) == 2
    assert "mine" in caplog.text


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_connection_killed(server, elsewhere, key, caplog, kind):
    """After its connection was killed it listens again, having said so once."""
    heard = []
    caplog.set_level(logging.INFO, "coatcheck")

    def kill_and_create():
        (former,) = server.listeners()
        server.client.client_kill_filter(_id=former)
        wait_until(lambda: server.listeners() not in ([], [former]), "it listens again")
        wait_until(lambda: caplog.messages.count("session_listener_connected") == 2, "it says so")
        elsewhere.create()
        wait_until(lambda: heard, "it is told")

    async def listen():
        async with AsyncSessions(server.url, keys=key) as sessions:
            sessions.on()(heard.append)
            async with sessions.listening():
                await asyncio.to_thread(kill_and_create)

    if kind == "async":
        asyncio.run(listen())
    else:
        with Sessions(server.url, keys=key) as sessions:
            sessions.on()(heard.append)
            with sessions.listening():
                kill_and_create()

    assert caplog.messages.count("session_listener_lost") == 1


def test_store_away(frail, key, caplog):
    """While the store is away it tries again, silently after the first time, and listens when it is back."""
    heard = []
    with Sessions(frail.server.url, keys=key) as sessions:
        sessions.on()(heard.append)
        with sessions.listening():
            frail.kill()
            wait_until(lambda: "session_listener_lost" in caplog.messages, "it notices")
            frail.start()
            wait_until(frail.server.listeners, "it listens again")
            sessions.create()
            wait_until(lambda: heard, "it is told")

    assert caplog.messages.count("session_listener_lost") == 1


def test_never_there(key, caplog):
    """A store that was never there stops nothing: the block is entered, and left."""
    with Sessions("unix:///nonexistent/socket", keys=key) as sessions, sessions.listening():
        assert caplog.messages == ["session_listener_lost"]


def test_frozen_server(frail, key, caplog):
    """A server that keeps the connection and says nothing any more is noticed."""
    with Sessions(frail.server.url, keys=key) as sessions, sessions.listening():
        frail._process.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: "session_listener_lost" in caplog.messages, "it notices")
        finally:
            frail._process.send_signal(signal.SIGCONT)
        wait_until(frail.server.listeners, "it listens again")


def test_what_is_not_ours(blocking, server, elsewhere):
    """What is no event of this version is passed over: the connection stays, and the next event is told."""
    heard = []
    blocking.on()(heard.append)
    with blocking.listening():
        (connection,) = server.listeners()
        for text in ("", "dreamt\n\n\n1\n\n", "revoked\nnot a handle\n\n1\n\n", "revoked\n\n\nx\n\n", b"\xff"):
            server.client.publish("cc:{06S}:e", text)
        server.client.publish("cc:{nowhere}:e", "revoked\n\n\n1\n\n")
        elsewhere.create()
        wait_until(lambda: heard, "it is told")

        assert server.listeners() == [connection]

    assert [event.type for event in heard] == [EventType.CREATED]


def test_on_wants_types(blocking):
    """What is no EventType is refused where it is written, as is the decorator without its parentheses."""
    with pytest.raises(TypeError, match="EventType"):
        blocking.on("revoked")
    with pytest.raises(TypeError, match="EventType"):

        @blocking.on
        def revoked(event):
            """Do nothing."""


def test_on_refuses_coroutine_functions(blocking):
    """Sessions, which has no loop to await them on, refuses coroutine functions."""

    async def revoked(event):
        """Do nothing."""

    with pytest.raises(TypeError, match="AsyncSessions"):
        blocking.on(EventType.REVOKED)(revoked)


def test_permission(server, key, caplog):
    """A user that the store does not let listen is told so in the log."""
    server.client.acl_setuser(
        "deaf", enabled=True, passwords=["+pw"], categories=["+@all"], keys=["*"], reset_channels=True
    )
    url = f"unix://deaf:pw@{server.socket}"
    try:
        with Sessions(url, keys=key) as sessions, sessions.listening():
            pass
    finally:
        server.client.acl_deluser("deaf")

    (lost,) = [record for record in caplog.records if record.message == "session_listener_lost"]
    assert "does not let this user" in lost.error
