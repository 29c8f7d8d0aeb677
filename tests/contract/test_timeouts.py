"""Timeouts of a session's own, and whose clock counts."""

import time
from datetime import timedelta

import pytest

from coatcheck import ConfigurationError, SessionPolicy

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def stored(sessions):
    """Give a stored session."""
    return sessions.create({"a": 1})


@pytest.mark.requirement("R10")
def test_remember_me(sessions, stored, clock):
    """A session can be given longer timeouts than the policy's; others keep theirs."""
    other = sessions.create({"a": 1})
    stored.set_timeouts(idle=14 * DAY, absolute=30 * DAY)
    sessions.save(stored)
    clock.advance(13 * DAY)

    assert sessions.load(other.identifier) is None
    loaded = sessions.load(stored.identifier)
    assert (loaded.idle_timeout, loaded.absolute_timeout) == (14 * DAY, 30 * DAY)


@pytest.mark.requirement("R11")
def test_own_absolute_timeout_holds(sessions, stored, clock):
    """The absolute timeout of its own ends a session however much it is used."""
    stored.set_timeouts(idle=14 * DAY, absolute=30 * DAY)
    sessions.save(stored)
    for _ in range(3):
        clock.advance(10 * DAY - HOUR)
        loaded = sessions.load(stored.identifier)
        loaded.increment("a")
        sessions.save(loaded)

    clock.advance(4 * HOUR)

    assert sessions.load(stored.identifier) is None


def test_shorter_timeouts(sessions, stored, clock):
    """A session can be given shorter timeouts than the policy's, at once."""
    stored.set_timeouts(idle=MINUTE)
    sessions.save(stored)
    clock.advance(2 * MINUTE)

    assert sessions.load(stored.identifier) is None


def test_absolute_timeout_counts_from_the_creation(sessions, stored, clock):
    """An absolute timeout given later counts from when the session was created."""
    clock.advance(20 * MINUTE)
    loaded = sessions.load(stored.identifier)
    loaded.set_timeouts(idle=10 * MINUTE, absolute=30 * MINUTE)
    sessions.save(loaded)

    assert loaded.absolute_deadline == stored.created_at + 30 * MINUTE


def test_timeouts_of_a_new_session(sessions):
    """Timeouts given before the first save are those of the first record."""
    session = sessions.new()
    session["a"] = 1
    session.set_timeouts(idle=2 * HOUR, absolute=3 * HOUR, persistent=False)
    sessions.save(session)

    loaded = sessions.load(session.identifier)
    assert (loaded.idle_timeout, loaded.absolute_timeout, loaded.persistent) == (2 * HOUR, 3 * HOUR, False)


def test_until_the_browser_closes(sessions, stored):
    """Persistence can be changed alone; the timeouts stay."""
    stored.set_timeouts(persistent=False)
    sessions.save(stored)

    loaded = sessions.load(stored.identifier)
    assert (loaded.idle_timeout, loaded.absolute_timeout, loaded.persistent) == (30 * MINUTE, 12 * HOUR, False)


def test_settings_merge_with_the_changes_of_others(sessions, stored):
    """A change of timeouts and another request's change of attributes both stand."""
    mine, theirs = sessions.load(stored.identifier), sessions.load(stored.identifier)
    mine.set_timeouts(idle=2 * HOUR)
    theirs["b"] = 2
    sessions.save(theirs)
    sessions.save(mine)

    loaded = sessions.load(stored.identifier)
    assert (loaded.idle_timeout, dict(loaded)) == (2 * HOUR, {"a": 1, "b": 2})


def test_what_is_not_given_stays(sessions, stored):
    """Two requests that change different settings both win."""
    mine, theirs = sessions.load(stored.identifier), sessions.load(stored.identifier)
    mine.set_timeouts(idle=2 * HOUR)
    theirs.set_timeouts(persistent=False)
    sessions.save(theirs)
    sessions.save(mine)

    loaded = sessions.load(stored.identifier)
    assert (loaded.idle_timeout, loaded.persistent) == (2 * HOUR, False)


@pytest.mark.parametrize(
    ("idle", "absolute"),
    [(HOUR, MINUTE), (timedelta(0), HOUR), (-MINUTE, HOUR), (timedelta(microseconds=1), HOUR), (HOUR, 3651 * DAY)],
)
def test_impossible_timeouts(sessions, stored, idle, absolute):
    """Timeouts that cannot be meant are refused, and the session keeps its own."""
    expected = r"need 1 ms <= idle_timeout <= absolute_timeout <= 3650 days, not "
    with pytest.raises(ConfigurationError, match=expected):
        stored.set_timeouts(idle=idle, absolute=absolute)
    with pytest.raises(ConfigurationError, match=expected):
        SessionPolicy(idle_timeout=idle, absolute_timeout=absolute)

    assert stored.idle_timeout == 30 * MINUTE


@pytest.mark.parametrize("grace", [-MINUTE, 6 * MINUTE])
def test_impossible_grace(grace):
    """A grace that would be no grace is refused."""
    with pytest.raises(ConfigurationError, match="rotation_grace must lie between 0 and 5 minutes"):
        SessionPolicy(rotation_grace=grace)


def test_listed_must_be_a_tuple():
    """A single name in place of a tuple of names is refused."""
    with pytest.raises(ConfigurationError, match="listed is a tuple of attribute names, not 'device'"):
        SessionPolicy(listed="device")


@pytest.mark.parametrize("skew", [3600, -3600])
def test_wall_clock_of_the_application(open_sessions, server, monkeypatch, skew, clock):
    """An application server whose clock is an hour off gives the same deadlines: the store's clock counts."""
    right = open_sessions(clock=None)
    stored = right.create({"a": 1})
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + skew)
    wrong = open_sessions(clock=None)

    loaded = wrong.load(stored.identifier)
    loaded["b"] = 2
    wrong.save(loaded)
    wrong.bind(loaded, "ada")

    seconds, _ = server.client.time()
    assert loaded.created_at.timestamp() == pytest.approx(seconds, abs=2)
    assert loaded.absolute_deadline.timestamp() == pytest.approx(seconds + 12 * 3600, abs=2)
    assert right.load(loaded.identifier) is not None
    assert [info.handle for info in right.list_for("ada")] == [loaded.handle]
    assert wrong.remaining(loaded) == pytest.approx(12 * 3600, abs=2)
