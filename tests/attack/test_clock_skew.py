"""Clocks that are wrong by an hour: the application's, and the server's.

The application's wall clock is never asked. The server's is what counts: set forward it ends sessions early, set back
it lets them live longer by as much as it was set back, and no more.
"""

import time
from datetime import timedelta

import pytest

from coatcheck import SessionPolicy

HOUR = timedelta(hours=1)
MILLISECONDS = 3_600_000
SKEWS = pytest.mark.parametrize("skew", [MILLISECONDS, -MILLISECONDS], ids=["ahead", "behind"])


def set_server(server, clock, milliseconds):
    """Set the server's clock: the instants at which keys expire stay, so their time left changes the other way."""
    clock.moved += milliseconds
    for name in server.left():
        left = server.client.pttl(name) - milliseconds
        if left > 0:
            server.client.pexpire(name, left)
        else:
            server.client.delete(name)


@pytest.mark.requirement("R11", "R15")
@SKEWS
def test_application_clock(open_sessions, clock, monkeypatch, skew):
    """An application server whose wall clock is wrong makes and judges deadlines as every other one does."""
    right, own_time = open_sessions(), time.time
    monkeypatch.setattr(time, "time", lambda: own_time() + skew / 1000)
    wrong = open_sessions()
    made = wrong.create({"a": 1})
    monkeypatch.undo()
    other = right.create({"a": 1})

    assert abs(made.absolute_deadline - other.absolute_deadline) < timedelta(seconds=5)
    clock.advance(timedelta(minutes=29))
    assert right.load(made.identifier) is not None
    clock.advance(timedelta(minutes=2))
    assert right.load(made.identifier) is wrong.load(made.identifier) is None


@pytest.mark.requirement("R11", "R15")
def test_server_set_forward(sessions, server, clock):
    """A server whose clock jumps an hour ahead ends sessions early: the idle one at once, none late."""
    session = sessions.create({"a": 1})

    set_server(server, clock, MILLISECONDS)

    assert sessions.load(session.identifier) is None


@pytest.mark.requirement("R11", "R15")
def test_server_set_back(open_sessions, server, clock):
    """A server whose clock is set back an hour lets a session live an hour longer at most, however it is used."""
    sessions = open_sessions(policy=SessionPolicy(idle_timeout=3 * HOUR, absolute_timeout=12 * HOUR))
    session = sessions.create({"a": 1})
    clock.advance(HOUR)
    set_server(server, clock, -MILLISECONDS)
    for _ in range(11):
        clock.advance(HOUR)
        loaded = sessions.load(session.identifier)
        loaded["n"] = loaded.get("n", 0) + 1
        sessions.save(loaded)
    clock.advance(timedelta(minutes=59))
    assert sessions.load(session.identifier) is not None

    clock.advance(timedelta(minutes=1, seconds=1))

    assert sessions.load(session.identifier) is None


@pytest.mark.requirement("R30", "R15")
@SKEWS
def test_grace_of_a_former_secret(sessions, server, clock, skew):
    """A former secret is honoured no longer than its grace and the time that the clock was set back."""
    session = sessions.create({"a": 1})
    former = session.identifier
    sessions.rotate(session)

    set_server(server, clock, skew // 10)
    clock.advance(timedelta(milliseconds=max(0, -skew // 10), seconds=11))

    assert sessions.load(former) is None


@pytest.mark.requirement("R21", "R15")
def test_end_of_everybody_by_a_process_that_is_behind(open_sessions, clock):
    """A process that has not heard yet that the time went on ends what the others have made until now all the same."""
    sessions, behind = open_sessions(), open_sessions(clock=None)
    clock.moved -= 60_000  # the clock of `sessions` is a minute behind, the other one right
    made = behind.create({"a": 1})

    sessions.revoke_everyone()

    assert behind.load(made.identifier) is None
    assert behind.load(behind.create({"a": 1}).identifier) is not None


@pytest.mark.requirement("R21", "R15")
def test_end_of_everybody_after_the_server_was_set_back(sessions, server, clock):
    """Sessions that were made by a later clock, before the server was set back, outlive the end of everybody.

    Until its clock has caught up: to end them before, end each subject's, or take the sealing key out of the ring.
    """
    clock.moved += MILLISECONDS
    session = sessions.create({"a": 1})
    sessions.bind(session, "ada")
    clock.moved -= MILLISECONDS

    sessions.revoke_everyone()
    assert sessions.load(session.identifier) is not None

    assert sessions.revoke_all("ada") == 1
    assert sessions.load(session.identifier) is None
