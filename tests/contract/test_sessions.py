"""What holds for both facades, on a real server."""

from datetime import timedelta

import pytest

from coatcheck import SessionRevoked


def test_load_gives_back_what_was_stored(sessions):
    """A stored session comes back with its attributes, by its identifier."""
    stored = sessions.create({"cart": ["book"], "count": 1})

    loaded = sessions.load(stored.identifier)

    assert dict(loaded) == {"cart": ["book"], "count": 1}


@pytest.mark.requirement("R10")
def test_idle_timeout_ends_a_session(sessions, clock):
    """A session unused for its idle timeout cannot be loaded."""
    stored = sessions.create({"a": 1})

    clock.advance(timedelta(minutes=31))

    assert sessions.load(stored.identifier) is None


@pytest.mark.requirement("R14")
def test_save_after_revocation(sessions):
    """Saving a session revoked elsewhere raises and does not revive it."""
    mine = sessions.create({"a": 1})
    sessions.revoke(mine.handle)
    mine["a"] = 2

    with pytest.raises(SessionRevoked):
        sessions.save(mine)

    assert sessions.find(mine.handle) is None
