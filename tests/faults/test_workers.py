"""What the workers enter in the ledger, where an answer leaves open what was carried out."""

import asyncio
import itertools

import pytest
from redis.exceptions import ConnectionError as LostConnection

import coatcheck
from coatcheck import SessionRevoked, StoreUnavailable
from coatcheck.runtime.sync import run
from faults.ledger import Kind, Ledger, Outcome, present, watch
from faults.workers import Known, People, Worker
from faults.workload import POLICY


class Answers:
    """Stands in for the operations: each rotation is sent so many times, and then fails."""

    policy = POLICY

    def __init__(self, *times_sent):
        self.times_sent = list(times_sent)

    async def rotate(self, session):
        """Fail, after so many scripts that may have been carried out."""
        present.get().writes = self.times_sent.pop(0)
        raise StoreUnavailable("no answer")


async def no_session(_):
    """Stand in for a read that finds something."""
    return object()


def worker_on(sessions, monkeypatch=None):
    """Give a worker, and its ledger."""
    ledger = Ledger()
    worker = Worker("thread0", sessions, People("w"), ledger)
    if monkeypatch is not None:
        monkeypatch.setattr(worker, "read", no_session)
    return worker, ledger


@pytest.mark.parametrize(("times_sent", "kind"), [(1, Kind.READ), (2, Kind.SET)])
def test_write_that_met_an_end(times_sent, kind):
    """A write that finds its session ended is a read of that; sent twice, it may have been carried out before."""
    worker, _ = worker_on(Answers())

    async def act():
        present.get().writes = times_sent
        raise SessionRevoked("it has ended")

    entry = run(worker._do(act, Kind.SET, "ada", "s1", value=1))

    assert entry["kind"] is kind
    assert entry["outcome"] is (Outcome.DONE if kind is Kind.READ else Outcome.UNKNOWN)


@pytest.mark.parametrize(
    ("times_sent", "is_retired"), [((1, 0, 0), True), ((0, 1, 1), False), ((1, 1, 1), True), ((0, 0, 0), False)]
)
def test_rotation_that_stays_unknown(monkeypatch, times_sent, is_retired):
    """A session is left alone once a rotation may have been carried out, though a later try failed for certain."""
    worker, ledger = worker_on(Answers(*times_sent), monkeypatch)
    known = Known("s1", "ada", "h1", "identifier")

    run(worker.rotate(known))

    assert known.is_retired is is_retired
    assert all(entry.kind is Kind.ROTATE for entry in ledger.entries)


def lose_line(sessions, all_wait):
    """Let a script pass when *all_wait*, the next be carried out without an answer, and none be sent after it."""
    transport = sessions._store.transport
    exchange, scripts = transport.exchange, itertools.count(1)

    async def lossy(batches, ends_at):
        is_script = any(command[0] == "EVALSHA" for batch in batches for command in batch.commands)
        number = next(scripts) if is_script else 0
        while number == 1 and not all_wait():  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(0)
        if number <= 2:
            await exchange(batches, ends_at)
        for batch in batches if number >= 2 else ():
            batch.replies.clear()
            batch.error = LostConnection("closed" if number == 2 else "Error 111 connecting to it")

    transport.exchange = lossy


@pytest.mark.anyio
@pytest.mark.requirement("R43")
async def test_write_that_another_carried_out(server):
    """Whose changes go along with another's write does not know what became of them, as long as that one does not."""
    ledger, people = Ledger(), People("w")
    async with coatcheck.AsyncSessions(server.url, keys=coatcheck.new_key(), policy=POLICY) as sessions:
        workers = [Worker(f"task{number}", sessions, people, ledger) for number in range(3)]
        await workers[0].sign_in()
        (one,) = people.known
        watch(sessions)
        lines = sessions._writer._turns._lines
        lose_line(sessions, lambda: any(len(line.waiting) == 2 for line in lines.values()))
        await asyncio.gather(*(worker.add(one) for worker in workers))
        found = await sessions.find(one.handle)

    adds = [entry for entry in ledger.entries if entry.kind is Kind.ADD]
    assert found["total"] == sum(entry.value for entry in adds)
    assert sorted(entry.outcome for entry in adds) == [Outcome.DONE, Outcome.UNKNOWN, Outcome.UNKNOWN]
