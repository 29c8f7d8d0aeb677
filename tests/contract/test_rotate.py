"""Rotation: a new secret, the same handle, a short grace, one successor."""

from datetime import timedelta

import pytest

from coatcheck import SessionPolicy, SessionRevoked, Status
from coatcheck.model.ticket import Ticket


@pytest.fixture
def stored(sessions):
    """Give a stored session."""
    return sessions.create({"a": 1})


@pytest.mark.requirement("R29")
def test_rotation_gives_a_new_identifier(sessions, stored):
    """The identifier changes; handle, attributes and deadlines stay."""
    mine = sessions.load(stored.identifier)

    sessions.rotate(mine)

    assert mine.identifier != stored.identifier
    assert mine.status is Status.ROTATED
    loaded = sessions.load(mine.identifier)
    assert (loaded.handle, loaded.absolute_deadline, dict(loaded)) == (
        stored.handle,
        stored.absolute_deadline,
        {"a": 1},
    )


@pytest.mark.requirement("R29")
def test_former_secret_within_the_grace(sessions, stored, clock):
    """The former identifier opens the same session during the grace."""
    sessions.rotate(sessions.load(stored.identifier))
    clock.advance(timedelta(seconds=5))

    former = sessions.load(stored.identifier)

    assert former.handle == stored.handle
    assert former.is_superseded


@pytest.mark.requirement("R29")
def test_former_secret_after_the_grace(sessions, stored, clock, logged):
    """After the grace the former identifier opens nothing: its use is logged, and ends the session."""
    mine = sessions.load(stored.identifier)
    sessions.rotate(mine)
    clock.advance(timedelta(seconds=11))

    assert sessions.load(stored.identifier) is None
    assert sessions.load(mine.identifier) is None
    assert [record.handle for record in logged("session_secret_replayed")] == [str(stored.handle)]


def test_rotation_without_grace(open_sessions):
    """With a grace of zero the use of the former identifier ends the session at once."""
    sessions = open_sessions(policy=SessionPolicy(rotation_grace=timedelta(0)))
    stored = sessions.create({"a": 1})
    mine = sessions.load(stored.identifier)
    sessions.rotate(mine)

    assert sessions.load(mine.identifier) is not None
    assert sessions.load(stored.identifier) is None
    assert sessions.load(mine.identifier) is None


@pytest.mark.requirement("R29")
@pytest.mark.requirement("R30")
def test_every_former_secret_has_its_own_grace(open_sessions, clock):
    """Two rotations within one grace raise no false alarm; each former secret is honoured for its own grace."""
    sessions = open_sessions(policy=SessionPolicy(rotation_grace=timedelta(minutes=1)))
    mine = sessions.create({"a": 1})
    identifiers = [mine.identifier]
    for _ in range(2):
        sessions.rotate(mine)
        identifiers.append(mine.identifier)
        clock.advance(timedelta(seconds=20))

    assert all(sessions.load(identifier) is not None for identifier in identifiers)

    clock.advance(timedelta(seconds=21))
    assert sessions.load(identifiers[1]).is_superseded
    assert sessions.load(identifiers[0]) is None
    assert sessions.load(mine.identifier) is None


@pytest.mark.requirement("R30")
@pytest.mark.parametrize("rotations", [1, 2, 16])
def test_replay(sessions, stored, clock, rotations):
    """A secret that was replaced, lately or long ago, ends the session when it is used, and an event says so, once."""
    mine = sessions.load(stored.identifier)
    for _ in range(rotations):
        sessions.rotate(mine)
        clock.advance(timedelta(seconds=11))

    assert sessions.load(mine.identifier) is not None
    assert [sessions.load(stored.identifier) for _ in range(2)] == [None, None]

    assert sessions.load(mine.identifier) is None
    told = [event.type.value for event in sessions.read_events("test", "one") if event.handle == stored.handle]
    assert told == ["created", *["rotated"] * rotations, "replayed"]


@pytest.mark.requirement("R30")
def test_secret_that_never_was(sessions, stored, clock):
    """A secret that was never the session's, guessed or made up, ends nothing."""
    mine = sessions.load(stored.identifier)
    sessions.rotate(mine)
    clock.advance(timedelta(seconds=11))

    assert sessions.load(Ticket.new(stored.handle)) is None

    assert sessions.load(mine.identifier) is not None


@pytest.mark.requirement("R28")
def test_change_of_a_rotating_attribute(open_sessions):
    """A change of what the policy names gives a new identifier; other changes, and the same value again, do not."""
    sessions = open_sessions(policy=SessionPolicy(rotating=("roles",)))
    stored = sessions.create({"roles": ["user"]})
    mine = sessions.load(stored.identifier)
    mine["other"] = 1
    mine["roles"] = ["user"]
    sessions.save(mine)
    assert mine.identifier == stored.identifier

    mine["roles"].append("admin")
    sessions.save(mine)

    assert mine.identifier != stored.identifier
    assert sessions.load(mine.identifier)["roles"] == ["user", "admin"]
    assert sessions.load(stored.identifier).is_superseded


@pytest.mark.requirement("R29")
def test_former_secret_cannot_rotate(sessions, stored):
    """A request that came with the former secret saves what it did, but makes no further identifier."""
    mine = sessions.load(stored.identifier)
    sessions.rotate(mine)
    former = sessions.load(stored.identifier)
    former["b"] = 2

    sessions.rotate(former)

    assert former.identifier == stored.identifier
    assert former.is_superseded
    assert dict(sessions.load(mine.identifier)) == {"a": 1, "b": 2}


@pytest.mark.requirement("R29")
def test_20_rotations_at_once(sessions, stored, at_once):
    """Of 20 rotations at the same time one wins; the others give out no identifier, and all their writes count."""
    copies = [sessions.load(stored.identifier) for _ in range(20)]
    for number, copy in enumerate(copies):
        copy[f"key{number}"] = number

    at_once(*((sessions, "rotate", copy) for copy in copies))

    successors = {copy.identifier for copy in copies} - {stored.identifier}
    assert len(successors) == 1
    assert sum(not copy.is_superseded for copy in copies) == 1
    (successor,) = successors
    loaded = sessions.load(successor)
    assert [loaded[f"key{number}"] for number in range(20)] == list(range(20))
    assert sessions.load(stored.identifier).is_superseded


@pytest.mark.requirement("R29")
def test_20_requests_that_load_and_rotate(sessions, stored, at_once):
    """Rotations without a change beside them leave one successor too."""
    copies = [sessions.load(stored.identifier) for _ in range(20)]

    at_once(*((sessions, "rotate", copy) for copy in copies))

    assert len({copy.identifier for copy in copies} - {stored.identifier}) == 1
    assert sum(copy.cookie_due and not copy.is_superseded for copy in copies) == 1


def test_rotation_asked_of_the_session(sessions, stored):
    """A rotation asked for is carried out by the save, with the changes."""
    mine = sessions.load(stored.identifier)
    mine.rotate()
    mine["b"] = 2

    sessions.save(mine)

    assert mine.identifier != stored.identifier
    assert dict(sessions.load(mine.identifier)) == {"a": 1, "b": 2}


def test_rotation_of_an_ended_session(sessions, stored, server):
    """Rotating a session that has ended raises and revives nothing."""
    mine = sessions.load(stored.identifier)
    sessions.revoke(stored.handle)

    with pytest.raises(SessionRevoked):
        sessions.rotate(mine)

    assert server.left() == []


def test_rotation_of_a_new_session(sessions):
    """A new session is stored by its rotation: its first identifier is new anyway."""
    session = sessions.new()
    session["a"] = 1

    sessions.rotate(session)

    assert dict(sessions.load(session.identifier)) == {"a": 1}


def test_rotation_of_a_found_session(sessions, stored):
    """An administrator's rotation gives nobody an identifier that is not the owner's."""
    found = sessions.find(stored.handle)

    sessions.rotate(found)

    assert found.identifier is None
    assert sessions.load(stored.identifier) is not None


def test_grace_goes_on_through_saves(sessions, stored, clock):
    """A save by the new secret's holder leaves the grace of the former one as it is."""
    mine = sessions.load(stored.identifier)
    sessions.rotate(mine)
    mine["b"] = 2
    sessions.save(mine)

    assert sessions.load(stored.identifier) is not None

    clock.advance(timedelta(seconds=11))
    mine["b"] = 3
    sessions.save(mine)

    assert sessions.load(mine.identifier)["b"] == 3
    assert sessions.load(stored.identifier) is None
