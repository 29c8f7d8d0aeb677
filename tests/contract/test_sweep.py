"""Sweeping: the indexes hold the live sessions and nothing else."""

from datetime import timedelta

import pytest

from coatcheck import SessionPolicy
from coatcheck.model.ticket import Handle
from tests.contract.chaos import Chaos, indexed, signed_in

MINUTE = timedelta(minutes=1)


def records(server):
    """List the names of the handles that have a record."""
    return sorted(name.rpartition(":")[2] for name in server.keys(":s:"))


def test_nothing_to_sweep(sessions, server):
    """An empty store is swept in one go, to nothing."""
    assert sessions.sweep() == 0
    assert server.left() == []


@pytest.mark.requirement("R24")
def test_expired_sessions_are_settled(sessions, server, clock):
    """Sessions that have expired leave both indexes; the count says how many."""
    for _ in range(3):
        signed_in(sessions)
    alive = signed_in(sessions, idle=timedelta(hours=2))
    clock.advance(31 * MINUTE)

    assert sessions.sweep() == 3

    assert indexed(server) == ([alive.handle.name], [alive.handle.name])
    assert sessions.sweep() == 0


@pytest.mark.requirement("R24")
def test_touched_sessions_stay(sessions, server, clock):
    """A session that was used since it was listed is put off, not dropped."""
    session = signed_in(sessions)
    clock.advance(20 * MINUTE)
    sessions.save(sessions.load(session.identifier))
    clock.advance(20 * MINUTE)

    assert sessions.sweep() == 0
    assert indexed(server) == ([session.handle.name], [session.handle.name])

    clock.advance(11 * MINUTE)
    assert sessions.sweep() == 1
    assert server.left() == []


@pytest.mark.requirement("R24")
def test_very_much_to_settle(sessions, server, clock):
    """More than one page of expired sessions is settled by one sweep."""
    for _ in range(450):
        signed_in(sessions)
    alive = signed_in(sessions, idle=timedelta(hours=2))
    clock.advance(31 * MINUTE)

    assert sessions.sweep() == 450
    assert indexed(server) == ([alive.handle.name], [alive.handle.name])


@pytest.mark.requirement("R24")
def test_sweeps_in_parallel(sessions, server, clock, at_once):
    """Several sweeps at once settle each ended session exactly once."""
    for number in range(300):
        signed_in(sessions, f"user{number % 7}")
    clock.advance(31 * MINUTE)

    counts = at_once(*((sessions, "sweep") for _ in range(4)))

    assert sum(counts) == 300
    assert server.left() == []


@pytest.mark.timeout(600)  # with a near cache every load waits first
@pytest.mark.requirement("R24")
@pytest.mark.requirement("R13")
def test_10000_operations_at_random(open_sessions, server, clock):
    """After 10,000 operations of any kind, lost records and expiry, one sweep makes the indexes the live set."""
    sessions = open_sessions(policy=SessionPolicy(limit=6))
    Chaos(sessions, server, clock).run(10_000)
    survivor = signed_in(sessions, "survivor", idle=timedelta(hours=11))
    clock.advance(timedelta(hours=3))
    late = [signed_in(sessions, f"user{number}") for number in range(20)]

    sessions.sweep()

    expected = sorted(session.handle.name for session in (survivor, *late))
    assert indexed(server) == (expected, expected)
    assert [name for name in records(server) if name in expected] == expected
    assert server.keys_without_ttl() == []


@pytest.mark.requirement("R13")
def test_short_session_never_shortens_an_index(sessions, server, clock):
    """An index lives as long as its longest session, whatever is bound beside it or shortened."""
    long = signed_in(sessions, idle=timedelta(days=30), absolute=timedelta(days=30))
    short = signed_in(sessions, idle=MINUTE, absolute=MINUTE)
    short["a"] = 1
    short.set_timeouts(idle=MINUTE / 2)
    sessions.save(short)
    sessions.revoke(short.handle)
    sessions.sweep()
    clock.advance(timedelta(days=29))

    assert sessions.load(long.identifier) is not None
    assert [info.handle for info in sessions.list_for("ada")] == [long.handle]
    assert indexed(server) == ([long.handle.name], [long.handle.name])


@pytest.mark.requirement("R13")
def test_index_follows_a_session_made_longer(sessions, server, clock):
    """A session whose absolute timeout is made longer stays listed to its new end."""
    session = signed_in(sessions)
    session.set_timeouts(idle=timedelta(days=20), absolute=timedelta(days=30))
    sessions.save(session)
    clock.advance(timedelta(days=19))

    sessions.sweep()

    assert [info.handle for info in sessions.list_for("ada")] == [session.handle]
    assert indexed(server) == ([session.handle.name], [session.handle.name])


@pytest.mark.requirement("R13")
def test_indexes_end_with_their_sessions(sessions, server, clock):
    """Without any sweep nothing is left a day after the last session could have ended."""
    signed_in(sessions)
    clock.advance(timedelta(hours=36))

    assert server.left() == []


def test_index_of_unknown_handles_is_not_touched(sessions, server):
    """Ending a handle that never was leaves the indexes as they are."""
    session = signed_in(sessions)
    sessions.revoke(Handle.new(session.handle.partition), subject="ada")

    assert indexed(server) == ([session.handle.name], [session.handle.name])
