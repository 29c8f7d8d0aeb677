"""What is kept of runs: their sums in the documentation, and the history of those with findings."""

import socket
from dataclasses import replace

import pytest

from faults import record
from faults.cells import CELLS
from faults.checker import Finding, Flaw
from faults.ledger import from_lines
from faults.levels import EVERY_LEVEL, Level
from faults.runs import Runs
from faults.stage import NotBegun, Stage, violations


@pytest.fixture
def documents(tmp_path, monkeypatch):
    """Record into a folder of the test, where the document has prose around the section."""
    monkeypatch.setattr(record, "DATA", tmp_path / "faults.json")
    monkeypatch.setattr(record, "DOCUMENT", tmp_path / "reliability.md")
    record.DOCUMENT.write_text(f"before\n{record._BEGIN}\n{record._END}\nafter\n")
    return record.DOCUMENT


def tally(runs):
    """Give a row of so many runs."""
    return record.Tally(cell="single-kill", level="D0", date="2026-11-21", server="valkey", runs=runs)


def test_fewer_runs_replace_nothing(documents):
    """A row is replaced by as many runs or more, not by fewer; the prose around the section stays."""
    assert record.save(tally(3))
    assert record.save(tally(3))
    assert not record.save(tally(2))

    assert record.load()["single-kill D0"].runs == 3
    text = documents.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "| single-kill | D0 | 3 |" in text


def test_run_that_breaks_off(tmp_path):
    """A run in which something does not come back is a violation at every level; history and logs are kept."""
    cell = replace(
        CELLS["single-kill"],
        act=lambda stage: (stage.warm_up(), stage.wait(lambda: False, "what never comes", 0.1)),
        losing=EVERY_LEVEL,
    )

    run = Stage(cell, Level.D0, is_quick=True, keep=tmp_path).run()

    (found,) = violations(run, cell, Level.D0)
    assert found.flaw is Flaw.BROKEN_OFF
    assert "TimeoutError: single-kill: not in 0 s: what never comes" in found.text
    (folder,) = tmp_path.iterdir()
    assert "what never comes" in (folder / "findings").read_text()
    assert (folder / "node1.log").stat().st_size > 0
    assert len([from_lines([line]) for line in (folder / "history").read_text().splitlines()]) == len(run.entries) > 0


def quiet(tries_in_vain, flaws):
    """Give a cell without a workload, whose fault can begin after so many tries; in vain it finds *flaws*."""
    tries = iter(range(tries_in_vain))

    def act(stage):
        if next(tries, None) is not None:
            stage.findings.extend(Finding(flaw, "s1", None) for flaw in flaws)
            raise NotBegun("its primary is gone")

    return replace(CELLS["single-kill"], act=act, has_workload=False)


def test_fault_that_could_not_begin(monkeypatch, documents):
    """Where the fault could not begin another run is played, and both are told of; what was broken counts."""
    monkeypatch.setitem(CELLS, "single-kill", quiet(2, []))
    row = tally(0)
    with Runs(1) as runs:
        (run,) = runs.play("single-kill", Level.D0, 1, is_quick=True)
    row.add(run)
    record.save(row)
    assert (row.runs, row.replays, row.broken) == (1, 2, 0)
    assert "- single-kill (D0): 2 more runs were broken off before the fault." in documents.read_text()

    broken = quiet(1, [Flaw.FALSE_LOGOUT])
    run = Stage(broken, Level.D0, is_quick=True).run()
    assert [found.flaw for found in violations(run, broken, Level.D0)] == [Flaw.FALSE_LOGOUT]
    with pytest.raises(NotBegun, match="its primary is gone"):
        Stage(quiet(1, [Flaw.UPDATE_LOST]), Level.D0, is_quick=True).run()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cell = replace(quiet(0, []), settings={"port": taken.getsockname()[1]})
        with pytest.raises(NotBegun, match="the servers cannot be started: port "):
            Stage(cell, Level.D0, is_quick=True).run()


def test_fault_that_never_begins(monkeypatch):
    """After ten runs in vain it is an error."""
    monkeypatch.setitem(CELLS, "single-kill", quiet(10, []))
    with Runs(1) as runs, pytest.raises(RuntimeError, match="single-kill at D0 could not begin 10 times in a row"):
        list(runs.play("single-kill", Level.D0, 1, is_quick=True))
