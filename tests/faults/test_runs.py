"""Runs that go on at once have servers of their own."""

import pytest

from faults import ports
from faults.levels import Level
from faults.runs import Runs


@pytest.mark.parametrize("shares", [2, 3])
def test_shares_of_ports(monkeypatch, shares):
    """No port is in two shares: a killed server's port is nobody else's."""
    monkeypatch.setattr(ports, "_share", [ports._ALL])
    chosen = []
    for place in range(shares):
        ports.take_share(place, shares)
        chosen.append({first + number for first in (ports.free_row() for _ in range(50)) for number in range(6)})

    assert not set.intersection(*chosen)


@pytest.mark.parametrize("jobs", [1, 2])
def test_as_many_as_asked_for(jobs):
    """As many runs are given as were asked for, however many go on at once."""
    with Runs(jobs) as runs:
        played = list(runs.play("single-kill", Level.D0, 2, is_quick=True))

    assert [bool(run.entries) for run in played] == [True, True]
    assert all(run.seconds > 0 for run in played)
