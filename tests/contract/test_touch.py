"""Touching: the idle deadline slides, seldom, and never past the absolute one."""

from datetime import timedelta

import pytest

from coatcheck import SessionPolicy
from tests import near_mode

MINUTE = timedelta(minutes=1)


def test_touch_extends_the_idle_deadline(sessions, clock):
    """A session that is read again and again outlives its idle timeout."""
    stored = sessions.create({"a": 1})
    for _ in range(5):
        clock.advance(20 * MINUTE)
        sessions.save(sessions.load(stored.identifier))

    assert sessions.load(stored.identifier) is not None


@pytest.mark.requirement("R16")
def test_touch_is_coalesced(sessions, server, clock):
    """Within a tenth of the idle timeout a session is touched once, however often it is read."""
    stored = sessions.create({"a": 1})
    clock.advance(4 * MINUTE)
    with server.commands() as commands:
        for _ in range(200):
            assert sessions.touch(sessions.load(stored.identifier)) is True

    assert [command.split()[0] for command in commands].count("EVALSHA") == 1
    assert {command.split()[0] for command in commands} == {"MGET", "EVALSHA"}


@pytest.mark.requirement("R16")
@pytest.mark.requirement("R39")
@pytest.mark.skipif(near_mode.IS_ON, reason=near_mode.LOADS_SEND_NOTHING)
def test_order_of_commands(sessions, server, clock):
    """A request that only reads is an MGET; once in a tenth of the idle timeout a script that extends it follows."""
    stored = sessions.create({"a": 1})
    with server.commands() as commands:
        for _ in range(4):
            sessions.save(sessions.load(stored.identifier))
            clock.moved += 100_000

    assert [command.split()[0] for command in commands] == ["MGET", "MGET", "MGET", "EVALSHA", "MGET"]


@pytest.mark.requirement("R16")
def test_idle_error_is_at_most_a_tenth(sessions, clock):
    """A session ends after its idle timeout, at most a tenth of it early for who used it in between."""
    stored = sessions.create({"a": 1})
    clock.advance(timedelta(minutes=2, seconds=50))
    sessions.save(sessions.load(stored.identifier))

    clock.advance(27 * MINUTE)
    assert sessions.find(stored.handle) is not None

    clock.advance(timedelta(seconds=11))
    assert sessions.find(stored.handle) is None


@pytest.mark.requirement("R11")
def test_touch_never_goes_past_the_absolute_deadline(sessions, server, clock):
    """Activity all day does not keep a session past its absolute deadline, and its key never outlives that."""
    stored = sessions.create({"a": 1})
    deadline = clock.now() + 12 * 3600 * 1000
    (name,) = server.left()
    for _ in range(47):
        clock.advance(15 * MINUTE)
        sessions.save(sessions.load(stored.identifier))
        assert clock.now() + server.client.pttl(name) <= deadline + 1000

    clock.advance(15 * MINUTE)

    assert sessions.load(stored.identifier) is None
    assert server.left() == []


def test_touch_of_an_ended_session(sessions, clock):
    """Touching a session that has ended says so."""
    stored = sessions.create({"a": 1})
    mine = sessions.load(stored.identifier)
    sessions.revoke(stored.handle)

    assert sessions.touch(mine) is False


def test_touch_of_a_new_session(sessions, server):
    """A session that is not stored cannot be touched, and nothing is sent."""
    with server.commands() as commands:
        touched = sessions.touch(sessions.new())

    assert touched is False
    assert commands == []


def test_touch_shows_in_the_idle_deadline(sessions, clock):
    """The idle deadline that a session shows follows its touch."""
    stored = sessions.create({"a": 1})
    clock.advance(10 * MINUTE)
    mine = sessions.load(stored.identifier)

    sessions.touch(mine)

    assert mine.idle_deadline - stored.created_at == pytest.approx(40 * MINUTE, abs=timedelta(seconds=2))


def test_touch_near_the_absolute_deadline(open_sessions, clock):
    """Past the absolute deadline a touch says that the session is gone."""
    sessions = open_sessions(policy=SessionPolicy(idle_timeout=10 * MINUTE, absolute_timeout=10 * MINUTE))
    mine = sessions.load(sessions.create({"a": 1}).identifier)
    clock.moved += 10 * 60 * 1000

    assert sessions.touch(mine) is False


@pytest.mark.requirement("R16")
def test_clock_set_back(sessions, clock):
    """Where the server's clock was set back, a session in use is touched all the same."""
    stored = sessions.create({"a": 1})
    clock.advance(20 * MINUTE)
    sessions.save(sessions.load(stored.identifier))
    clock.moved -= timedelta(hours=2) // timedelta(milliseconds=1)

    for _ in range(3):
        clock.advance(20 * MINUTE)
        sessions.save(sessions.load(stored.identifier))

    assert sessions.load(stored.identifier) is not None


@pytest.mark.requirement("R10")
@pytest.mark.parametrize(("idle", "ends"), [(timedelta(minutes=1), True), (timedelta(days=14), False)])
def test_touch_by_a_request_that_does_not_know_the_new_timeout(open_sessions, clock, idle, ends):
    """A touch extends by what is stored, though another request has changed the timeouts since it was loaded."""
    sessions, others = (
        open_sessions(policy=SessionPolicy(absolute_timeout=timedelta(days=30), idle_timeout=timedelta(minutes=30)))
        for _ in range(2)
    )
    stored = sessions.create({"a": 1})
    stale, mine = others.load(stored.identifier), sessions.load(stored.identifier)
    mine.set_timeouts(idle=idle)
    sessions.save(mine)
    others.save(stale)

    clock.advance(timedelta(hours=1))

    assert (sessions.load(stored.identifier) is None) == ends
