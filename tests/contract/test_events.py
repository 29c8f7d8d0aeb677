"""Lifecycle events: written with the thing itself, each once; read in groups, at least once."""

from collections import Counter
from datetime import timedelta

import pytest

from coatcheck import AtLimit, EventType, SessionLimitReached, SessionPolicy
from tests.contract.chaos import signed_in

NOW, MINUTE = timedelta(0), timedelta(minutes=1)


def told(sessions, group="test"):
    """List what was told since this was last asked, as type, handle and why."""
    events = []
    while batch := sessions.read_events(group, "one"):
        sessions.acknowledge_events(group, batch)
        events += batch
    return [(event.type.value, event.handle and str(event.handle), event.why) for event in events]


@pytest.mark.requirement("R60")
def test_life_of_a_session(sessions):
    """Creation, sign-in, rotation and end are told, each once, in the order in which they happened."""
    session = sessions.create({"a": 1})
    first = str(session.handle)
    sessions.bind(session, "ada")
    sessions.rotate(session)
    sessions.revoke(session, by="admin 7", why="laptop lost")

    events, bound = told(sessions), str(session.handle)
    assert [event for event in events if event[1] == first] == [("created", first, None)]
    assert [event for event in events if event[1] == bound] == [
        ("bound", bound, None),
        ("rotated", bound, None),
        ("revoked", bound, "laptop lost"),
    ]
    assert told(sessions) == []


@pytest.mark.requirement("R60")
def test_event_says_who_and_whose(sessions, clock):
    """An event says by whom, when, and whose session it was, without naming the subject."""
    session = signed_in(sessions, "ada@example.org")
    sessions.revoke(session, by="admin 7", why="laptop lost")

    bound, revoked = sessions.read_events("test", "one")
    assert (bound.type, bound.by, bound.why) == (EventType.BOUND, None, None)
    assert (revoked.type, revoked.by, revoked.why) == (EventType.REVOKED, "admin 7", "laptop lost")
    assert {bound.subject_digest} == {revoked.subject_digest} == sessions.subject_digests("ada@example.org")
    assert revoked.at.timestamp() * 1000 == pytest.approx(clock.now(), abs=5000)
    assert "ada@" not in repr((bound, revoked))


@pytest.mark.parametrize("text", ["two\nlines", "x" * 201, "\x00"])
def test_by_and_why_are_one_line(sessions, text):
    """What an event cannot carry is refused before anything is done."""
    session = signed_in(sessions)

    with pytest.raises(ValueError, match="by and why are one line of at most 200 characters"):
        sessions.revoke(session.handle, why=text)

    assert sessions.load(session.identifier) is not None


def test_sign_in_again_ends_the_former_session(sessions):
    """A sign-in of the same subject, or of another, says that the session before it ended."""
    session = signed_in(sessions)
    former = [str(session.handle)]
    sessions.bind(session, "ada")
    former.append(str(session.handle))
    sessions.bind(session, "bob")

    assert sorted(event for event in told(sessions) if event[0] == "revoked") == sorted(
        ("revoked", handle, "another sign-in") for handle in former
    )


@pytest.mark.requirement("R17")
def test_eviction_and_refusal(open_sessions):
    """Who is evicted is told; who is refused is told, and no session has that handle."""
    sessions = open_sessions(policy=SessionPolicy(limit=2))
    handles = [str(signed_in(sessions).handle) for _ in range(4)]
    refusing = open_sessions(policy=SessionPolicy(limit=2, at_limit=AtLimit.REFUSE))
    with pytest.raises(SessionLimitReached):
        signed_in(refusing)

    events = told(sessions)
    evicted = [handle for kind, handle, _ in events if kind == "evicted"]
    (refused,) = (handle for kind, handle, _ in events if kind == "refused")
    assert len(evicted) == 2
    assert set(evicted) < set(handles)
    assert sessions.find(refused) is None


@pytest.mark.requirement("R24")
@pytest.mark.parametrize(("step", "why"), [(31, "idle"), (20, "absolute")])
def test_expiry_is_told_by_the_sweep(sessions, clock, step, why):
    """A session that ended unused, or at its absolute deadline, is told to have by the next sweep."""
    session = signed_in(sessions)
    for _ in range(12 * 60 // 20 if why == "absolute" else 1):
        clock.advance(step * MINUTE)
        sessions.sweep()
        current = sessions.load(session.identifier)
        if current is not None:
            sessions.save(current)
    sessions.sweep()

    assert told(sessions) == [("bound", str(session.handle), None), ("expired", str(session.handle), why)]


@pytest.mark.requirement("R24")
def test_parallel_sweeps_and_ends_tell_each_end_once(sessions, clock, at_once):
    """Sweeps, evictions and revocations at once tell of the end of each session exactly once."""
    handles = {str(signed_in(sessions, f"user{number % 5}").handle) for number in range(60)}
    clock.advance(31 * MINUTE)
    fresh = [signed_in(sessions, f"user{number % 5}") for number in range(20)]
    handles |= {str(session.handle) for session in fresh}

    at_once(
        *((sessions, "sweep") for _ in range(3)),
        *((sessions, "revoke_all", f"user{number}") for number in (0, 1, 0, 1)),
        *((sessions, "revoke", session.handle) for session in fresh[:10]),
    )
    sessions.sweep()

    events = told(sessions)
    ended = Counter(handle for kind, handle, _ in events if kind in {"revoked", "expired"})
    assert Counter(handle for kind, handle, _ in events if kind == "bound") == Counter(handles)
    live = {str(info.handle) for number in range(5) for info in sessions.list_for(f"user{number}")}
    assert ended == Counter(handles - live)


@pytest.mark.requirement("R60")
def test_every_group_gets_every_event(sessions):
    """Two groups are given all events, each on its own; a group's consumers share them."""
    expected = {str(signed_in(sessions, f"user{number}").handle) for number in range(10)}

    first = {str(event.handle) for event in sessions.read_events("billing", "a")}
    rest = sessions.read_events("billing", "b")

    assert first == expected
    assert rest == []
    assert {str(event.handle) for event in sessions.read_events("audit", "a")} == expected


@pytest.mark.requirement("R60")
def test_unacknowledged_events_come_again(sessions):
    """What a consumer took and did not acknowledge before it died goes to another; what it acknowledged does not."""
    for number in range(6):
        signed_in(sessions, f"user{number}")
    taken = sessions.read_events("test", "dies")
    assert sessions.acknowledge_events("test", taken[:2]) == 2

    assert sessions.read_events("test", "heir") == []
    again = sessions.read_events("test", "heir", claim_after=NOW)

    assert {event.id for event in again} == {event.id for event in taken[2:]}
    assert sessions.acknowledge_events("test", again) == 4
    assert sessions.acknowledge_events("test", again) == 0
    assert sessions.read_events("test", "heir", claim_after=NOW) == []


def test_events_in_small_portions(sessions):
    """However few are taken at a time, the events of a session come in order, each once."""
    session = signed_in(sessions)
    for _ in range(5):
        sessions.rotate(session)
    sessions.revoke(session)

    found = []
    while batch := sessions.read_events("test", "one", at_most=2):
        assert len(batch) <= 2
        found += [event.type.value for event in batch]
        sessions.acknowledge_events("test", batch)

    assert found == ["bound", *["rotated"] * 5, "revoked"]


def test_trimmed_events_are_left_out(sessions, server):
    """Events that were trimmed away while a consumer had them are not handed out again."""
    signed_in(sessions)
    signed_in(sessions)
    taken = sessions.read_events("test", "dies")
    (stream,) = server.keys("}:e")
    server.client.xtrim(stream, maxlen=1, approximate=False)

    assert [event.id for event in sessions.read_events("test", "heir", claim_after=NOW)] == [taken[1].id]


@pytest.mark.requirement("R13")
def test_streams_and_groups_have_an_end(sessions, server, clock):
    """No stream lives for ever, and to read where nothing was told makes none; seven days on it is gone."""
    assert sessions.read_events("test", "one") == []
    assert server.keys() == []
    sessions.revoke(signed_in(sessions))
    sessions.read_events("test", "one")

    assert server.keys_without_ttl() == []
    clock.advance(timedelta(days=7))
    assert server.keys() == []
    assert sessions.read_events("test", "one") == []


def test_nothing_to_acknowledge(sessions, server):
    """To acknowledge no events asks nothing of the store."""
    with server.commands() as commands:
        assert sessions.acknowledge_events("test", []) == 0

    assert commands == []


@pytest.mark.requirement("R37")
@pytest.mark.parametrize(
    "entry",
    [{"t": "later"}, {"at": "soon"}, {"at": "9" * 30}, {"h": "nobody"}, {"by": b"\xff"}, {"x": "y"}],
    ids=["type", "time", "far future", "handle", "text", "further field"],
)
def test_event_of_another_version(sessions, server, logged, entry):
    """An event that is not understood is left out, and logged; it hides no other, and stays taken for a newer one."""
    session = sessions.create({"a": 1})
    (stream,) = server.keys("}:e")
    told = {"t": "rotated", "h": session.handle.name, "s": "", "at": "1", "by": "", "why": "", **entry}
    server.client.xadd(stream, told)
    sessions.rotate(session)

    found = [event.type.value for event in sessions.read_events("audit", "one")]

    assert found == ["created", *["rotated"] * (1 + ("x" in entry))]
    assert len(logged("session_event_not_understood")) == ("x" not in entry)
    assert server.client.xpending(stream, "audit")["pending"] == 3
