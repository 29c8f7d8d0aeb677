"""What is promised at which level of durability, and that a level which is not kept is found out."""

import pytest

from coatcheck.runtime.local.settings import Kind as Topology
from faults import stage
from faults.cells import CELLS
from faults.checker import LOSSES, Finding, Flaw
from faults.levels import Level, Skipped, policy_at
from faults.stage import Run, Stage, losses, violations
from faults.workload import POLICY


def judged(cell, level, *flaws):
    """Give the violations and the losses of a run with *flaws*, by name."""
    findings = [Finding(flaw, "s1", None) for flaw in flaws]
    nothing = dict.fromkeys(("recovery", "detection", "late"))
    run = Run(entries=[], findings=findings, **nothing, waits=[], numbers={}, seconds=0.0)
    return tuple([found.flaw.name for found in judge(run, CELLS[cell], level)] for judge in (violations, losses))


@pytest.mark.parametrize(
    ("cell", "level", "is_promised"),
    [
        ("single-kill", Level.D0, False),
        ("single-kill", Level.D2, True),
        ("single-host", Level.D2, False),
        ("sentinel-empty", Level.D1, False),
        *(
            (f"{kind}-{fault}", level, level in {Level.D1, Level.D3})
            for kind in ("sentinel", "cluster")
            for fault in ("kill", "isolate", "freeze", "host")
            for level in Level
        ),
    ],
)
def test_promises(cell, level, is_promised):
    """A lost sign-in breaks a promise where the level survives the fault, and is counted where it does not."""
    expected = (["SIGN_IN_MISSING"], []) if is_promised else ([], ["SIGN_IN_MISSING"])

    assert judged(cell, level, Flaw.SIGN_IN_MISSING) == expected


@pytest.mark.parametrize("cell", [name for name in CELLS if name.endswith("-empty")] + ["single-host"])
@pytest.mark.parametrize("flaw", [Flaw.REVOCATION_UNDONE, Flaw.UPDATE_LOST, Flaw.ROTATION_LOST, Flaw.STALE_READ])
def test_empty_is_all_that_it_may_be(cell, flaw):
    """A server that comes back empty may have no session; nothing that is older than it was, and nothing revived."""
    assert judged(cell, Level.D0, flaw) == ([flaw.name], [])


@pytest.mark.parametrize("cell", CELLS)
def test_never_excused(cell):
    """What no level may do is a violation at each, stale reads but for where applications are cut off."""
    cut_off = cell in {"sentinel-isolate", "cluster-isolate"}
    for flaw in set(Flaw) - LOSSES:
        expected = ([], [flaw.name]) if cut_off and flaw is Flaw.STALE_READ else ([flaw.name], [])
        assert judged(cell, Level.D1, flaw) == expected


def test_level_that_a_topology_cannot_have():
    """One server has no replicas to wait for: such a run is refused, not run at another level."""
    for level in (Level.D1, Level.D3):
        with pytest.raises(Skipped, match="about replicas, of which one server has none"):
            policy_at(level, Topology.SINGLE)
    assert policy_at(Level.D1, Topology.SENTINEL).durability.replicas == 2


@pytest.mark.requirement("R46")
def test_a_level_that_is_not_kept_is_found(monkeypatch):
    """Writes that are acknowledged from memory are found out, on real servers, where they are to be on all replicas."""
    monkeypatch.setattr(stage, "policy_at", lambda *_: POLICY)
    cell = CELLS["sentinel-replica"]

    run = Stage(cell, Level.D1, is_quick=True).run()

    assert {finding.flaw for finding in violations(run, cell, Level.D1)} == {Flaw.SHORT_WRITE}
