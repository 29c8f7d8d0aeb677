"""The profiles at work: no activity keeps a session beyond its absolute deadline."""

from datetime import timedelta

import pytest

from coatcheck import profiles


@pytest.mark.requirement("R11")
@pytest.mark.parametrize("name", ["AAL1", "AAL2", "AAL3", "SHOP", "BANK"])
def test_absolute_deadline(open_sessions, clock, name):
    """A session that is used twice in each idle timeout ends at its profile's absolute deadline, not before."""
    policy = getattr(profiles, name)
    sessions = open_sessions(policy=policy)
    identifier = sessions.create({"a": 1}).identifier
    step, used = policy.idle_timeout / 2, timedelta(0)
    while used + step < policy.absolute_timeout:
        clock.advance(step)
        used += step
        session = sessions.load(identifier)
        assert session is not None
        sessions.save(session)

    clock.advance(policy.absolute_timeout - used - timedelta(seconds=5))
    assert sessions.load(identifier) is not None
    clock.advance(timedelta(seconds=5))
    assert sessions.load(identifier) is None


@pytest.mark.parametrize("name", ["AAL2", "AAL3", "SHOP", "BANK"])
def test_idle_timeout(open_sessions, clock, name):
    """A session that is not used ends after the idle timeout of its profile."""
    policy = getattr(profiles, name)
    sessions = open_sessions(policy=policy)
    identifier = sessions.create({"a": 1}).identifier

    clock.advance(policy.idle_timeout - timedelta(seconds=5))
    assert sessions.load(identifier) is not None
    clock.advance(timedelta(seconds=5))
    assert sessions.load(identifier) is None
