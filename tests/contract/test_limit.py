"""How many sessions a subject may have: who is evicted, who is refused, exactly how many live."""

from datetime import timedelta

import pytest

import coatcheck
from coatcheck import AtLimit, ConfigurationError, SessionLimitReached, SessionPolicy
from tests.contract.chaos import MINUTE, live, signed_in


@pytest.mark.requirement("R17")
@pytest.mark.parametrize("at_limit", AtLimit)
def test_50_sign_ins_at_once(open_sessions, at_once, at_limit):
    """Of 50 sign-ins at the same time under a cap of 3 exactly 3 sessions live."""
    sessions = open_sessions(policy=SessionPolicy(limit=3, at_limit=at_limit))
    sessions.create({"warm": 1})
    candidates = [sessions.new() for _ in range(50)]

    outcomes = at_once(*((sessions, "bind", session, "ada") for session in candidates))

    assert len(sessions.list_for("ada")) == 3
    stored = [session for session in candidates if session.identifier is not None]
    assert len(live(sessions, *stored)) == 3
    refused = [outcome for outcome in outcomes if isinstance(outcome, SessionLimitReached)]
    assert len(refused) == (47 if at_limit is AtLimit.REFUSE else 0)
    assert len(stored) + len(refused) == 50


@pytest.mark.requirement("R17")
def test_oldest_is_evicted(open_sessions, clock):
    """The session created first ends, however lately it was used."""
    sessions = open_sessions(policy=SessionPolicy(limit=2))
    first = signed_in(sessions)
    clock.advance(MINUTE)
    second = signed_in(sessions)
    clock.advance(10 * MINUTE)
    sessions.save(sessions.load(first.identifier))

    third = signed_in(sessions)

    assert live(sessions, first, second, third) == [1, 2]


@pytest.mark.requirement("R17")
def test_oldest_is_evicted_whatever_its_timeouts(open_sessions, clock):
    """The oldest is the one created first, not the one that ends first."""
    sessions = open_sessions(policy=SessionPolicy(limit=2))
    remembered = signed_in(sessions, idle=timedelta(days=7), absolute=timedelta(days=30))
    clock.advance(MINUTE)
    short = signed_in(sessions)
    clock.advance(MINUTE)

    third = signed_in(sessions)

    assert live(sessions, remembered, short, third) == [1, 2]


@pytest.mark.requirement("R17")
def test_idlest_is_evicted(open_sessions, clock):
    """The session used least lately ends, however young it is."""
    sessions = open_sessions(policy=SessionPolicy(limit=2, at_limit=AtLimit.EVICT_IDLEST))
    first = signed_in(sessions)
    clock.advance(MINUTE)
    second = signed_in(sessions)
    clock.advance(10 * MINUTE)
    sessions.save(sessions.load(first.identifier))

    third = signed_in(sessions)

    assert live(sessions, first, second, third) == [0, 2]


@pytest.mark.requirement("R17")
def test_idlest_with_own_timeouts(open_sessions, clock):
    """Sessions with different idle timeouts are compared by their last use, not by when they would end."""
    sessions = open_sessions(policy=SessionPolicy(limit=2, at_limit=AtLimit.EVICT_IDLEST))
    remembered = signed_in(sessions, idle=timedelta(days=7), absolute=timedelta(days=30))
    clock.advance(5 * MINUTE)
    short = signed_in(sessions)
    clock.advance(MINUTE)

    third = signed_in(sessions)

    assert live(sessions, remembered, short, third) == [1, 2]


@pytest.mark.requirement("R17")
def test_refused_sign_in(open_sessions, server):
    """Where the policy refuses, a sign-in beyond the limit raises and changes nothing."""
    sessions = open_sessions(policy=SessionPolicy(limit=1, at_limit=AtLimit.REFUSE))
    first = signed_in(sessions)
    anonymous = sessions.create({"a": 1})
    before = {name: server.client.dump(name) for name in server.left()}

    with pytest.raises(SessionLimitReached, match=r"the policy allows 1 sessions? at once, and no more"):
        sessions.bind(anonymous, "ada")

    assert {name: server.client.dump(name) for name in server.left()} == before
    assert live(sessions, first, anonymous) == [0, 1]
    assert anonymous.subject is None


def test_sign_in_again_after_the_end_of_another(open_sessions, clock):
    """A session that was revoked or has expired makes room."""
    sessions = open_sessions(policy=SessionPolicy(limit=1, at_limit=AtLimit.REFUSE))
    sessions.revoke(signed_in(sessions))
    signed_in(sessions)
    clock.advance(31 * MINUTE)

    third = signed_in(sessions)

    assert [info.handle for info in sessions.list_for("ada")] == [third.handle]


def test_sign_in_again_under_refusal(open_sessions):
    """A sign-in on the subject's own session is not refused: it takes its own place."""
    sessions = open_sessions(policy=SessionPolicy(limit=1, at_limit=AtLimit.REFUSE))
    session = signed_in(sessions)

    sessions.bind(session, "ada")

    assert live(sessions, session) == [0]


def test_limit_is_each_subjects_own(open_sessions):
    """One subject's sessions do not count for another."""
    sessions = open_sessions(policy=SessionPolicy(limit=1))
    one, other = signed_in(sessions, "ada"), signed_in(sessions, "bob")

    assert live(sessions, one, other) == [0, 1]


def test_evicted_sessions_are_logged(open_sessions, logged):
    """The log of a sign-in names the handles that it ended."""
    sessions = open_sessions(policy=SessionPolicy(limit=1))
    first = signed_in(sessions)
    signed_in(sessions)

    assert [record.ended for record in logged("session_bound")] == [[], [first.handle.name]]


@pytest.mark.requirement("R17")
@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_limit_over_both_keys(open_sessions, key, limit, clock):
    """While sealing keys are rotated the limit holds over the sessions of both, the oldest ending first."""
    policy = SessionPolicy(limit=limit)
    old = open_sessions(policy=policy)
    before = []
    for _ in range(3):
        before.append(signed_in(old))
        clock.advance(MINUTE)
    new = open_sessions(policy=policy, keys=[coatcheck.new_key(), key])

    after = []
    for count in range(1, 4):
        after.append(signed_in(new))
        clock.advance(MINUTE)
        alive = live(new, *before, *after)
        assert alive == list(range(3 + count))[-limit:]
        assert len(new.list_for("ada")) == len(alive)


@pytest.mark.requirement("R17")
def test_refusal_over_both_keys(open_sessions, key):
    """A refusing limit counts the sessions under the former key too."""
    policy = SessionPolicy(limit=2, at_limit=AtLimit.REFUSE)
    signed_in(open_sessions(policy=policy))
    new = open_sessions(policy=policy, keys=[coatcheck.new_key(), key])
    signed_in(new)

    with pytest.raises(SessionLimitReached):
        signed_in(new)

    assert len(new.list_for("ada")) == 2


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_must_be_positive(limit):
    """A limit of nothing is refused when the policy is written."""
    with pytest.raises(ConfigurationError, match="limit must be at least 1, or None for no limit"):
        SessionPolicy(limit=limit)


def test_refused_sign_in_names_nobody(open_sessions):
    """After a refused sign-in the session says of nobody that they are signed in, and can be saved without a word."""
    policy = SessionPolicy(limit=1, at_limit=AtLimit.REFUSE, subject_attribute="user")
    sessions = open_sessions(policy=policy)
    signed_in(sessions)
    session = sessions.create({"cart": ["book"]})

    with pytest.raises(SessionLimitReached):
        sessions.bind(session, "ada")

    assert dict(session) == {"cart": ["book"]}
    session["refused"] = True
    sessions.save(session)
    assert dict(sessions.load(session.identifier)) == {"cart": ["book"], "refused": True}
