"""What is kept of runs: their sums in the documentation, and the history of those with findings."""

from dataclasses import replace

import pytest

from faults import record
from faults.cells import CELLS
from faults.checker import Flaw
from faults.ledger import from_lines
from faults.levels import EVERY_LEVEL, Level
from faults.stage import Stage, violations


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
