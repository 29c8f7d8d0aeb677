"""The cheap cells of the matrix of faults, in their short form; `make faults` runs all of them, in full."""

from dataclasses import replace

import pytest

from faults.cells import CELLS
from faults.checker import LOSSES, Flaw
from faults.hosts import may_administer
from faults.ledger import Kind, Outcome
from faults.levels import DEADLINES, NO_LEVEL, Level, Skipped
from faults.runs import Runs
from faults.stage import Stage, losses, violations
from tests.waiting import SLACK

RUNS = 3  # at once
OVER = 1.0
"""Seconds that an application may be back later than its servers."""


@pytest.fixture(scope="module")
def players():
    """Give the processes that play the runs of a cell at once."""
    with Runs(RUNS) as players:
        yield players


@pytest.fixture
def runs_of(players):
    """Run a cell RUNS times; nothing that is promised may be broken."""
    return lambda name, level=Level.D0: judged(players, name, level)


def judged(players, name, level):
    """Run a cell, and see that nothing that is promised was broken, and that enough was done to tell."""
    cell, runs = CELLS[name], []
    for run in played(players, name, level):
        assert [str(finding) for finding in violations(run, cell, level)] == []
        done = [entry for entry in run.entries if entry.outcome is Outcome.DONE]
        assert len(done) > 80
        assert {Kind.SIGN_IN, Kind.READ, Kind.ADD, Kind.SET, Kind.REVOKE} <= {entry.kind for entry in done}
        runs.append(run)
    return runs


def played(players, name, level):
    """Play a cell that needs nothing that may be missing here, but for one: who may mount the disk of disk-full.

    The other reasons to leave a cell out (no network namespaces, no libfaketime, a level that makes no sense for the
    topology) belong to cells that no test here runs. So a cell that is left out though this process may mount is a
    failure, and root in a container without that right, or somebody else, is told of it.
    """
    try:
        return list(players.play(name, level, RUNS, is_quick=True))
    except Skipped as reason:
        if may_administer():
            pytest.fail(f"{name} at {level} was left out, and should not have been: {reason}")
        pytest.skip(str(reason))  # this process may not mount a disk: see above


@pytest.mark.parametrize("name", ["single-kill", "sentinel-kill", "cluster-kill"])
@pytest.mark.requirement("R49")
def test_killed_server(runs_of, name):
    """Whoever is killed, nobody is logged out, and applications are back within a second of the servers."""
    over = sorted(run.late for run in runs_of(name))

    assert over[RUNS // 2] < OVER  # the others may have met a busy machine


@pytest.mark.parametrize("name", ["lost-reply", "half-open"])
@pytest.mark.requirement("R43")
def test_unknown_outcome(runs_of, name):
    """What was carried out without an answer, or long after it was given up, is neither lost nor done twice."""
    runs = runs_of(name)

    assert any(entry.outcome is not Outcome.DONE for run in runs for entry in run.entries)


@pytest.mark.requirement("R26")
def test_near_caches_without_news(runs_of):
    """No near cache accepts a session, or lacks an update, for longer than its bound after it was told of it last."""
    runs = runs_of("near-silent")

    assert all(run.numbers["loads from memory"] for run in runs)


@pytest.mark.requirement("R13")
@pytest.mark.requirement("R28")
def test_killed_application(runs_of):
    """An application that is killed at some command leaves whole sessions, old or new, and no key without a TTL."""
    runs = runs_of("app-kill")

    assert any(entry.outcome is Outcome.UNKNOWN for run in runs for entry in run.entries)


@pytest.mark.requirement("R50")
@pytest.mark.requirement("R45")
def test_frozen_server(runs_of):
    """While a server is frozen, operations end within their deadline, as errors; afterwards all are still there."""
    for run in runs_of("single-freeze"):
        assert sorted(run.waits)[len(run.waits) * 99 // 100] < DEADLINES[Level.D0] + SLACK


@pytest.mark.requirement("R57")
def test_full_memory(runs_of):
    """A server without memory for writes ends no session by itself, and every one that it is told to."""
    for run in runs_of("memory-full"):
        assert run.numbers == {"evicted keys": 0, "revocations refused": 0}
        assert any("no memory left" in entry.problem for entry in run.entries)


@pytest.mark.requirement("R45")
def test_full_disk(runs_of):
    """A server that cannot write its file any more refuses writes, and goes on answering reads."""
    for run in runs_of("disk-full"):
        assert run.numbers["reads answered while full"] > 0
        assert any("cannot write to its disk" in entry.problem for entry in run.entries)


@pytest.mark.parametrize("name", ["sentinel-failover", "cluster-failover"])
@pytest.mark.requirement("R51")
def test_planned_failover(runs_of, name):
    """A planned failover loses nothing that was acknowledged."""
    for run in runs_of(name):
        assert run.findings == []


@pytest.mark.parametrize("name", ["single-scripts", "cluster-slots"])
@pytest.mark.requirement("R49")
@pytest.mark.requirement("R40")
def test_nothing_lost_on_the_way(runs_of, name):
    """Forgotten scripts and moving slots cost no update."""
    runs_of(name)


@pytest.mark.parametrize(("name", "level"), [("single-kill", Level.D2), ("sentinel-kill", Level.D1)])
@pytest.mark.requirement("R25")
@pytest.mark.requirement("R46")
def test_acknowledged_when_durable(runs_of, name, level):
    """What waits for the disk survives a restart, and what waits for all replicas a failover: all of it."""
    for run in runs_of(name, level):
        assert run.findings == []


@pytest.mark.requirement("R46")
def test_stopped_replica(runs_of):
    """While a replica is stopped no write that waits for all is acknowledged: each says that it fell short."""
    for run in runs_of("sentinel-replica", Level.D1):
        assert any("not as durable as the policy asks" in entry.problem for entry in run.entries)


@pytest.mark.parametrize(("name", "level"), [("single-empty", Level.D0), ("sentinel-empty", Level.D1)])
@pytest.mark.requirement("R47")
def test_empty_restart(runs_of, name, level):
    """A primary that restarts empty empties its replicas: all are logged out, no session is half there or revived.

    Copies in the replicas' memory are no help; the check of the servers names it beforehand.
    """
    for run in runs_of(name, level):
        assert {finding.flaw for finding in run.findings} == {Flaw.SIGN_IN_MISSING}


@pytest.mark.requirement("R25")
def test_lost_host(runs_of):
    """A primary that is lost with its disk, and comes back empty, takes nothing with it that all replicas had."""
    for run in runs_of("sentinel-host", Level.D1):
        assert run.findings == []


def test_a_server_that_forgets_is_found():
    """A server that comes back empty is found out: the checker can fail a run on real servers."""
    cell = replace(CELLS["single-kill"], settings={"appendfsync": None}, losing=NO_LEVEL)

    run = Stage(cell, Level.D0, is_quick=True).run()

    found = {finding.flaw for finding in violations(run, cell, Level.D0)}
    assert Flaw.SIGN_IN_MISSING in found
    assert found <= LOSSES
    assert losses(run, cell, Level.D0) == []
    assert {finding.flaw for finding in losses(run, CELLS["single-kill"], Level.D0)} == found
