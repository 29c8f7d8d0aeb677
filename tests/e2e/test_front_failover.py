"""Users behind nginx while the primary of the store is killed: a short run of `python -m faults.front`."""

import pytest

from coatcheck.runtime.local.settings import Kind
from faults.front.trial import play


@pytest.mark.requirement("R45")
@pytest.mark.requirement("R49")
@pytest.mark.parametrize(("framework", "kind"), [("flask", Kind.SENTINEL), ("fastapi", Kind.CLUSTER)])
def test_primary_killed_behind_nginx(framework: str, kind: Kind) -> None:
    """A failover is met as 503 with Retry-After and nothing else: nobody loses a cookie, all are known afterwards."""
    outcome = play(framework, kind, users=8, rounds=10)

    assert outcome.problems() == []
    assert outcome.tally.refused
    assert outcome.tally.writes >= 2 * 8 * 10
