"""Freshness: when, and how strongly, a session's subject has authenticated."""

from datetime import timedelta

import pytest

from coatcheck import AuthenticationRequired

MINUTE = timedelta(minutes=1)


@pytest.fixture
def signed_in(sessions):
    """Give ada's session."""
    session = sessions.create({"a": 1})
    sessions.bind(session, "ada")
    return session


@pytest.mark.requirement("R32")
def test_age(sessions, signed_in, clock):
    """A session is fresh until the time that is asked for has passed since the sign-in, by the server's clock."""
    clock.advance(4 * MINUTE)
    loaded = sessions.load(signed_in.identifier)
    assert sessions.is_fresh(loaded, 5 * MINUTE)

    clock.advance(2 * MINUTE)
    assert not sessions.is_fresh(loaded, 5 * MINUTE)
    assert not sessions.is_fresh(sessions.load(signed_in.identifier), 5 * MINUTE)


@pytest.mark.requirement("R32")
def test_assurance(sessions, signed_in):
    """A session is fresh for what is no stronger than its sign-in was."""
    assert sessions.is_fresh(signed_in, MINUTE)
    assert not sessions.is_fresh(signed_in, MINUTE, assurance=2)

    sessions.bind(signed_in, "ada", assurance=3)

    assert sessions.is_fresh(sessions.load(signed_in.identifier), MINUTE, assurance=2)


@pytest.mark.requirement("R12")
@pytest.mark.requirement("R32")
def test_step_up(sessions, signed_in, clock):
    """To bind the same subject again renews the time, raises the assurance and gives a new handle and new deadlines."""
    former, weak = signed_in.handle, signed_in.identifier
    deadline = signed_in.absolute_deadline
    clock.advance(10 * MINUTE)
    session = sessions.load(weak)

    sessions.bind(session, "ada", assurance=2)

    assert sessions.is_fresh(session, MINUTE, assurance=2)
    assert session.handle != former
    assert session.absolute_deadline >= deadline + 10 * MINUTE
    assert (sessions.load(weak), session["a"]) == (None, 1)


@pytest.mark.requirement("R32")
def test_nothing_else_raises_it(sessions, signed_in, clock):
    """Use, writing, rotation, longer timeouts and merging leave time and assurance as the sign-in made them."""
    known = signed_in.auth_time, signed_in.assurance
    clock.advance(10 * MINUTE)
    session, parallel = sessions.load(signed_in.identifier), sessions.load(signed_in.identifier)

    parallel["b"] = 2
    sessions.save(parallel)
    session["a"] = 3
    session.set_timeouts(idle=timedelta(hours=1))
    sessions.save(session)
    sessions.rotate(session)
    sessions.touch(session)

    after = sessions.load(session.identifier)
    assert (after.auth_time, after.assurance) == known
    assert not sessions.is_fresh(after, 5 * MINUTE)


@pytest.mark.requirement("R32")
def test_weaker_again(sessions, signed_in):
    """A weaker sign-in after a stronger one lowers the assurance."""
    sessions.bind(signed_in, "ada", assurance=2)
    sessions.bind(signed_in, "ada")

    assert not sessions.is_fresh(sessions.load(signed_in.identifier), MINUTE, assurance=2)


def test_anonymous(sessions):
    """A session of nobody is never fresh, nor is a new one."""
    assert not sessions.is_fresh(sessions.create({"a": 1}), MINUTE)
    assert not sessions.is_fresh(sessions.new(), MINUTE)


def test_ended(sessions, signed_in):
    """A session that this request has ended is not fresh."""
    sessions.revoke(signed_in)

    assert not sessions.is_fresh(signed_in, MINUTE)


def test_signed_out(sessions, signed_in):
    """What goes on anonymously after a sign-out is not fresh."""
    sessions.unbind(signed_in)

    assert not sessions.is_fresh(sessions.load(signed_in.identifier), MINUTE)


def test_required(sessions, signed_in, clock):
    """`require_fresh` passes a fresh session, and says of another what is required."""
    sessions.require_fresh(signed_in, 5 * MINUTE)
    clock.advance(6 * MINUTE)

    with pytest.raises(AuthenticationRequired) as required:
        sessions.require_fresh(signed_in, 5 * MINUTE, 2)

    assert (required.value.within, required.value.assurance) == (5 * MINUTE, 2)


def test_time_left(sessions, signed_in, clock):
    """`time_left` tells how long sessions live unused, moves no deadline, and gives nothing for those that are over."""
    anonymous, over = sessions.create({"a": 1}), sessions.create({"a": 1})
    sessions.revoke(over.handle)
    clock.advance(10 * MINUTE)

    left = sessions.time_left([signed_in, over, sessions.new(), anonymous])

    assert [19 < duration / MINUTE <= 20 for duration in left] == [True, False, False, True]
    assert left[1] == left[2] == timedelta(0)
    assert left >= sessions.time_left([signed_in, over, sessions.new(), anonymous])


def test_time_left_after_everyone(sessions, signed_in):
    """Nothing is left to a session that ended with everyone's, though its record is still there."""
    sessions.revoke_everyone()

    assert sessions.time_left([signed_in]) == [timedelta(0)]
    assert sessions.time_left([]) == []
