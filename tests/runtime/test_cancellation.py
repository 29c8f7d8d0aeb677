"""Cancelled requests: no reply reaches a request that it was not meant for (CVE-2023-28858, CVE-2023-28859)."""

import asyncio
import os
import secrets
from contextlib import asynccontextmanager, suppress

import pytest

import coatcheck
from coatcheck import StoreError
from coatcheck.engine.clock import Clock

REQUESTS = int(os.environ.get("COATCHECK_TEST_CANCELLATIONS", "1000"))
AT_ONCE = 40


class AlwaysDue(Clock):
    """A clock that asks for the time with every command, which makes a pipeline of each."""

    __slots__ = ()

    is_due = True


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
@pytest.mark.parametrize("clock", [Clock, AlwaysDue], ids=["commands", "pipelines"])
def test_no_reply_crosses(server, key, tmp_path_factory, clock):
    """Of many requests cancelled at any moment on a slow line none leaves its reply to another."""
    path = str(tmp_path_factory.mktemp("line") / "s")
    counts = asyncio.run(_cancel_many(server, path, key, clock()))

    assert counts["crossed"] == 0
    assert counts["failed"] == 0
    assert counts["cancelled"] > REQUESTS // 8  # three in four are given up to 30 ms, of which a request takes 10
    assert counts["answered"] > REQUESTS // 8  # one in four is left alone


async def _cancel_many(server, path, key, clock):
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
            for _ in range(REQUESTS // AT_ONCE):
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
