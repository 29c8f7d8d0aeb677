"""What the tasks of an event loop ask at once travels together: in one write, in order, bounded; nobody waits for it.

Turns of the loop are counted, and no time: nothing here is faster or slower on another machine.
"""

import asyncio
import secrets
import socket
from collections import defaultdict
from datetime import timedelta

import hiredis
import pytest

import coatcheck
from coatcheck import Durability, Level, SessionPolicy, StoreUnavailable
from coatcheck.runtime.shared import MOST_UNSENT, MOST_WAITING
from tests.attack.test_mixed_replies import AlwaysDue

pytestmark = [pytest.mark.anyio]

LONG = timedelta(minutes=2)
SHORT = timedelta(seconds=10)  # for calls that would wait for it if they stood behind others
ON_REPLICAS = Durability(sign_in=Level.REPLICAS, strict=False, timeout=timedelta(milliseconds=100))


def parsed(data):
    """Give the commands, or the replies, that *data* has."""
    reader, found = hiredis.Reader(), []
    reader.feed(data)
    while (one := reader.gets()) is not False:
        found.append(one)
    return found


class Writes:
    """What went out by asyncio, one entry for each call of the system: whereto, and the names of the commands."""

    def __init__(self):
        self.found = []

    def note(self, peer, data):
        """Add one."""
        self.found.append((peer, [command[0] for command in parsed(data)]))

    def with_reads(self):
        """Give the names in each write that has a load in it, by server."""
        by_peer = defaultdict(list)
        for peer, names in self.found:
            if b"MGET" in names:
                by_peer[peer].append(names)
        return dict(by_peer)


@pytest.fixture
def writes(monkeypatch):
    """Record what is written to sockets."""
    writes, send = Writes(), socket.socket.send

    def send_noted(sock, data, *flags):
        sent = send(sock, data, *flags)
        writes.note(sock.getpeername(), bytes(data[:sent]))
        return sent

    monkeypatch.setattr(socket.socket, "send", send_noted)
    return writes


@pytest.fixture
async def sessions(server, key, anyio_backend):
    """Give sessions on the server itself."""
    async with coatcheck.AsyncSessions(server.url, keys=key, deadline=LONG) as sessions:
        yield sessions


@pytest.fixture
async def relayed(relay, key):
    """Give sessions that reach the server through the relay."""
    async with coatcheck.AsyncSessions(relay.url, keys=key, deadline=LONG) as sessions:
        yield sessions


async def turns(count=1):
    """Let the loop go round so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition):
    """Let the loop go round until *condition* holds."""
    while not condition():  # noqa: ASYNC110  it is brought about by the loop, which counts its turns
        await asyncio.sleep(0)


async def store(sessions, count):
    """Store so many sessions, each with its number in it; give what opens them."""
    return [(await sessions.create({"who": number})).identifier for number in range(count)]


def loads(sessions, identifiers):
    """Start a task for each, which loads it."""
    return [asyncio.create_task(sessions.load(identifier)) for identifier in identifiers]


async def numbers(tasks):
    """Say which sessions were loaded."""
    return [session["who"] for session in await asyncio.gather(*tasks)]


# One write for a turn


async def test_a_turn_leaves_in_one_write(sessions, writes):
    """What many tasks ask in one turn of the loop, loads and saves, reaches the server in one write."""
    identifiers = await store(sessions, 20)
    changed = [await sessions.load(identifier) for identifier in identifiers[:5]]
    for session in changed:
        session["more"] = 1
    writes.found.clear()

    tasks = loads(sessions, identifiers)
    saves = [asyncio.create_task(sessions.save(session)) for session in changed]
    assert await numbers(tasks) == list(range(20))
    await asyncio.gather(*saves)

    ((_, names),) = writes.found
    assert names == [b"MGET"] * 20 + [b"EVALSHA"] * 5


async def test_two_turns_leave_in_two_writes(sessions, writes):
    """What is asked in a later turn does not wait for more, nor for the replies to what was asked before."""
    identifiers = await store(sessions, 20)
    writes.found.clear()

    tasks = loads(sessions, identifiers[:12])
    await turns(2)
    tasks += loads(sessions, identifiers[12:])

    assert await numbers(tasks) == list(range(20))
    assert [names for _, names in writes.found] == [[b"MGET"] * 12, [b"MGET"] * 8]


async def test_a_turn_on_a_cluster(start_topology, key, writes):
    """On a Cluster it is one write for each node, with what concerns that node."""
    url = start_topology("cluster").url
    async with coatcheck.AsyncSessions(url, keys=key, deadline=LONG) as sessions:
        identifiers = await store(sessions, 60)
        await numbers(loads(sessions, identifiers))
        writes.found.clear()

        assert await numbers(loads(sessions, identifiers)) == list(range(60))

    found = writes.with_reads()
    assert len(found) == 3
    assert [len(of_node) for of_node in found.values()] == [1, 1, 1]
    assert sum(len(names) for (names,) in found.values()) == 60


async def test_a_lone_call_waits_for_nobody(sessions, writes):
    """A lone call is with the system when the turn that it was made in is over: no timer, no turn more."""
    (identifier,) = await store(sessions, 1)
    writes.found.clear()

    (task,) = loads(sessions, [identifier])
    await turns()  # in this it asks
    asked = list(writes.found)
    await turns()  # this begins with what the last one has left to do

    assert asked == []
    assert [names for _, names in writes.found] == [[b"MGET"]]
    assert (await task)["who"] == 0


# Bounds


async def test_too_many_calls(relay, relayed):
    """A call is refused in its own turn, and not sent, where as many wait as may; those go on, and so do later ones."""
    (identifier,) = await store(relayed, 1)
    before = relay.count(b"MGET")
    relay.holds = lambda _: True
    waiting = loads(relayed, [identifier] * MOST_WAITING)
    await turns()

    (further,) = loads(relayed, [identifier])
    await turns()

    assert str(further.exception()) == (
        f"{relay.name} was not asked: 10,000 calls of one event loop wait for its answer already. "
        "See why the server is slow, or serve fewer requests at once"
    )
    assert isinstance(further.exception(), StoreUnavailable)
    assert not any(task.done() for task in waiting)
    relay.release()
    assert await numbers(waiting) == [0] * MOST_WAITING
    assert relay.count(b"MGET") - before == MOST_WAITING
    assert (await relayed.load(identifier))["who"] == 0


@pytest.mark.requirement("R42")
async def test_cancelled_calls_count_until_they_are_answered(relay, relayed):
    """Calls that nobody waits for any more make no room: their replies are still to come."""
    (identifier,) = await store(relayed, 1)
    relay.holds = lambda _: True
    waiting = loads(relayed, [identifier] * MOST_WAITING)
    await turns()
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)

    with pytest.raises(StoreUnavailable, match="was not asked: 10,000 calls"):
        await relayed.load(identifier)
    relay.release()
    await until(lambda: relay.count(b"MGET") == MOST_WAITING)
    for task in iter(lambda: loads(relayed, [identifier])[0], None):  # until there is room again
        (found,) = await asyncio.gather(task, return_exceptions=True)
        if not isinstance(found, StoreUnavailable):
            break

    assert found["who"] == 0
    assert relay.count(b"MGET") == MOST_WAITING + 1


@pytest.mark.parametrize("at_once", [10, 400])
async def test_too_many_bytes(relay, relayed, at_once):
    """The same of bytes, of a turn and of what the server does not take: what is refused was not sent."""
    large = secrets.token_bytes(200_000)
    await store(relayed, 1)
    relay.reads.clear()
    accepted, refused = [], []
    while len(refused) < 10:
        tasks = [asyncio.create_task(relayed.create({"large": large, "who": 7})) for _ in range(at_once)]
        await turns()
        accepted += [task for task in tasks if not task.done()]
        refused += [task for task in tasks if task.done()]
        await turns()

    (said,) = {str(task.exception()) for task in refused}
    assert said == (
        f"{relay.name} was not asked: 32 MiB of one event loop's calls wait to be sent already. "
        "See why the server is slow, or serve fewer requests at once"
    )
    relay.reads.set()
    created = await asyncio.gather(*accepted)
    sent = [command for command in relay.commands if len(b"".join(command)) > len(large)]
    assert len(sent) == len(created)
    assert MOST_UNSENT < sum(len(b"".join(command)) for command in sent) < 2.1 * MOST_UNSENT
    assert (await relayed.load(created[-1].identifier))["who"] == 7


# In order


async def test_answers_come_in_the_order_of_asking(sessions):
    """Tasks that never stop asking are answered in their order, and who asks once in a while is before what came later.

    Between a question and its answer there are no more other answers than there were questions before it.
    """
    identifiers = await store(sessions, 8)
    asked, answered, ends = [], [], []

    async def ask(who):
        question = len(asked)
        asked.append(who)
        before = len(asked) - len(answered) - 1
        given = len(answered)
        assert (await sessions.load(identifiers[who]))["who"] == who
        assert len(answered) - given == before
        answered.append(question)

    async def ask_without_end(who):
        while not ends:
            await asyncio.gather(*(ask(who) for _ in range(30)))

    async def ask_now_and_then(who):
        for _ in range(100):
            await ask(who)

    greedy = [asyncio.create_task(ask_without_end(who)) for who in (0, 1)]
    await asyncio.gather(*(ask_now_and_then(who) for who in range(2, 8)))
    ends.append(True)
    await asyncio.gather(*greedy)

    assert answered == sorted(answered)
    assert len(answered) > 6 * 100 + 2 * 30


# Slow callers


@pytest.mark.access(durability=ON_REPLICAS)
async def test_a_call_that_waits_for_replicas_holds_up_nobody(relay, key):
    """A write that waits for replicas has a connection of its own: while it waits, loads are answered."""
    policy = SessionPolicy(durability=ON_REPLICAS)
    async with coatcheck.AsyncSessions(relay.url, keys=key, deadline=SHORT, policy=policy) as sessions:
        identifiers = await store(sessions, 10)
        session = await sessions.load(identifiers[0])
        relay.holds = lambda connection: any(command[0] == b"WAIT" for command in connection.commands)
        signing_in = asyncio.create_task(sessions.bind(session, "ada"))
        await until(lambda: any(connection.kept for connection in relay.connections))

        for _ in range(3):
            assert await numbers(loads(sessions, identifiers[1:])) == list(range(1, 10))
        assert not signing_in.done()
        relay.release()
        await signing_in

        assert (await sessions.load(session.identifier)).subject == "ada"


@pytest.mark.access(reseals=True)
async def test_a_long_batch_holds_up_nobody(relay, key):
    """The same of a batch of more than 16 commands, as resealing has them."""
    async with coatcheck.AsyncSessions(relay.url, keys=key, deadline=SHORT) as sessions:
        identifiers = await store(sessions, 40)
        relay.holds = lambda connection: any(command[0] == b"GET" for command in connection.commands)
        resealing = asyncio.create_task(sessions.reseal())
        await until(lambda: any(connection.kept for connection in relay.connections))

        for _ in range(3):
            assert await numbers(loads(sessions, identifiers)) == list(range(40))
        assert not resealing.done()
        assert relay.count(b"GET") >= 40
        relay.release()

        assert (await resealing).seen == 40


# Cancelled calls


@pytest.mark.requirement("R42")
async def test_cancelled_within_its_replies(relay, key):
    """Who is cancelled when a part of its replies has come, wherever it ends, takes nothing from those behind it."""
    async with coatcheck.AsyncSessions(relay.url, keys=key, deadline=LONG, clock=AlwaysDue()) as sessions:
        identifiers = await store(sessions, 3)
        (connection,) = relay.connections
        for place in range(10_000):
            relay.holds = lambda _: True
            tasks = loads(sessions, identifiers)
            await until(lambda: _replies_in(connection.kept) == 6)
            if place >= len(connection.kept):
                break
            connection.release(place)
            await turns(3)
            tasks[1].cancel()
            await turns(3)
            assert not tasks[2].done()
            relay.release()

            assert await numbers([tasks[0], tasks[2]]) == [0, 2]

        relay.release()
        assert await numbers(tasks) == [0, 1, 2]
        assert len(relay.connections) == 1
        assert place > 300  # bytes of the replies


def _replies_in(data):
    return len(parsed(bytes(data)))
