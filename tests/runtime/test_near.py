"""The lines on which a near cache is told: lost, silent, refused, forked; on every topology."""

import gc
import os
import signal
from contextlib import ExitStack
from datetime import timedelta
from threading import enumerate as threads
from time import monotonic
from weakref import ref

import pytest

import coatcheck
from coatcheck import NearCache, SessionPolicy, StoreUnavailable
from coatcheck.engine.access import access_rules
from coatcheck.engine.keys import Keys
from coatcheck.runtime.topology import slot_of
from faults.proxy import Proxy
from tests.contract.test_near_cache import held, seen_in_time
from tests.waiting import wait_until

pytestmark = pytest.mark.access(near_cache=True)

STALENESS = timedelta(milliseconds=300)
POLICY = SessionPolicy(near_cache=NearCache(staleness=STALENESS))
BOUND = STALENESS.total_seconds()


@pytest.fixture
def open_near(open_sessions):
    """Give a function that makes sessions with a near cache, by the server's own clock."""
    return lambda url=None, **options: open_sessions(
        **({"url": url} if url else {}), policy=POLICY, clock=None, **options
    )


def lines():
    """List the threads that keep lines."""
    return [thread for thread in threads() if thread.name == "coatcheck-near"]


def told(server):
    """List the ids of the connections that are told what is written."""
    return [client["id"] for client in server.client.client_list() if "B" in client["flags"] and "t" in client["flags"]]


def is_answered(sessions, identifier):
    """Say whether the near cache answers, within a moment."""
    ends_at = monotonic() + 2 * BOUND
    while monotonic() < ends_at:
        if sessions.load(identifier).is_near:
            return True
    return False


def ends_in_time(near, elsewhere, session):
    """End *session* elsewhere; say whether that is noticed within the bound."""
    elsewhere.revoke(session.handle)
    return seen_in_time(near, session.identifier, lambda loaded: loaded is None, monotonic())


@pytest.mark.requirement("R26")
def test_line_cut(open_near, open_sessions, server, caplog):
    """A line that is cut costs answers from memory, and nothing else; it is made anew, and each is told once."""
    caplog.set_level("INFO")
    near, elsewhere = open_near(), open_sessions(clock=None)
    session = near.create({"n": 1})
    held(near, session.identifier)

    for number in range(2, 5):
        (line,) = told(server)
        server.client.client_kill_filter(_id=line)
        theirs = elsewhere.load(session.identifier)
        theirs["n"] = number
        elsewhere.save(theirs)
        assert seen_in_time(near, session.identifier, lambda loaded, n=number: loaded["n"] == n, monotonic())
        wait_until(lambda old=line: set(told(server)) - {old}, "there is no new line")
        held(near, session.identifier)

    lost = [text for text in caplog.messages if text.startswith("session_near_cache_lost")]
    assert (len(lost), caplog.messages.count("session_near_cache_connected")) == (3, 4)
    assert "Every load asks the store until it is back" in lost[0]


@pytest.mark.requirement("R26", "R19")
def test_silent_line(open_near, start_topology):
    """Where what is told does not arrive any more, and nothing says so, what was written is accepted no longer."""
    topology = start_topology("single")
    port = int(topology.addresses[0].rpartition(":")[2])
    with Proxy() as proxy:
        way = proxy.lay(port)
        way.singles_out = lambda piece: b"TRACKING" in piece
        near, elsewhere = open_near(f"redis://127.0.0.1:{way.port}"), open_near(f"redis://127.0.0.1:{port}")
        stored = [elsewhere.create({"n": number}) for number in range(5)]
        for session in stored:
            held(near, session.identifier)

        way.is_silent = True
        for session in stored:
            assert ends_in_time(near, elsewhere, session)
        session = elsewhere.create({"n": 1})
        assert not is_answered(near, session.identifier)
        assert near.near_cache().behind is None

        way.is_silent = False
        held(near, session.identifier)


@pytest.mark.requirement("R26")
def test_frozen_process_of_the_server(frail, open_near):
    """While the server is frozen nothing is answered from memory for longer than the bound."""
    near = open_near(frail.server.url, deadline=timedelta(seconds=0.5))
    session = near.create({"n": 1})
    held(near, session.identifier)
    frail._process.send_signal(signal.SIGSTOP)
    try:
        stopped = last = began = monotonic()
        while _loads(near, session.identifier):
            last, began = began, monotonic()
    finally:
        frail._process.send_signal(signal.SIGCONT)

    assert last - stopped <= BOUND
    wait_until(lambda: _loads(near, session.identifier), "the store is not back")
    held(near, session.identifier)


@pytest.mark.requirement("R26")
def test_server_started_again(frail, open_near):
    """A server that is killed and started again is asked first, before anything is answered from memory."""
    near = open_near(frail.server.url)
    session = near.create({"n": 1})
    held(near, session.identifier)
    frail.kill()
    frail.start()
    frail.server.client.flushall()

    assert seen_in_time(near, session.identifier, lambda loaded: loaded is None, monotonic())
    held(near, near.create({"n": 2}).identifier)


def _loads(sessions, identifier):
    try:
        return sessions.load(identifier) is not None
    except StoreUnavailable:
        return False


@pytest.mark.requirement("R44")
def test_fork(open_near, open_sessions):
    """A child gets a line and a memory of its own; what is written meanwhile both notice in time."""
    near, elsewhere = open_near(), open_sessions()
    session = near.create({"n": 1})
    held(near, session.identifier)
    child = os.fork()
    if not child:
        try:
            assert near.near_cache().sessions == 0
            held(near, session.identifier)
            wait_until(lambda: near.load(session.identifier)["n"] == 2, "it is not told")
        except BaseException:  # noqa: BLE001  nothing of pytest's is to run here
            os._exit(1)
        os._exit(0)
    held(near, session.identifier)
    theirs = elsewhere.load(session.identifier)
    theirs["n"] = 2
    elsewhere.save(theirs)

    assert seen_in_time(near, session.identifier, lambda loaded: loaded["n"] == 2, monotonic())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_begins_with_the_first_load_and_ends(open_near):
    """There is no thread before the first load, none after `close`, and a new one when it is used again."""
    before = len(lines())
    near = open_near()
    session = near.create({"n": 1})
    assert len(lines()) == before
    held(near, session.identifier)
    assert len(lines()) == before + 1

    near.close()
    assert len(lines()) == before
    assert near.near_cache().sessions == 0

    held(near, session.identifier)


def test_ends_unclosed(server, key):
    """Sessions that nobody holds any more leave no thread behind, closed or not."""
    before = lines()
    sessions = coatcheck.Sessions(server.url, keys=key, policy=POLICY)
    held(sessions, sessions.create({"n": 1}).identifier)
    (line,) = [thread for thread in lines() if thread not in before]
    gone = ref(sessions.core)
    sessions._close_transport()

    del sessions
    wait_until(lambda: gc.collect() is not None and not line.is_alive(), "the thread goes on")
    assert gone() is None


@pytest.mark.requirement("R53")
def test_permission(server, key, caplog):
    """A user who may not be told is told so in the log; loads ask the store. With --near-cache he may."""

    def url(*, near_cache):
        rules = access_rules("cc", near_cache=near_cache)
        server.client.execute_command("ACL", "SETUSER", "deaf", "reset", "on", ">pw", *rules)
        return f"unix://deaf:pw@{server.socket}"

    with ExitStack() as stack:
        stack.callback(server.client.acl_deluser, "deaf")
        sessions = stack.enter_context(coatcheck.Sessions(url(near_cache=False), keys=key, policy=POLICY))
        session = sessions.create({"n": 1})
        assert not is_answered(sessions, session.identifier)
        (lost,) = [text for text in caplog.messages if text.startswith("session_near_cache_lost")]
        assert "`coatcheck acl --near-cache` prints" in lost

        others = stack.enter_context(coatcheck.Sessions(url(near_cache=True), keys=key, policy=POLICY))
        held(others, session.identifier)


def test_limit_for_subscribers(open_near, server):
    """The server counts the line among subscribers, whose output it bounds: a frozen process cannot fill it up."""
    near = open_near()
    held(near, near.create({"n": 1}).identifier)

    (line,) = [client for client in server.client.client_list() if client["id"] in told(server)]
    assert (line["sub"], "P" in line["flags"]) == ("1", True)


@pytest.mark.requirement("R52")
def test_sentinel(start_topology, open_near):
    """After a failover the line leads to the new primary, and what is done there is noticed in time."""
    topology = start_topology("sentinel")
    near, elsewhere = open_near(topology.url), open_near(topology.url)
    session = near.create({"n": 1})
    held(near, session.identifier)
    topology.failover()
    wait_until(lambda: _loads(near, session.identifier) and _loads(elsewhere, session.identifier), "no primary")
    held(near, session.identifier)

    assert ends_in_time(near, elsewhere, session)


@pytest.mark.requirement("R52")
def test_cluster(start_topology, open_near):
    """There is a line to each primary; what is written on any of them is noticed in time, after a failover too."""
    topology = start_topology("cluster")
    near, elsewhere = open_near(topology.url), open_near(topology.url)
    before, stored = len(lines()), [elsewhere.create({"n": 1}) for _ in range(24)]
    for session in stored:
        held(near, session.identifier)
    assert len(lines()) == before + 3
    for session in stored[:12]:
        assert ends_in_time(near, elsewhere, session)

    topology.failover()
    for session in stored[12:]:
        wait_until(lambda one=session: _loads(near, one.identifier) and _loads(elsewhere, one.identifier), "no primary")
        held(near, session.identifier)
        assert ends_in_time(near, elsewhere, session)


@pytest.mark.requirement("R40")
def test_slot_on_the_move(start_topology, open_near):
    """What is written to a session that moves to another node is noticed in time; half-way the store is asked."""
    topology = start_topology("cluster")
    near, elsewhere = open_near(topology.url), open_near(topology.url)
    session = elsewhere.create({"n": 0})
    held(near, session.identifier)
    slot = slot_of(("GET", Keys("cc").record(session.handle)))
    home = topology.primary(slot)
    move = topology.begin_move(slot, home, next(name for name in ("node1", "node2", "node3") if name != home))

    def count():
        theirs = elsewhere.load(session.identifier, fresh=True)
        theirs.increment("n")
        elsewhere.save(theirs)
        number = theirs["n"]
        assert seen_in_time(near, session.identifier, lambda loaded: loaded["n"] == number, monotonic())

    held(near, session.identifier)
    move.move_keys()
    wait_until(lambda: not is_answered(near, session.identifier), "what is half-way is answered from memory")
    move.finish()
    count()
    held(near, session.identifier)
    count()
