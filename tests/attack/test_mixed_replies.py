"""No reply reaches a request that it was not meant for (CVE-2023-28858, CVE-2023-28859).

Requests are cancelled on a slow line; and a client that is broken hands the replies to the wrong callers. A record is
bound to its handle, so what comes to the wrong caller is refused. What carries no record cannot be told apart: a mere
"done", or "there is no such session"; so a broken client can make a session seem ended, and never another's.
"""

import asyncio
import os
import secrets
from contextlib import asynccontextmanager, suppress

import pytest

import coatcheck
from coatcheck import Keyring, RecordCorrupted, StoreError
from coatcheck.engine.clock import Clock
from coatcheck.engine.operations import Operations
from coatcheck.model.ticket import Handle, Ticket
from coatcheck.runtime.address import Address
from coatcheck.runtime.blocking import BlockingTransport
from coatcheck.runtime.sync import run

CANCELLATIONS = int(os.environ.get("COATCHECK_TEST_CANCELLATIONS", "10000"))
AT_ONCE = 40


class AlwaysDue(Clock):
    """A clock that asks for the time with every command, which makes a pipeline of each."""

    __slots__ = ()

    def learn(self, reply, asked_at):
        """Take the time, and have it asked for again at once."""
        super().learn(reply, asked_at)
        self.due_at = asked_at


@asynccontextmanager
async def slow_line(path, upstream):
    """Listen at *path* and carry everything to and from *upstream*, each piece after a moment."""
    tasks = set()

    async def carry(reader, writer, delayed):
        with suppress(ConnectionError, asyncio.CancelledError):
            while piece := await reader.read(65_536):
                if delayed:
                    await asyncio.sleep(secrets.randbelow(6) / 1000)
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def accept(reader, writer):
        there_reader, there_writer = await asyncio.open_unix_connection(upstream)
        for way in (carry(reader, there_writer, delayed=True), carry(there_reader, writer, delayed=True)):
            task = asyncio.create_task(way)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    listener = await asyncio.start_unix_server(accept, path)
    try:
        yield
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.requirement("R42")
@pytest.mark.parametrize(
    ("clock", "wanted"),
    [(Clock, CANCELLATIONS), (AlwaysDue, CANCELLATIONS // 5)],
    ids=["commands", "pipelines"],
)
def test_no_reply_crosses(server, key, tmp_path_factory, clock, wanted):
    """Of 10,000 requests cancelled at any moment on a slow line none leaves its reply to another."""
    path = str(tmp_path_factory.mktemp("line") / "s")
    counts = asyncio.run(_cancel_many(server, path, key, clock(), wanted))

    assert counts["crossed"] == 0
    assert counts["failed"] == 0
    assert counts["cancelled"] >= wanted
    assert counts["answered"] > wanted // 4  # one in four is left alone, the others are given up to 30 ms


async def _cancel_many(server, path, key, clock, wanted):
    counts = {"cancelled": 0, "answered": 0, "crossed": 0, "failed": 0}
    async with (
        slow_line(path, server.socket),
        coatcheck.AsyncSessions(
            server.url.replace(server.socket, path), keys=key, clock=clock, max_connections=10
        ) as sessions,
    ):
        stored = [await sessions.create({"who": number}) for number in range(AT_ONCE)]

        async def request(own):
            session = await sessions.load(own.identifier)
            session.increment("n")
            await sessions.save(session)
            return session["who"]

        async def client(own):
            while counts["cancelled"] < wanted:
                task = asyncio.create_task(request(own))
                with suppress(asyncio.TimeoutError):
                    limit = secrets.choice([None, *(secrets.randbelow(30) / 1000 for _ in range(3))])
                    await asyncio.wait_for(asyncio.shield(task), limit)
                task.cancel()
                (outcome,) = await asyncio.gather(task, return_exceptions=True)
                counts[_kind(outcome, own)] += 1

        await asyncio.gather(*(client(own) for own in stored))
        for own in stored:
            assert (await sessions.load(own.identifier))["who"] == own["who"]
    return counts


def _kind(outcome, own):
    if isinstance(outcome, asyncio.CancelledError):
        return "cancelled"
    if isinstance(outcome, StoreError):
        return "crossed" if isinstance(outcome, coatcheck.RecordCorrupted) else "failed"
    return "answered" if outcome == own["who"] else "crossed"


class Crossed:
    """A transport that hands each caller the reply to the call before of the same kind, as a broken client would."""

    def __init__(self, sound):
        """Send over *sound*."""
        self._sound = sound
        self._late = {}
        self.crosses = False

    async def call(self, *commands):
        """Carry *commands* out; give the replies to others."""
        replies = await self._sound.call(*commands)
        kind = commands[0][0] if commands[0][0] != "EVALSHA" else commands[0][1]
        late, self._late[kind] = self._late.get(kind, replies), replies
        return late if self.crosses else replies

    def time_left(self):
        """Say how long a call has."""
        return self._sound.time_left()

    async def has_stood_since(self, moment):
        """Say that nobody took the server's place."""
        return await self._sound.has_stood_since(moment)

    async def pause(self, seconds):
        """Wait."""
        await self._sound.pause(seconds)

    def signal(self):
        """Make a signal."""
        return self._sound.signal()


@pytest.fixture
def crossed(server, key, clock):
    """Give operations over a client that can be broken."""
    sound = BlockingTransport(Address(server.url), {})
    yield Operations(Crossed(sound), keyring=Keyring.parse(key), clock=clock)
    sound.close()


@pytest.fixture
def pair(crossed):
    """Give two signed-in sessions, whose replies are about to be mixed up."""
    made = [run(crossed.create({"who": who})) for who in ("ada", "bob")]
    for session in made:
        run(crossed.bind(session, session["who"]))
    for session in made:
        run(crossed.load(session.identifier))
    crossed._store.transport.crosses = True
    return made


@pytest.mark.requirement("R42")
def test_load_of_a_broken_client(crossed, pair):
    """A load that is handed another session's record refuses it, every time."""
    for read in (
        lambda session: crossed.load(session.identifier, fresh=True),
        lambda session: crossed.find(session.handle),
    ):
        for session in [*pair, *pair]:
            with pytest.raises(RecordCorrupted, match="belongs to another key, prefix or request"):
                run(read(session))


@pytest.mark.requirement("R42")
def test_list_of_a_broken_client(crossed, pair):
    """A list that is handed another subject's sessions shows none of them."""
    for who in ("ada", "bob", "ada", "bob"):
        own = next(session.handle for session in pair if session["who"] == who)
        assert {info.handle for info in run(crossed.list_for(who))} <= {own}


@pytest.mark.requirement("R42")
def test_save_of_a_broken_client(crossed, pair):
    """A save that meets a conflict, and is handed another session's record to merge with, writes nothing of it."""
    ada, bob = pair
    crossed._store.transport.crosses = False
    for session in pair:
        other = run(crossed.load(session.identifier))
        other["n"] = 1
        run(crossed.save(other))
    ada["m"], bob["m"] = 1, 1
    with suppress(StoreError):
        run(crossed.save(ada))
    crossed._store.transport.crosses = True
    with suppress(StoreError):
        run(crossed.save(bob))
    crossed._store.transport.crosses = False

    assert run(crossed.load(ada.identifier))["who"] == "ada"
    assert run(crossed.load(bob.identifier))["who"] == "bob"


@pytest.mark.requirement("R42")
def test_nothing_to_tell_it_by(crossed, pair):
    """That there is no session carries nothing to tell it by: a session may seem ended, and is nobody else's."""
    stranger = Ticket.new(Handle.new())
    with pytest.raises(RecordCorrupted):
        run(crossed.load(stranger))

    assert run(crossed.load(pair[0].identifier, fresh=True)) is None
