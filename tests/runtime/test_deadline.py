"""One deadline for an operation, whichever calls it makes; for a lone call all of it. Time is moved, not waited for."""

import asyncio
import time
from contextlib import suppress
from datetime import timedelta
from functools import partial
from types import SimpleNamespace

import pytest
from redis.exceptions import TimeoutError as NoAnswer

import coatcheck
from coatcheck import (
    ClientPolicy,
    CookiePolicy,
    Durability,
    DurabilityNotReached,
    IssuerSession,
    Keyring,
    Level,
    NearCache,
    OutagePolicy,
    RevocationPending,
    SessionPolicy,
    StoreUnavailable,
)
from coatcheck.engine import deadline, subjects
from coatcheck.engine.deadline import OneDeadline
from coatcheck.engine.exchange import Exchange
from coatcheck.engine.operations import Operations
from coatcheck.engine.turns import _Line
from coatcheck.model.ticket import Ticket
from coatcheck.runtime import batch as batches_
from coatcheck.runtime.address import Address, Node
from coatcheck.runtime.asynchronous import AsyncTransport
from coatcheck.runtime.batch import Batch
from coatcheck.runtime.blocking import BlockingTransport
from coatcheck.runtime.carrier import Carrier
from coatcheck.runtime.sync import run
from tests.waiting import SLACK

SECONDS = 20.0
SILENT = None
DEADLINE = timedelta(seconds=SECONDS)
SPENT = r"cannot be reached: no answer within the deadline of 20000 ms: "
TIMED = (
    "coatcheck.runtime.carrier.monotonic",
    "coatcheck.runtime.lookout.monotonic",
    "coatcheck.runtime.sentinel.monotonic",
    "coatcheck.runtime.topology.monotonic",
    "coatcheck.engine.deadline.monotonic",
    "coatcheck.engine.operations.monotonic",
    "coatcheck.engine.store.monotonic",
    "coatcheck.engine.writer.monotonic",
    "coatcheck.engine.endings.time",
)


class MovableTime:
    """The monotonic clock of the code that keeps deadlines, and what a test has added to it."""

    def __init__(self):
        self.moved = 0.0

    def __call__(self):
        """Give it, in seconds."""
        return time.monotonic() + self.moved


class SlowLine:
    """What lies between a transport and the server: each exchange takes as long as the test says, on the moved clock.

    lasting: how much of a deadline the following exchanges take; SILENT: no answer comes. Those after it take no time.
    sentinels_take: how much those with the sentinels do.
    """

    sentinels_take = 0.0

    def __init__(self, transport, clock, monkeypatch):
        self.clock = clock
        self.lasting = []
        self.sent = 0
        self.transport = transport
        self.began = 0.0
        self._exchange = transport.exchange
        self._pause = transport.pause
        monkeypatch.setattr(transport, "exchange", self.exchange)
        monkeypatch.setattr(transport, "call", partial(Carrier.call, transport))  # which takes no short cut
        monkeypatch.setattr(transport, "pause", self.pause)
        monkeypatch.setattr(transport, "signal", self.signal)

    def plan(self, *lasting):
        """Say how long the exchanges from now on take."""
        self.lasting, self.sent, self.began = list(lasting), 0, self.clock()

    @property
    def took(self):
        """How much of a deadline has passed since the plan was made."""
        return (self.clock() - self.began) / SECONDS

    async def exchange(self, batches, ends_at):
        """Answer late, or not at all."""
        lasts = self.sentinels_take
        if not batches[0].is_sentinel:
            self.sent += 1
            lasts = self.lasting.pop(0) if self.lasting else 0.0
        now = self.clock()
        left = min(ends_at, now + self.transport.settings.attempt) - now
        if lasts is SILENT or lasts * SECONDS > left:
            self.clock.moved += max(0.0, left)
            for batch in batches:
                batch.error = NoAnswer("no answer in time")
            return
        self.clock.moved += lasts * SECONDS
        await self._exchange(batches, ends_at)

    async def pause(self, seconds):
        """Have the time pass."""
        self.clock.moved += seconds

    def signal(self):
        """Make a signal that is waited for in vain."""
        patience = self.transport.patience()

        async def wait():
            self.clock.moved += patience
            return False

        return SimpleNamespace(wait=wait, give=lambda: True)


@pytest.fixture
def moving(monkeypatch):
    """Give the clock, which all that keeps deadlines goes by."""
    clock = MovableTime()
    for name in TIMED[:-1]:
        monkeypatch.setattr(name, clock)
    monkeypatch.setattr(TIMED[-1], SimpleNamespace(monotonic=clock, time_ns=time.time_ns))
    return clock


@pytest.fixture
def open_slow(open_sessions, moving, monkeypatch):
    """Give a function that opens sessions over a line that answers as the test says, and gives both."""

    def make(**options):
        sessions = open_sessions(deadline=DEADLINE, **options)
        return sessions, SlowLine(core(sessions)._store.transport, moving, monkeypatch)

    return make


def core(sessions):
    """Give the operations behind a facade."""
    return sessions.core if isinstance(sessions, coatcheck.Sessions) else sessions._sessions


def anonymous(sessions, _):
    """Make an anonymous session."""
    return sessions.create({"a": 1})


def signed_in(sessions, _):
    """Make a session of ada's."""
    session = sessions.create({"a": 1})
    sessions.bind(session, "ada")
    return session


def met_by_another(sessions, others):
    """Make a session that others write, before this process does."""
    session = sessions.create({"a": 1, "cart": ["book"]})
    found = others.load(session.identifier)
    found["b"] = 2
    others.save(found)
    session["c"] = 3
    return session


def vouched_for(sessions, _):
    """Begin a session that an issuer vouches for."""
    session = sessions.new()
    session.issuer_session = IssuerSession("https://id.example", "ada", "s1")
    return session


def with_parts(sessions, others):
    """Make a session whose compartment others write before this process does."""
    session = sessions.create({"a": 1})
    session.compartment("cart")["n"] = 1
    sessions.save(session)
    found = others.load(session.identifier)
    found.compartment("cart")["m"] = 1
    others.save(found)
    session.compartment("cart")["o"] = 1
    return session


def rotated_long_ago(sessions, _):
    """Make a session whose former secret is worth nothing any more."""
    session = sessions.create({"a": 1})
    former = session.identifier
    sessions.rotate(session)
    return former


# what is done, how long its exchanges take, and whether it stands when the last of them is not answered
OPERATIONS = {
    "create": (None, lambda sessions, _: sessions.create({"a": 1}), [0.4, SILENT], StoreUnavailable),
    "save": (met_by_another, lambda sessions, session: sessions.save(session), [0.4, SILENT], StoreUnavailable),
    "rotate": (met_by_another, lambda sessions, session: sessions.rotate(session), [0.4, SILENT], StoreUnavailable),
    "save a part": (with_parts, lambda sessions, session: sessions.save(session), [0.4, SILENT], StoreUnavailable),
    "sign in": (anonymous, lambda sessions, session: sessions.bind(session, "ada"), [0.4, SILENT], None),
    "sign in, and merge": (
        met_by_another,
        lambda sessions, session: sessions.bind(session, "ada"),
        [0.4, 0.4, SILENT],
        StoreUnavailable,
    ),
    "sign somebody else in": (
        signed_in,
        lambda sessions, session: sessions.bind(session, "bob"),
        [0.4, SILENT],
        StoreUnavailable,
    ),
    "sign in by an issuer": (
        vouched_for,
        lambda sessions, session: sessions.bind(session, "ada"),
        [0.4, 0.4, SILENT],
        StoreUnavailable,
    ),
    "sign out": (signed_in, lambda sessions, session: sessions.unbind(session), [0.4, SILENT], StoreUnavailable),
    "revoke": (
        signed_in,
        lambda sessions, session: sessions.revoke(session.handle),
        [0.4, SILENT],
        RevocationPending,
    ),
    "replay": (rotated_long_ago, lambda sessions, former: sessions.load(former), [0.4, SILENT], StoreUnavailable),
}


@pytest.mark.requirement("R50")
@pytest.mark.parametrize("name", OPERATIONS)
def test_server_falls_silent_between_two_calls(open_slow, open_sessions, clock, name):
    """An operation whose first calls are slow, and whose last one is not answered, takes one deadline in all."""
    prepare, operate, lasting, error = OPERATIONS[name]
    policy = SessionPolicy(compartments={"cart": timedelta(minutes=5)})
    sessions, line = open_slow(policy=policy)
    others = open_sessions(policy=policy)
    others.bind(others.create({"a": 1}), "somebody")  # the server knows the script then, whatever tests ran before
    prepared = prepare(sessions, others) if prepare else None
    clock.advance(timedelta(minutes=2))

    line.plan(*lasting, *[SILENT] * 9)
    if error is None:
        operate(sessions, prepared)
    else:
        with pytest.raises(error, match=SPENT):
            operate(sessions, prepared)

    assert line.sent > len(lasting) - 1
    assert 0.95 < line.took < 1.05


@pytest.mark.requirement("R50")
def test_nothing_is_sent_when_the_time_is_up(open_slow, open_sessions):
    """What the first call has taken is missing for the second, which is not even sent; the outcome is known then."""
    sessions, line = open_slow()
    session = met_by_another(sessions, open_sessions())

    line.plan(SILENT, 0.485)
    with pytest.raises(StoreUnavailable, match=SPENT + "what went before took all of it"):
        sessions.save(session)

    assert line.sent == 2
    line.plan()
    sessions.save(session)
    assert dict(sessions.load(session.identifier)) == {"a": 1, "b": 2, "c": 3, "cart": ["book"]}


@pytest.mark.requirement("R50")
def test_lone_calls_have_all_of_it(open_slow):
    """Each call that is an operation by itself has the whole deadline, whatever the one before it took."""
    sessions, line = open_slow()
    session = sessions.create({"a": 1})
    for _ in range(3):
        line.plan(SILENT, 0.45)
        assert sessions.load(session.identifier)["a"] == 1
        assert line.took > 0.9
        session["a"] = 1
        session["b"] = session.get("b", 0) + 1
        line.plan(SILENT, 0.45)
        sessions.save(session)
        assert line.took > 0.9
    line.plan(*[SILENT] * 9)

    with pytest.raises(StoreUnavailable, match=SPENT):
        sessions.load(session.identifier)
    assert 0.98 < line.took < 1.05


@pytest.mark.requirement("R50")
def test_requests_load_and_save(open_slow):
    """A request's load and its save are two operations; to recognise its client is part of the load."""
    sessions, line = open_slow(policy=SessionPolicy(client=ClientPolicy()))
    exchange = Exchange(core(sessions), CookiePolicy())
    do = run if isinstance(sessions, coatcheck.Sessions) else sessions._loop.run_until_complete

    def begin(**origin):
        return exchange.begin(f"__Host-session={session.identifier}", https=True, host="shop.example", **origin)

    session = sessions.create({"a": 1})
    session["b"] = 1
    visit = begin(user_agent="Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0", address="192.0.2.1")
    line.plan(0.45, 0.45)
    do(exchange.load(visit))["a"] = 2
    line.plan(SILENT, 0.45)
    do(exchange.finish(visit))
    assert line.took > 0.9

    visit = begin(user_agent="Mozilla/5.0 (Windows NT 10.0) Chrome/140.0", address="198.51.100.1")
    line.plan(0.45, *[SILENT] * 9)
    do(exchange.load(visit))  # what is only observed is no reason to stop

    assert line.sent > 1
    assert line.took < 1.05


@pytest.mark.requirement("R50")
def test_steps(open_slow, monkeypatch):
    """What goes in steps, so that others get their turn, has the deadline for each of them."""
    sessions, line = open_slow()
    monkeypatch.setattr(subjects, "_REVOKED_TOGETHER", 1)
    for _ in range(3):
        sessions.bind(sessions.new(), "ada")

    line.plan(*[0.45] * 40)
    assert len(sessions.read_events("g", "c")) > 0
    assert line.took > 10
    line.plan(*[0.45] * 9)
    assert sessions.revoke_all("ada") == 3
    assert line.took > 1.3


@pytest.mark.requirement("R50")
def test_steps_behind_sentinel(open_slow, start_topology, monkeypatch):
    """The question to the sentinels behind an end in steps has a deadline of its own, however long the steps took."""
    sessions, line = open_slow(url=start_topology("sentinel").url, clock=None)
    monkeypatch.setattr(subjects, "_REVOKED_TOGETHER", 1)
    for _ in range(3):
        sessions.bind(sessions.new(), "ada")

    line.plan(*[0.45] * 9)
    assert sessions.revoke_all("ada") == 3

    assert line.took > 1.3


@pytest.mark.requirement("R50", "R48")
def test_slow_sentinels(open_slow, start_topology):
    """Sentinels have as long to answer as a server has, and leave the server as long."""
    sessions, line = open_slow(url=start_topology("sentinel").url, clock=None, sentinel_lease=60)
    line.sentinels_take = 0.4
    line.plan(0.45)
    session = sessions.create({"a": 1})
    line.clock.moved += 61
    line.plan(0.45)

    assert sessions.load(session.identifier)["a"] == 1
    assert 0.85 <= line.took < 1


@pytest.mark.requirement("R50", "R48")
def test_sentinels_that_do_not_answer_now_and_then(open_slow, start_topology):
    """Where the sentinels did not answer in time they are asked again long before the lease has run out."""
    sessions, line = open_slow(url=start_topology("sentinel").url, clock=None, sentinel_lease=60)
    session = sessions.create({"a": 1})
    line.clock.moved += 21
    for line.sentinels_take in (0.6, 0.6, 0.4):  # the first two in vain: 28 seconds together
        assert sessions.load(session.identifier)["a"] == 1
    line.sentinels_take = 0.6
    line.clock.moved += 35

    assert sessions.load(session.identifier)["a"] == 1


@pytest.mark.requirement("R50")
def test_pending_ends_of_a_load(open_slow):
    """Ends that a load carries out besides have what it has left of its deadline; it gives its session all the same."""
    sessions, line = open_slow()
    ended, session = signed_in(sessions, None), sessions.create({"a": 1})
    line.plan(*[SILENT] * 9)
    with pytest.raises(RevocationPending):
        sessions.revoke(ended.handle)
    core(sessions)._store.transport._breakers.clear()

    line.plan(0.4, *[SILENT] * 9)
    assert sessions.load(session.identifier)["a"] == 1

    assert line.sent > 1
    assert 0.95 < line.took < 1.05
    assert sessions.pending_revocations() == 1


@pytest.mark.requirement("R50")
def test_first_load_with_a_lease(open_slow, open_sessions):
    """The first load of a process with leases, which asks for the time before, takes one deadline."""
    session = open_sessions().create({"a": 1})
    sessions, line = open_slow(policy=SessionPolicy(outage=OutagePolicy(read_lease=timedelta(seconds=9))), clock=None)

    line.plan(0.4, *[SILENT] * 9)
    with pytest.raises(StoreUnavailable, match=SPENT):
        sessions.load(session.identifier)

    assert line.took < 1.05


@pytest.mark.requirement("R50")
def test_waiting_for_a_turn(open_slow, moving):
    """Who has waited for others that write the same session has the rest of its deadline, and a quarter at least."""
    sessions, line = open_slow()
    session = sessions.create({"a": 1})
    turns = core(sessions)._writer._turns
    turns._lines[session.handle] = _Line()
    session["a"] = 2

    line.plan(0.4, *[SILENT] * 9)
    sessions.save(session)
    assert line.took > 0.6  # a quarter for the line that stands still, and the write
    turns._lines[session.handle] = _Line()
    session["a"] = 3
    line.plan(*[SILENT] * 9)
    with pytest.raises(StoreUnavailable, match=SPENT):
        sessions.save(session)

    assert line.took < 1.05


@pytest.mark.requirement("R50")
@pytest.mark.access(near_cache=True)
def test_sign_in_after_a_wait_on_purpose(open_slow):
    """What the policy has an operation wait for on purpose, and not for the store, is no part of its deadline."""
    near = NearCache(staleness=timedelta(seconds=2), ends_wait=True)
    sessions, line = open_slow(policy=SessionPolicy(near_cache=near))
    session = signed_in(sessions, None)
    endings = core(sessions)._endings
    endings._wait = 3 * SECONDS

    line.plan(0.4, 0.4)
    sessions.unbind(session)

    assert line.took > 3.7
    assert sessions.load(session.identifier)["a"] == 1


@pytest.mark.parametrize("kind", [BlockingTransport, AsyncTransport])
def test_starting_the_embedded_server(tmp_path, key, moving, kind):
    """The start of the embedded server is not under the deadline, for none of the calls of the first operation."""
    address = Address(f"embedded://{tmp_path}")

    async def join_late():
        moving.moved += 3 * SECONDS
        return address.join()

    async def first(use):
        transport = kind(address, {"deadline": DEADLINE})
        transport._join = join_late
        try:
            return await use(Operations(transport, keyring=Keyring.parse(key)))
        finally:
            transport.close() if kind is BlockingTransport else await transport.aclose()

    async def use():
        session = await first(lambda operations: operations.create({"a": 1}))
        await first(lambda operations: operations.bind(session, "ada"))
        assert await first(lambda operations: operations.load(Ticket.new(session.handle))) is None
        assert await first(lambda operations: operations.revoke(session.handle)) is True

    run(use()) if kind is BlockingTransport else asyncio.run(use())
    address.leave()


# Whose deadline it is


def test_block_in_a_block():
    """A block within another adds nothing to it, and ends nothing; after the outer one each call is by itself."""
    with OneDeadline(5.0) as outer:
        with OneDeadline(7.0):
            assert deadline.current() is outer
        assert deadline.current() is outer
        deadline.spare(2.0)
        assert outer.began == 7.0
    assert deadline.current() is None
    deadline.spare(2.0)


@pytest.mark.anyio
async def test_tasks_have_their_own(anyio_backend):
    """A task that runs while another is within a block has no part in it; a task that is cancelled leaves none."""
    inside, seen = asyncio.Event(), []

    async def share():
        with OneDeadline():
            inside.set()
            await asyncio.Event().wait()

    async def look():
        await inside.wait()
        seen.append(deadline.current())

    sharing = asyncio.create_task(share())
    await asyncio.create_task(look())
    sharing.cancel()
    with suppress(asyncio.CancelledError):
        await sharing

    assert seen == [None]
    assert deadline.current() is None


def test_task_that_is_thrown_away():
    """What is left of a task that was never ended does no harm to whatever runs when it is thrown away."""

    async def share():
        with OneDeadline():
            await asyncio.Event().wait()

    loop = asyncio.new_event_loop()
    coroutine = share()
    task = loop.create_task(coroutine)
    loop.run_until_complete(asyncio.sleep(0))
    with OneDeadline() as mine:
        coroutine.close()
        assert deadline.current() is mine
    task._log_destroy_pending = False
    loop.close()


@pytest.mark.anyio
async def test_writer_that_writes_for_others(server, key, moving, monkeypatch, anyio_backend):
    """A writer whose time is up while it writes for others too fails alone: they go on in the time that is theirs."""
    transport = AsyncTransport(Address(server.url), {"deadline": DEADLINE})
    operations = Operations(transport, keyring=Keyring.parse(key))
    session = await operations.create({"n": 0})
    leader, first, second = [await operations.load(session.identifier) for _ in range(3)]
    for writer in (leader, first, second):
        writer.increment("n")
    exchange, arrived, going_on, left = transport.exchange, asyncio.Event(), asyncio.Event(), []

    async def hold_the_first(batches, ends_at):
        if not arrived.is_set():
            arrived.set()
            await going_on.wait()
            moving.moved = SECONDS  # the leader's time is up
            batches[0].error = NoAnswer("no answer in time")
            return
        left.append((ends_at - moving()) / SECONDS)
        await exchange(batches, ends_at)

    monkeypatch.setattr(transport, "exchange", hold_the_first)
    monkeypatch.setattr(transport, "call", partial(Carrier.call, transport))
    leading = asyncio.create_task(operations.save(leader))
    await arrived.wait()
    moving.moved = 0.6 * SECONDS
    following = [asyncio.create_task(operations.save(one)) for one in (first, second)]
    await asyncio.sleep(0)
    going_on.set()

    with pytest.raises(StoreUnavailable):
        await leading
    await asyncio.gather(*following)
    assert 0.5 < left[0] < 0.65
    assert (await operations.load(session.identifier))["n"] == 2
    await transport.aclose()


# Little time


def test_little_time_says_nothing_about_a_server(open_slow, open_sessions):
    """A server that does not answer in the little time that an operation has left is not taken for a silent one."""
    sessions, line = open_slow()
    session = met_by_another(sessions, open_sessions())

    line.plan(SILENT, 0.4, SILENT)
    with pytest.raises(StoreUnavailable, match=SPENT + ".* did not answer in time"):
        sessions.save(session)

    assert core(sessions)._store.transport._breakers == {}


@pytest.mark.anyio
async def test_little_time_leaves_the_shared_connection(server, anyio_backend):
    """A call with little time left that is not answered in it leaves the connection to the others that wait on it."""
    transport = AsyncTransport(Address(server.url), {"deadline": DEADLINE})
    await transport.call(("PING",))
    node = transport.topology.sole or Node(server.socket, 0)
    hurried = Batch(node, [("ZCARD", "cc:{t}:a")], [0])
    server.client.client_pause(200)
    waiting = asyncio.create_task(transport.exchange([hurried], time.monotonic() + 0.05))
    await asyncio.sleep(0)
    patient = Batch(node, [("MGET", "cc:{t}:a")], [0])
    await transport.exchange([patient], time.monotonic() + SECONDS)
    await waiting

    assert isinstance(hurried.error, NoAnswer)
    assert (patient.error, patient.replies) == (None, [[None]])
    await transport.aclose()


@pytest.mark.requirement("R46", "R50")
@pytest.mark.access(durability=Durability(sign_in=Level.REPLICAS))
def test_two_waits_in_one_deadline(open_sessions):
    """Of two writes that wait in one operation the second has what the first has left, and says that it fell short."""
    durability = Durability(sign_in=Level.REPLICAS, revocation=Level.REPLICAS, strict=False)
    sessions = open_sessions(policy=SessionPolicy(durability=durability), deadline=timedelta(seconds=2))
    session = sessions.load(signed_in(open_sessions(), None).identifier)

    began = time.monotonic()
    sessions.bind(session, "bob")
    took = time.monotonic() - began

    assert (session.subject, session.durability.level, session.durability.is_short) == ("bob", Level.MEMORY, True)
    assert took < 2 + SLACK  # each may wait for 1.6 seconds by itself


@pytest.mark.requirement("R46", "R50")
@pytest.mark.access(durability=Durability(sign_in=Level.REPLICAS))
def test_sign_in_that_falls_short_and_has_no_time_left(open_slow):
    """A sign-in that falls short, and cannot be ended again in the time that is left, ends along with a later call."""
    durability = Durability(sign_in=Level.REPLICAS, timeout=timedelta(milliseconds=5))
    sessions, line = open_slow(policy=SessionPolicy(durability=durability))
    sessions.create({"a": 1})
    session = sessions.new()

    line.plan(0.4, *[SILENT] * 9)
    with pytest.raises(DurabilityNotReached):
        sessions.bind(session, "ada")
    assert line.took < 1.05
    assert (session.ended, sessions.pending_revocations()) == (True, 1)
    line.plan()
    core(sessions)._store.transport._breakers.clear()
    sessions.sweep()

    assert sessions.pending_revocations() == 0
    assert sessions.list_for("ada") == []


@pytest.mark.requirement("R46")
@pytest.mark.access(durability=Durability(sign_in=Level.REPLICAS))
@pytest.mark.parametrize("kind", [BlockingTransport, AsyncTransport])
def test_server_that_says_nothing_of_a_wait(server, monkeypatch, kind):
    """Where a write is answered, and the wait behind it is not in time, the write fell short: no unknown outcome."""
    monkeypatch.setattr(batches_, "longest_wait", lambda _: 60.0)
    transport = kind(Address(server.url), {"deadline": timedelta(milliseconds=500)})

    async def write():
        try:
            return await transport.call(("SET", "cc:{t}:a", "1", "PX", 60_000), ("WAIT", 1, 60_000))
        finally:
            if kind is AsyncTransport:
                await transport.aclose()

    assert (run(write()) if kind is BlockingTransport else asyncio.run(write())) == [b"OK", 0]
    assert transport._breakers == {}


def test_nothing_is_on_disk_of_an_unanswered_wait():
    """The same of a wait for the disk; where the write itself was not answered its outcome is unknown, as ever."""
    for replies, error in (([b"OK"], None), ([], NoAnswer)):
        batch = Batch(Node("h", 1), [("SET", "k", "v")], [0], wait=("WAITAOF", 1, 1, 60_000))
        batch.close(1.0)
        batch.replies, batch.error = list(replies), NoAnswer("no answer in time")
        batch.end_wait()

        assert type(batch.error) is (error or type(None))
        assert batch.replies == ([b"OK", [0, 0]] if replies else [])
