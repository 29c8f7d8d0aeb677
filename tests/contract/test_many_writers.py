"""Many requests that write one session at the same time, in one process: all of it is kept, in few round trips."""

import asyncio
import random
import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import coatcheck
from coatcheck import Keyring, SessionConflict, SessionPolicy, SessionRevoked
from coatcheck.engine.operations import Operations
from coatcheck.runtime.address import Address
from coatcheck.runtime.asynchronous import AsyncTransport

_CHANGES = st.tuples(st.sampled_from(["add", "add to own", "set", "set own"]), st.integers(-9, 9))


def copies(sessions, session, count):
    """Load *session* so many times."""
    return [sessions.load(session.identifier) for _ in range(count)]


def save_all(at_once, sessions, written):
    """Save sessions at once; give what was raised, None for nothing."""
    return at_once(*((sessions, "save", session) for session in written))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans=st.lists(st.lists(_CHANGES, min_size=1, max_size=4), min_size=2, max_size=12))
def test_all_is_kept(open_sessions, at_once, plans):
    """Whatever writers do at once: increments add up, what one alone sets stands, what several set is one's."""
    sessions = open_sessions()
    session = sessions.create({"sum": 0, "last": None})
    written = copies(sessions, session, len(plans))
    total, own, last = 0, {}, set()
    for place, (writer, plan) in enumerate(zip(written, plans, strict=True)):
        name = f"of {place}"
        for what, number in plan:
            if what == "add":
                writer.increment("sum", number)
                total += number
            elif what == "add to own":
                writer.increment(name, number)
                own[name] = own.get(name, 0) + number
            elif what == "set own":
                writer[name] = own[name] = number
            else:
                writer["last"] = number
        last |= {writer["last"]} - {None}

    assert save_all(at_once, sessions, written) == [None] * len(plans)

    found = dict(sessions.load(session.identifier))
    assert found.pop("sum") == total
    assert found.pop("last") in (last or {None})
    assert found == own


def test_few_round_trips(server, open_sessions, at_once):
    """No write of a process fails for another one of it, and those that wait are written together."""
    sessions = open_sessions()
    session = sessions.create({"n": 0})
    written = copies(sessions, session, 20)
    for writer in written:
        writer.increment("n")

    for node in server.nodes:  # threads too are all there before the first reply then, on a machine however busy
        node.client_pause(300, all=False)
    with server.commands() as seen:
        save_all(at_once, sessions, written)

    sent = [command for command in seen if command.startswith("EVALSHA")]
    assert len(sent) <= 20
    if not isinstance(sessions, coatcheck.Sessions):  # all tasks are there before the first reply: 1 and 19
        assert len(sent) == 2
    assert sessions.load(session.identifier)["n"] == 20


def test_everybody_goes_on_from_what_is_stored(open_sessions, at_once):
    """A session that another writer has written along can be changed and saved again."""
    sessions = open_sessions()
    session = sessions.create({"n": 0})
    written = copies(sessions, session, 10)
    for _ in range(3):
        for writer in written:
            writer.increment("n")
        assert save_all(at_once, sessions, written) == [None] * 10
        assert not any(writer.is_changed for writer in written)

    assert sessions.load(session.identifier)["n"] == 30


def test_too_much_of_one(open_sessions, at_once):
    """Who would fill the session beyond its policy is refused; those who wait with it are served."""
    sessions = open_sessions(policy=SessionPolicy(max_attributes=3))
    session = sessions.create({"n": 0})
    written = copies(sessions, session, 8)
    for place, writer in enumerate(written):
        writer.increment("n")
        if place in {2, 3, 5}:
            writer[f"own {place}"] = 1

    raised = save_all(at_once, sessions, written)

    assert [type(error) for error in raised if error] == [ValueError]
    assert raised.index(next(error for error in raised if error)) in {2, 3, 5}
    assert sessions.load(session.identifier)["n"] == 7


def test_strict_one_among_others(open_sessions, at_once):
    """Who asks for it is told that others changed the same attribute, and nothing of that one is written."""
    sessions = open_sessions()
    session = sessions.create({"n": 0, "colour": "red"})
    written = copies(sessions, session, 6)
    for place, writer in enumerate(written):
        writer["colour"] = f"colour {place}"
        writer.increment("n")
    written[3].strict = True

    raised = save_all(at_once, sessions, written)

    found = sessions.load(session.identifier)
    refused = isinstance(raised[3], SessionConflict)
    assert [error for place, error in enumerate(raised) if place != 3] == [None] * 5
    assert refused or found["colour"] != "red"
    assert found["n"] == (5 if refused else 6)


def test_rotation_among_others(open_sessions, at_once):
    """A rotation among other writes gives out its identifier, and loses none of them."""
    sessions = open_sessions()
    session = sessions.create({"n": 0})
    written = copies(sessions, session, 8)
    for writer in written:
        writer.increment("n")
    written[4].rotate()

    assert save_all(at_once, sessions, written) == [None] * 8

    assert written[4].identifier != session.identifier
    assert sessions.load(written[4].identifier)["n"] == 8


def test_one_that_takes_everything_away(open_sessions, at_once):
    """Where one writer removes what there is and others put something in, the session lives on with that."""
    sessions = open_sessions()
    session = sessions.create({"n": 1})
    written = copies(sessions, session, 6)
    del written[0]["n"]
    for place, writer in enumerate(written[1:]):
        writer[f"own {place}"] = place

    raised = save_all(at_once, sessions, written)

    found = sessions.load(session.identifier)
    if found is None:  # the first one was alone, and what it left ended
        assert [type(error) for error in raised] == [type(None)] + [SessionRevoked] * 5
    else:
        assert raised == [None] * 6
        assert dict(found) == {f"own {place}": place for place in range(5)}


def test_ended_meanwhile(open_sessions, at_once):
    """All who write a session that has ended are told, and none revives it."""
    sessions = open_sessions()
    session = sessions.create({"n": 0})
    written = copies(sessions, session, 10)
    for writer in written:
        writer.increment("n")
    sessions.revoke(session)

    raised = save_all(at_once, sessions, written)

    assert [type(error) for error in raised] == [SessionRevoked] * 10
    assert sessions.load(session.identifier) is None


def test_several_processes(open_sessions, at_once):
    """Writers of several processes, each of which has its own turns, lose nothing."""
    processes = [open_sessions() for _ in range(3)]
    session = processes[0].create({"n": 0})
    calls = []
    for number in range(30):
        sessions = processes[number % 3]
        writer = sessions.load(session.identifier)
        writer.increment("n")
        calls.append((sessions, "save", writer))

    assert at_once(*calls) == [None] * 30

    assert processes[0].load(session.identifier)["n"] == 30


# Writers that do not go on


class Gated(AsyncTransport):
    """A transport whose scripts wait at a gate while it is shut, before they are sent or when they have a reply."""

    def __init__(self, url, *, deadline=timedelta(seconds=20)):
        super().__init__(Address(url), {"deadline": deadline})
        self.before, self.behind = asyncio.Event(), asyncio.Event()
        self.before.set()
        self.behind.set()
        self.arrived = asyncio.Event()

    async def call(self, *commands):
        """Carry out, as long as the gates let it."""
        if commands[0][0] != "EVALSHA":
            return await super().call(*commands)
        self.arrived.set()
        await self.before.wait()
        replies = await super().call(*commands)
        await self.behind.wait()
        return replies


@contextmanager
def shut(gate):
    """Shut a gate for the block."""
    gate.clear()
    yield
    gate.set()


@pytest.fixture
async def gated(server, key, anyio_backend):
    """Give a gated transport and operations over it."""
    transport = Gated(server.url)
    yield transport, Operations(transport, keyring=Keyring.parse(key))
    await transport.aclose()


async def writers(operations, count):
    """Make a session, and so many that write it: each adds 1 to one attribute and sets one of its own."""
    session = await operations.create({"n": 0})
    found = []
    for place in range(count):
        writer = await operations.load(session.identifier)
        writer.increment("n")
        writer[f"own {place}"] = place
        found.append(writer)
    return session.identifier, found


async def settle():
    """Let all tasks run until they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["before", "behind"])
async def test_cancelled_while_it_writes(gated, where):
    """Those who wait behind a writer that is cancelled, also for whom it writes along, go on; nothing counts twice."""
    transport, operations = gated
    identifier, (first, second, *others) = await writers(operations, 8)
    with shut(getattr(transport, where)):
        tasks = [asyncio.create_task(operations.save(first))]
        await transport.arrived.wait()
        tasks += [asyncio.create_task(operations.save(one)) for one in (second, *others)]
        await settle()
        tasks[0].cancel()  # so that the second has the turn, and the others' changes
        await settle()
        tasks[1].cancel()
        await settle()
    await asyncio.gather(*tasks[2:])

    found = await operations.load(identifier)
    assert {f"own {place}" for place in range(2, 8)} <= set(found)
    assert found["n"] == len(set(found)) - 1


@pytest.mark.anyio
async def test_cancelled_while_it_waits(gated):
    """A writer that is cancelled before its turn has written nothing, and holds up nobody."""
    transport, operations = gated
    identifier, written = await writers(operations, 6)
    with shut(transport.before):
        tasks = [asyncio.create_task(operations.save(one)) for one in written]
        await transport.arrived.wait()
        await settle()
        tasks[3].cancel()
        await settle()
    done = await asyncio.gather(*tasks, return_exceptions=True)

    found = await operations.load(identifier)
    assert [place for place, came in enumerate(done) if came is not None] == [3]
    assert "own 3" not in found
    assert found["n"] == 5


@pytest.mark.anyio
async def test_one_that_does_not_go_on(server, key):
    """Nobody waits longer than a quarter of the deadline behind a writer that stands still, and later ones not at all.

    When it goes on, its own change is merged in as any other.
    """
    transport = Gated(server.url, deadline=timedelta(seconds=4))
    operations = Operations(transport, keyring=Keyring.parse(key))
    identifier, (frozen, *others) = await writers(operations, 6)
    with shut(transport.before):
        held = asyncio.create_task(operations.save(frozen))
        await transport.arrived.wait()
        await settle()
        *waiting, last = others
        transport.arrived.clear()
        tasks = [asyncio.create_task(operations.save(one)) for one in waiting]
        await transport.arrived.wait()
        transport.arrived.clear()
        late = asyncio.create_task(operations.save(last))
        async with asyncio.timeout(0.9):
            await transport.arrived.wait()
    await asyncio.gather(held, late, *tasks)

    assert (await operations.load(identifier))["n"] == 6
    await transport.aclose()


@pytest.mark.anyio
@pytest.mark.requirement("R42")
async def test_cancelled_at_random(server, key):
    """Whoever is cancelled when: each save that returned is in the store once, each other at most once."""
    chance = random.Random(26)  # noqa: S311  it chooses what to cancel
    async with coatcheck.AsyncSessions(server.url, keys=key) as sessions:
        session = await sessions.create({"n": 0})

        async def write(place):
            writer = await sessions.load(session.identifier)
            writer.increment("n")
            writer.increment(f"own {place}")
            await sessions.save(writer)

        for turn in range(15):
            tasks = [asyncio.create_task(write(40 * turn + place)) for place in range(40)]
            for task in tasks:
                if chance.random() < 0.4:
                    asyncio.get_running_loop().call_later(chance.random() / 100, task.cancel)
            done = await asyncio.gather(*tasks, return_exceptions=True)
            found = await sessions.load(session.identifier)
            for place, came in enumerate(done):
                counted = found.get(f"own {40 * turn + place}", 0)
                assert counted == 1 if came is None else counted <= 1
        assert found["n"] == len(found) - 1


def test_several_event_loops(server, key):
    """Tasks of several event loops, each in a thread of its own, that write one session lose nothing."""
    sessions = coatcheck.AsyncSessions(server.url, keys=key)
    identifiers = []

    async def make():
        identifiers.append((await sessions.create({"n": 0})).identifier)

    async def write():
        for _ in range(5):
            writer = await sessions.load(identifiers[0])
            writer.increment("n")
            await sessions.save(writer)

    async def write_much():
        await asyncio.gather(*(write() for _ in range(8)))

    asyncio.run(make())
    threads = [threading.Thread(target=asyncio.run, args=(write_much(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def read():
        return (await sessions.load(identifiers[0]))["n"]

    assert asyncio.run(read()) == 120
