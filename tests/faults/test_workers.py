"""What the workers enter in the ledger, where an answer leaves open what was carried out."""

import pytest

from coatcheck import SessionRevoked, StoreUnavailable
from coatcheck.runtime.sync import run
from faults.ledger import Kind, Ledger, Outcome, present
from faults.workers import Known, People, Worker


class Answers:
    """Stands in for the operations: each rotation is sent so many times, and then fails."""

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
    worker, _ = worker_on(None)

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
