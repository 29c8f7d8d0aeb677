"""The cheap cells of the matrix of faults, in their short form; `make faults` runs all of them, in full."""

from dataclasses import replace

import pytest

from faults.cells import CELLS
from faults.checker import LOSSES, Flaw
from faults.ledger import Kind, Outcome
from faults.stage import DEADLINE, NO_LEVEL, Level, Skipped, Stage, losses, violations
from tests.waiting import SLACK

RUNS = 3
OVER = 1.0
"""Seconds that an application may be back later than its servers."""


def runs_of(name, level=Level.D0):
    """Run a cell RUNS times; nothing that is promised may be broken."""
    cell, runs = CELLS[name], []
    for _ in range(RUNS):
        try:
            run = Stage(cell, level, is_quick=True).run()
        except Skipped as reason:
            pytest.skip(str(reason))
        assert [str(finding) for finding in violations(run, cell, level)] == []
        done = [entry for entry in run.entries if entry.outcome is Outcome.DONE]
        assert len(done) > 100
        assert {Kind.SIGN_IN, Kind.READ, Kind.ADD, Kind.SET, Kind.REVOKE} <= {entry.kind for entry in done}
        runs.append(run)
    return runs


@pytest.mark.parametrize("name", ["single-kill", "sentinel-kill", "cluster-kill"])
@pytest.mark.requirement("R49")
def test_killed_server(name):
    """Whoever is killed, nobody is logged out, and applications are back within a second of the servers."""
    over = sorted(run.recovery - run.detection for run in runs_of(name))

    assert over[RUNS // 2] < OVER  # the others may have met a busy machine


@pytest.mark.parametrize("name", ["lost-reply", "half-open"])
@pytest.mark.requirement("R43")
def test_unknown_outcome(name):
    """What was carried out without an answer, or long after it was given up, is neither lost nor done twice."""
    runs = runs_of(name)

    assert any(entry.outcome is not Outcome.DONE for run in runs for entry in run.entries)


@pytest.mark.requirement("R13")
@pytest.mark.requirement("R28")
def test_killed_application():
    """An application that is killed at some command leaves whole sessions, old or new, and no key without a TTL."""
    runs = runs_of("app-kill")

    assert any(entry.outcome is Outcome.UNKNOWN for run in runs for entry in run.entries)


@pytest.mark.requirement("R50")
@pytest.mark.requirement("R45")
def test_frozen_server():
    """While a server is frozen, operations end within their deadline, as errors; afterwards all are still there."""
    for run in runs_of("single-freeze"):
        assert sorted(run.waits)[len(run.waits) * 99 // 100] < DEADLINE + SLACK


@pytest.mark.requirement("R57")
def test_full_memory():
    """A server without memory for writes ends no session by itself, and every one that it is told to."""
    for run in runs_of("memory-full"):
        assert run.numbers == {"evicted keys": 0, "revocations refused": 0}
        assert any("no memory left" in entry.problem for entry in run.entries)


@pytest.mark.requirement("R45")
def test_full_disk():
    """A server that cannot write its file any more refuses writes, and goes on answering reads."""
    for run in runs_of("disk-full"):
        assert run.numbers["reads answered while full"] > 0
        assert any("cannot write to its disk" in entry.problem for entry in run.entries)


@pytest.mark.parametrize("name", ["sentinel-failover", "cluster-failover"])
@pytest.mark.requirement("R51")
def test_planned_failover(name):
    """A planned failover loses nothing that was acknowledged."""
    for run in runs_of(name):
        assert run.findings == []


@pytest.mark.parametrize("name", ["single-scripts", "cluster-slots"])
@pytest.mark.requirement("R49")
@pytest.mark.requirement("R40")
def test_nothing_lost_on_the_way(name):
    """Forgotten scripts and moving slots cost no update."""
    runs_of(name)


def test_a_server_that_forgets_is_found():
    """A server that comes back empty is found out: the checker can fail a run on real servers."""
    cell = replace(CELLS["single-kill"], settings={"appendfsync": None}, losing=NO_LEVEL)

    run = Stage(cell, Level.D0, is_quick=True).run()

    found = {finding.flaw for finding in violations(run, cell, Level.D0)}
    assert Flaw.SIGN_IN_MISSING in found
    assert found <= LOSSES
    assert losses(run, cell, Level.D0) == []
    assert {finding.flaw for finding in losses(run, CELLS["single-kill"], Level.D0)} == found
