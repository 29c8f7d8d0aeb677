"""Authenticating again: both clocks begin anew, and nothing opens the session but the new identifier."""

from datetime import timedelta

import pytest

from coatcheck import SessionPolicy

MINUTE = timedelta(minutes=1)
POLICY = SessionPolicy(idle_timeout=30 * MINUTE, absolute_timeout=60 * MINUTE)


@pytest.mark.requirement("R12")
def test_both_clocks_begin_anew(open_sessions, clock):
    """Who authenticates again just before each deadline stays signed in; without it the first deadline ends it all."""
    sessions = open_sessions(policy=POLICY)
    session, left_alone = sessions.create({"cart": ["book"]}), sessions.create({})
    sessions.bind(session, "ada")
    sessions.bind(left_alone, "ada")
    former = []
    for _ in range(3):
        for _ in range(2):  # 58 minutes, 29 at a time
            clock.advance(29 * MINUTE)
            session = sessions.load(session.identifier)
            assert sessions.touch(session)
            if found := sessions.load(left_alone.identifier):
                sessions.touch(found)
        former.append(session.identifier)
        sessions.bind(session, "ada")
        assert session.identifier not in former
        assert [sessions.load(identifier) for identifier in former] == [None] * len(former)

    assert sessions.load(left_alone.identifier) is None
    clock.advance(29 * MINUTE)  # the idle clock began anew
    session = sessions.load(session.identifier)
    assert (session.subject, session["cart"]) == ("ada", ["book"])
    assert sessions.touch(session)
    clock.advance(29 * MINUTE)  # and so did the absolute one
    assert sessions.load(session.identifier) is not None
    clock.advance(2 * MINUTE)
    assert sessions.load(session.identifier) is None
