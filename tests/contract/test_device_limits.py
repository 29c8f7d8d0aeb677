"""How many sessions a subject may have on a class of devices, beside the limit of all, exactly."""

from datetime import timedelta

import pytest

import coatcheck
from coatcheck import AtLimit, SessionLimitReached, SessionPolicy
from tests.contract.chaos import live

MINUTE = timedelta(minutes=1)
DEVICES = {"phone": 2, "desktop": 3}
EVICTING = [AtLimit.EVICT_OLDEST, AtLimit.EVICT_IDLEST]


def signed_in(sessions, device=None, subject="ada"):
    """Sign *subject* in on a device."""
    session = sessions.new()
    session.device = device
    sessions.bind(session, subject)
    return session


def counted(sessions, subject="ada"):
    """Count the live sessions of each class."""
    classes = [info.device for info in sessions.list_for(subject)]
    return {device: classes.count(device) for device in set(classes)}


@pytest.mark.requirement("R17")
@pytest.mark.parametrize("at_limit", AtLimit)
@pytest.mark.parametrize(
    ("limit", "devices", "expected"),
    [
        (None, ["phone", "desktop"], {"phone": 2, "desktop": 3}),
        (10, ["phone", "desktop"], {"phone": 2, "desktop": 3}),
        (3, ["phone"], {"phone": 2}),
    ],
)
def test_50_sign_ins_at_once(open_sessions, at_once, at_limit, limit, devices, expected):
    """Of 50 sign-ins at the same time exactly as many live as each class may have."""
    sessions = open_sessions(policy=SessionPolicy(limit=limit, device_limits=DEVICES, at_limit=at_limit))
    sessions.create({"warm": 1})
    candidates = [sessions.new() for _ in range(50)]
    for number, session in enumerate(candidates):
        session.device = devices[number % len(devices)]

    outcomes = at_once(*((sessions, "bind", session, "ada") for session in candidates))

    assert counted(sessions) == expected
    refused = [outcome for outcome in outcomes if isinstance(outcome, SessionLimitReached)]
    assert len(refused) == (50 - sum(expected.values()) if at_limit is AtLimit.REFUSE else 0)
    assert [outcome for outcome in outcomes if outcome is not None and outcome not in refused] == []


@pytest.mark.requirement("R17")
@pytest.mark.parametrize("at_limit", AtLimit)
def test_50_sign_ins_at_once_under_both_limits(open_sessions, at_once, at_limit):
    """Where the classes together may have more than the subject, both limits hold, and nothing less is left."""
    sessions = open_sessions(policy=SessionPolicy(limit=4, device_limits=DEVICES, at_limit=at_limit))
    sessions.create({"warm": 1})
    candidates = [sessions.new() for _ in range(51)]
    for number, session in enumerate(candidates):
        session.device = ["phone", "desktop", "watch"][number % 3]

    at_once(*((sessions, "bind", session, "ada") for session in candidates))

    found = counted(sessions)
    assert sum(found.values()) == 4
    assert found.get("phone", 0) <= 2
    assert found.get("desktop", 0) <= 3


@pytest.mark.requirement("R17")
@pytest.mark.parametrize("at_limit", AtLimit)
def test_50_sign_ins_at_once_while_keys_are_rotated(open_sessions, at_once, at_limit, key):
    """The same while a subject has sessions under a former sealing key too."""
    policy = SessionPolicy(limit=4, device_limits=DEVICES, at_limit=at_limit)
    old = open_sessions(policy=policy)
    for device in ("phone", "desktop", "desktop"):
        signed_in(old, device)
    new = open_sessions(policy=policy, keys=[coatcheck.new_key(), key])
    new.create({"warm": 1})
    candidates = [new.new() for _ in range(50)]
    for session in candidates:
        session.device = "phone"

    at_once(*((new, "bind", session, "ada") for session in candidates))

    found = counted(new)
    assert found["phone"] == 2
    assert sum(found.values()) == 4


@pytest.mark.requirement("R17")
@pytest.mark.parametrize("at_limit", EVICTING)
def test_eviction_over_both_keys(open_sessions, key, at_limit, clock):
    """While sealing keys are rotated a sign-in ends the oldest of its class under the former key, and no other."""
    policy = SessionPolicy(device_limits=DEVICES, at_limit=at_limit)
    old = open_sessions(policy=policy)
    before = []
    for device in ("desktop", "phone", None, "phone"):
        before.append(signed_in(old, device))
        clock.advance(MINUTE)
    new = open_sessions(policy=policy, keys=[coatcheck.new_key(), key])

    after = [signed_in(new, "phone")]
    assert live(new, *before, *after) == [0, 2, 3, 4]
    clock.advance(MINUTE)
    after.append(signed_in(new, "phone"))
    assert live(new, *before, *after) == [0, 2, 4, 5]
    clock.advance(MINUTE)
    after.append(signed_in(new, "phone"))
    assert live(new, *before, *after) == [0, 2, 5, 6]


@pytest.mark.requirement("R17")
def test_refusal_over_both_keys(open_sessions, key):
    """A refusing limit of a class counts the sessions under the former key too."""
    policy = SessionPolicy(device_limits=DEVICES, at_limit=AtLimit.REFUSE)
    signed_in(open_sessions(policy=policy), "phone")
    new = open_sessions(policy=policy, keys=[coatcheck.new_key(), key])
    signed_in(new, "phone")

    with pytest.raises(SessionLimitReached):
        signed_in(new, "phone")

    signed_in(new, "desktop")
    assert counted(new) == {"phone": 2, "desktop": 1}


@pytest.mark.requirement("R17")
def test_oldest_of_the_class_is_evicted(open_sessions, clock):
    """The session of the class that was created first ends, though others of the subject are older."""
    sessions = open_sessions(policy=SessionPolicy(device_limits=DEVICES))
    found = []
    for device in ("desktop", "phone", "phone", "phone"):
        found.append(signed_in(sessions, device))
        clock.advance(MINUTE)

    assert live(sessions, *found) == [0, 2, 3]


@pytest.mark.requirement("R17")
def test_idlest_of_the_class_is_evicted(open_sessions, clock):
    """The session of the class that was used least lately ends."""
    policy = SessionPolicy(device_limits=DEVICES, at_limit=AtLimit.EVICT_IDLEST)
    sessions = open_sessions(policy=policy)
    desktop, first, second = (signed_in(sessions, device) for device in ("desktop", "phone", "phone"))
    clock.advance(10 * MINUTE)
    sessions.save(sessions.load(first.identifier))

    third = signed_in(sessions, "phone")

    assert live(sessions, desktop, first, second, third) == [0, 1, 3]


@pytest.mark.requirement("R17")
def test_undeclared_class(open_sessions):
    """A class that the policy does not name, or none, counts for the overall limit only."""
    sessions = open_sessions(policy=SessionPolicy(limit=4, device_limits={"phone": 1}, at_limit=AtLimit.REFUSE))
    for device in ("watch", "watch", None):
        signed_in(sessions, device)
    signed_in(sessions, "phone")

    with pytest.raises(SessionLimitReached, match="the policy allows 4 sessions at once, and no more"):
        signed_in(sessions, "watch")

    assert counted(sessions) == {"watch": 2, None: 1, "phone": 1}


@pytest.mark.requirement("R17")
def test_the_error_says_which_limit(open_sessions):
    """A sign-in that a class refuses says so; the session names nobody afterwards, and nothing was written."""
    sessions = open_sessions(policy=SessionPolicy(limit=9, device_limits=DEVICES, at_limit=AtLimit.REFUSE))
    for _ in range(2):
        signed_in(sessions, "phone")
    session = sessions.create({"a": 1})
    session.device = "phone"

    with pytest.raises(SessionLimitReached) as caught:
        sessions.bind(session, "ada")

    expected = "the policy allows 2 sessions at once on devices of the class 'phone', and no more"
    assert str(caught.value) == expected
    assert session.subject is None
    assert counted(sessions) == {"phone": 2}
    told = [(event.type.value, event.subject_digest in sessions.subject_digests("ada")) for event in events(sessions)]
    assert told.count(("refused", True)) == 1


def events(sessions):
    """Read all events."""
    return sessions.read_events("test", "one")


@pytest.mark.requirement("R17")
def test_sign_in_by_attribute(open_sessions):
    """The class counts in a sign-in that a save makes of the policy's subject_attribute, as it does in bind."""
    sessions = open_sessions(policy=SessionPolicy(subject_attribute="user", device_limits={"phone": 1}))
    found = []
    for _ in range(2):
        session = sessions.new()
        session["user"], session.device = "ada", "phone"
        sessions.save(session)
        found.append(session)

    assert live(sessions, *found) == [1]
    assert sessions.load(found[1].identifier).device == "phone"


@pytest.mark.requirement("R17")
def test_class_set_in_an_earlier_request(open_sessions):
    """The class that an anonymous session was given, when it was stored or later, counts when it signs in."""
    sessions = open_sessions(policy=SessionPolicy(device_limits={"phone": 1}))
    first = signed_in(sessions, "phone")
    session = sessions.create({"a": 1})
    again = sessions.load(session.identifier)
    again.device = "phone"
    sessions.save(again)

    third = sessions.load(session.identifier)
    assert third.device == "phone"
    sessions.bind(third, "ada")

    assert live(sessions, first, third) == [1]


def test_class_merges(open_sessions):
    """Two requests of an anonymous session, one of which sets the class, both win; a later save keeps it."""
    sessions = open_sessions()
    session = sessions.create({"a": 1})
    mine, theirs = (sessions.load(session.identifier) for _ in range(2))
    theirs.device = "phone"
    sessions.save(theirs)
    mine["b"] = 2
    sessions.save(mine)
    mine["c"] = 3
    sessions.save(mine)

    loaded = sessions.load(session.identifier)
    assert (dict(loaded), loaded.device, mine.device) == ({"a": 1, "b": 2, "c": 3}, "phone", "phone")


def test_class_alone_stores_nothing(open_sessions, server):
    """A new session that has got nothing but a class is not stored."""
    sessions = open_sessions()
    session = sessions.new()
    session.device = "phone"

    sessions.save(session)

    assert server.keys() == []
    assert session.is_new


@pytest.mark.requirement("R17")
def test_step_up_keeps_the_class(open_sessions):
    """Who authenticates again, rotates or writes keeps the class, and takes no second place in it."""
    sessions = open_sessions(policy=SessionPolicy(device_limits={"phone": 2}, at_limit=AtLimit.REFUSE))
    other, session = signed_in(sessions, "phone"), signed_in(sessions, "phone")
    loaded = sessions.load(session.identifier)
    loaded["a"] = 1
    sessions.save(loaded)
    sessions.rotate(loaded)
    again = sessions.load(loaded.identifier)
    sessions.bind(again, "ada", assurance=2)

    assert sessions.load(again.identifier).device == "phone"
    assert live(sessions, other, again) == [0, 1]
    assert counted(sessions) == {"phone": 2}


@pytest.mark.requirement("R17")
def test_class_of_a_signed_in_session(open_sessions):
    """A save does not move a signed-in session to another class, which might be full; the next sign-in does."""
    sessions = open_sessions(policy=SessionPolicy(device_limits={"phone": 1}, at_limit=AtLimit.REFUSE))
    phone, session = signed_in(sessions, "phone"), signed_in(sessions, "desktop")
    session.device = "phone"
    session["a"] = 1
    sessions.save(session)

    assert counted(sessions) == {"phone": 1, "desktop": 1}
    with pytest.raises(SessionLimitReached):
        sessions.bind(session, "ada")
    sessions.revoke(phone)
    sessions.bind(session, "ada")
    assert counted(sessions) == {"phone": 1}


@pytest.mark.requirement("R17")
def test_class_stays_when_somebody_else_signs_in(open_sessions):
    """The class is the browser's: it stays when its user signs out, and counts for whoever signs in next."""
    sessions = open_sessions(policy=SessionPolicy(device_limits={"phone": 1}))
    before = signed_in(sessions, "phone", "bob")
    session = signed_in(sessions, "phone")
    session["flash"] = "bye"
    sessions.unbind(session)
    assert sessions.load(session.identifier).device == "phone"
    sessions.bind(session, "cleo")
    sessions.bind(session, "bob")

    assert live(sessions, before, session) == [1]
    assert counted(sessions, "bob") == {"phone": 1}


@pytest.mark.requirement("R17")
def test_resealing_keeps_the_class(open_sessions, key):
    """A record that is sealed anew with another key still counts in its class."""
    policy = SessionPolicy(device_limits={"phone": 1})
    first = signed_in(open_sessions(policy=policy), "phone")
    new = open_sessions(policy=policy, keys=[coatcheck.new_key(), key])
    assert new.reseal().resealed == 1
    assert new.load(first.identifier).device == "phone"

    second = signed_in(new, "phone")

    assert live(new, first, second) == [1]


def test_the_store_does_not_learn_the_class(open_sessions, server):
    """The name of a class is sealed: what is stored shows only that two sessions are of the same one."""
    signed_in(open_sessions(), "kitchen-tablet")

    assert not any(b"kitchen" in value for value in server.contents().values())
