"""After a change of a factor: this session goes on under a new secret, all others of its subject end."""

from datetime import timedelta

import pytest

import coatcheck
from coatcheck import EventType, SessionRevoked, StoreUnavailable
from coatcheck.engine.store import Store

MINUTE = timedelta(minutes=1)


def signed_in(sessions, subject="ada", **timeouts):
    """Sign *subject* in."""
    session = sessions.create({"a": 1})
    if timeouts:
        session.set_timeouts(**timeouts)
    sessions.bind(session, subject)
    return session


@pytest.mark.requirement("R22")
def test_all_others_end(sessions):
    """The other sessions of the subject end, remembered ones too; this one and other people's go on."""
    remembered = signed_in(sessions, idle=timedelta(days=14), absolute=timedelta(days=90))
    other, mine, bobs = signed_in(sessions), signed_in(sessions), signed_in(sessions, "bob")
    former = mine.identifier
    mine["note"] = "changed"

    assert sessions.revoke_others(mine, by="ada", why="password changed") == 2

    assert [sessions.load(session.identifier) for session in (remembered, other)] == [None, None]
    assert dict(sessions.load(mine.identifier)) == {"a": 1, "note": "changed"}
    assert sessions.load(bobs.identifier) is not None
    assert mine.identifier != former
    assert [info.handle for info in sessions.list_for("ada")] == [mine.handle]


@pytest.mark.requirement("R22")
def test_former_identifiers_are_worth_nothing(sessions):
    """No former identifier of the session is honoured for a grace, and to use one does not end the session."""
    session = signed_in(sessions)
    oldest = session.identifier
    sessions.rotate(session)
    former = session.identifier

    sessions.revoke_others(session)

    assert [sessions.load(identifier) for identifier in (oldest, former)] == [None, None]
    assert sessions.load(session.identifier) is not None
    events = [event.type for event in sessions.read_events("test", "one") if event.handle == session.handle]
    assert events == [EventType.BOUND, EventType.ROTATED, EventType.ROTATED]


@pytest.mark.requirement("R22")
def test_events_of_the_others(sessions):
    """The events of the others say by whom and why."""
    other, mine = signed_in(sessions), signed_in(sessions)
    sessions.revoke_others(mine, by="ada", why="new passkey")

    told = [event for event in sessions.read_events("test", "one") if event.type is EventType.REVOKED]
    assert [(event.handle, event.by, event.why) for event in told] == [(other.handle, "ada", "new passkey")]


@pytest.mark.requirement("R22")
def test_a_thief_who_rotated_first(sessions):
    """Where somebody else has rotated the session meanwhile, the secret of who calls stands, and theirs is dead."""
    session = signed_in(sessions)
    mine, thief = (sessions.load(session.identifier) for _ in range(2))
    sessions.rotate(thief)

    sessions.revoke_others(mine)

    assert sessions.load(thief.identifier) is None
    assert sessions.load(mine.identifier) is not None
    assert not mine.is_superseded


@pytest.mark.requirement("R22")
def test_with_a_former_secret_within_its_grace(sessions):
    """Who calls with a secret that was rotated away a moment ago gets the new one, and is the only one to have it."""
    session = signed_in(sessions)
    mine = sessions.load(session.identifier)
    sessions.rotate(session)
    mine = sessions.load(mine.identifier)
    assert mine.is_superseded

    sessions.revoke_others(mine)

    assert sessions.load(session.identifier) is None
    assert sessions.load(mine.identifier).handle == session.handle


@pytest.mark.requirement("R22")
def test_two_at_once(sessions, at_once):
    """Of two calls at the same time for one session one new secret is left, and both report no other's end twice."""
    for _ in range(3):
        signed_in(sessions)
    session = signed_in(sessions)
    copies = [sessions.load(session.identifier) for _ in range(2)]

    ended = at_once(*((sessions, "revoke_others", copy) for copy in copies))

    assert sum(ended) == 3
    assert [sessions.load(copy.identifier) is not None for copy in copies].count(True) == 1
    assert sessions.load(session.identifier) is None


@pytest.mark.requirement("R22")
def test_writes_of_others_are_kept(sessions):
    """What a parallel request wrote meanwhile is merged, increments are counted once."""
    session = signed_in(sessions)
    mine, theirs = (sessions.load(session.identifier) for _ in range(2))
    theirs.increment("n")
    sessions.save(theirs)
    mine.increment("n")

    sessions.revoke_others(mine)

    assert dict(sessions.load(mine.identifier)) == {"a": 1, "n": 2}


@pytest.mark.requirement("R22")
def test_lost_between_the_steps(sessions, monkeypatch):
    """Should the store be lost in between, the others have ended and this browser is signed in; again completes it."""
    other, mine = signed_in(sessions), signed_in(sessions)
    former, replace = mine.identifier, Store.replace

    async def lost(*_, **__):
        raise StoreUnavailable("lost")

    monkeypatch.setattr(Store, "replace", lost)
    with pytest.raises(StoreUnavailable):
        sessions.revoke_others(mine)
    assert sessions.load(other.identifier) is None
    assert sessions.load(former) is not None

    monkeypatch.setattr(Store, "replace", replace)
    assert sessions.revoke_others(mine) == 0
    assert sessions.load(former) is None
    assert sessions.load(mine.identifier) is not None


@pytest.mark.requirement("R22")
def test_over_both_keys(open_sessions, key):
    """While sealing keys are rotated, the sessions under the former key count too: they end, or one of them stays."""
    old = open_sessions()
    first, second = signed_in(old), signed_in(old)
    new = open_sessions(keys=[coatcheck.new_key(), key])
    third, mine = signed_in(new), new.load(first.identifier)

    assert new.revoke_others(mine) == 2

    assert [new.load(session.identifier) for session in (first, second, third)] == [None, None, None]
    assert new.load(mine.identifier).subject == "ada"


@pytest.mark.requirement("R22")
def test_of_a_session_that_has_ended(sessions):
    """Where this session has ended meanwhile the call says so, and the others have ended."""
    other, mine = signed_in(sessions), signed_in(sessions)
    sessions.revoke(mine.handle)

    with pytest.raises(SessionRevoked):
        sessions.revoke_others(mine)

    assert sessions.load(other.identifier) is None


SIGNED_IN = "revoke_others is for a session that is signed in and stored: bind or save it first"


@pytest.mark.parametrize("make", ["new", "anonymous", "ended"])
def test_of_nobody(sessions, make):
    """A session that is nobody's, not stored or ended has no others: a ValueError says what to do."""
    session = sessions.new() if make == "new" else sessions.create({"a": 1})
    if make == "ended":
        sessions.bind(session, "ada")
        sessions.revoke(session)

    with pytest.raises(ValueError, match=SIGNED_IN):
        sessions.revoke_others(session)


def test_of_a_session_found_by_its_handle(sessions):
    """Nobody would get the new secret of a session that was found by its handle: it is refused, and nothing ends."""
    other, session = signed_in(sessions), signed_in(sessions)

    with pytest.raises(ValueError, match=r"found by its handle: use revoke_all\(subject, keep=handle\)"):
        sessions.revoke_others(sessions.find(session.handle))

    assert sessions.load(other.identifier) is not None
    assert sessions.load(session.identifier) is not None
