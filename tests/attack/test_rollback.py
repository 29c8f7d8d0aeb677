"""Whoever can write to the store, and has kept a copy, puts an older state back. This is how far that goes.

A record proves that it was written for its place by who has the key, not that it is the latest: the store is the only
memory there is. So everything that was true of a session at some moment can be made true again until its absolute
deadline, which stands in the record and counts whatever else is changed: that it lives, its data, its strength of
authentication, its former secret. Nothing can be made true that never was: no other subject, no later deadline, no
mixture of two states. To end sessions for good after somebody had write access, take the sealing key out of the ring.
"""

from datetime import timedelta

import pytest

import coatcheck
from coatcheck import RecordCorrupted

HOUR = timedelta(hours=1)


@pytest.mark.requirement("R35")
@pytest.mark.parametrize(
    "end",
    [
        lambda sessions, victim: sessions.revoke(victim.handle),
        lambda sessions, victim: sessions.revoke_all("ada"),
        lambda sessions, victim: sessions.unbind(victim.load()),
        lambda sessions, victim: sessions.bind(victim.load(), "ada"),
        lambda sessions, victim: sessions.bind(victim.load(), "bob"),
        lambda sessions, victim: [sessions.bind(sessions.new(), "ada") for _ in range(3)],
    ],
    ids=["revoked", "all revoked", "signed out", "signed in again", "somebody else signed in", "evicted"],
)
def test_a_session_that_was_ended(victim, snapshot, end):
    """A copy of a record that was ended opens again, to its former subject, until it is ended once more."""
    sessions, former = victim.sessions, snapshot()
    end(sessions, victim)
    assert victim.load() is None

    former.put_back(victim.record)

    assert victim.load().subject == "ada"
    assert sessions.revoke(victim.handle) is True
    assert victim.load() is None


@pytest.mark.requirement("R35")
def test_a_session_put_back_is_not_listed(victim, snapshot):
    """What the index has forgotten is neither shown nor ended with the subject's sessions, unless that is put back too.

    It is found by its handle, and everybody's end is its own.
    """
    sessions, former = victim.sessions, snapshot()
    sessions.revoke_all("ada")
    former.put_back(victim.record)

    assert sessions.list_for("ada") == []
    assert sessions.revoke_all("ada") == 0
    assert victim.load() is not None

    former.put_back(victim.index)
    assert [info.handle for info in sessions.list_for("ada")] == [victim.handle]

    sessions.revoke_everyone()
    assert victim.load() is None


@pytest.mark.requirement("R35")
def test_an_epoch_taken_away(victim, server):
    """Where the epoch is deleted, what it had ended and is still stored lives again; a sweep before leaves nothing."""
    victim.sessions.revoke_everyone()
    assert victim.load() is None

    server.client.delete(victim.epoch)

    assert victim.load().subject == "ada"


@pytest.mark.requirement("R35")
def test_a_secret_that_was_rotated_away(victim, snapshot, clock):
    """With the former record the former identifier opens again, and no replay is noticed; the new one opens nothing."""
    sessions, former = victim.sessions, snapshot()
    session = victim.load()
    sessions.rotate(session)
    clock.advance(timedelta(minutes=1))

    former.put_back(victim.record)

    assert victim.load() is not None
    assert sessions.load(session.identifier) is None
    assert "replayed" not in [event.type.value for event in sessions.read_events("audit", "one")]


@pytest.mark.requirement("R35")
def test_former_data(victim, snapshot):
    """Attributes, a cart and an assurance of before come back, each as a whole."""
    sessions = victim.sessions
    session = victim.load()
    session["roles"] = ["admin"]
    sessions.save(session)
    former, held = snapshot(), session.identifier
    session["roles"] = []
    session.compartment("cart")["items"] = []
    sessions.save(session)

    former.put_back(victim.record, victim.cart)

    assert sessions.load(held)["roles"] == ["admin"]
    assert sessions.load(held).compartment("cart")["items"] == ["hat"]
    assert sessions.load(session.identifier) is None


@pytest.mark.requirement("R35")
def test_nobody_becomes_somebody_else(victim, snapshot, server):
    """A former state counts under its own handle alone: not in the session that has followed it."""
    sessions, former = victim.sessions, snapshot()
    session = victim.load()
    sessions.bind(session, "bob")
    former.put_back(victim.record)
    (bobs,) = server.keys(f":s:{session.handle.name}")

    server.client.copy(victim.record, bobs, replace=True)

    with pytest.raises(RecordCorrupted):
        sessions.load(session.identifier)


@pytest.mark.requirement("R35", "R11")
def test_never_beyond_the_absolute_deadline(victim, snapshot, clock):
    """The idle timeout can be outwitted with a copy, the absolute deadline cannot."""
    former = snapshot()
    clock.advance(11 * HOUR)
    assert victim.load() is None

    former.put_back(victim.record)
    assert victim.load() is not None

    clock.moved += 61 * 60 * 1000
    assert victim.load() is None


@pytest.mark.requirement("R35")
def test_a_request_under_way(victim, snapshot):
    """A request that knows a later state than the one put back writes its changes to that one, and loses nothing."""
    former = snapshot()
    session = victim.load()
    session["later"] = 1
    victim.sessions.save(session)
    former.put_back(victim.record)

    session["a"] = 2
    victim.sessions.save(session)

    assert dict(victim.load()) == {"a": 2, "device": "laptop"}


@pytest.mark.requirement("R35", "R36")
def test_a_key_taken_out_of_the_ring(victim, snapshot, open_sessions):
    """What was sealed with a key that is no longer in the ring is out of everybody's reach, copies too."""
    former = snapshot()
    victim.sessions.revoke(victim.handle)
    former.put_back(victim.record)

    assert open_sessions(keys=coatcheck.new_key()).load(victim.identifier) is None


@pytest.mark.requirement("R35")
def test_activity(victim, server):
    """Entries of an activity can be taken away, repeated and given another time; none can be made or changed."""
    sessions = victim.sessions
    ((_, fields),) = server.client.xrange(victim.activity)
    server.client.delete(victim.activity)
    for at in ("1-0", "2-0"):
        server.client.xadd(victim.activity, fields, id=at)
    server.client.xadd(victim.activity, {b"d": fields[b"d"][:-1] + b"\0"}, id="3-0")

    found = sessions.activity(victim.handle, newest_first=False)

    assert [(entry.name, entry.at.timestamp()) for entry in found] == [("view", 0.001), ("view", 0.002)]
