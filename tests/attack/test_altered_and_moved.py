"""Whoever can write to the store flips bits, and moves what is stored to other places: none of it opens.

What is checked is all that is kept sealed: the record, the compartments, the entries of the activity.
"""

from itertools import count

import pytest

from coatcheck import Keyring, RecordCorrupted
from tests.attack.conftest import POLICY, Victim
from tests.damage import flipped


@pytest.mark.requirement("R35", "R36")
def test_every_bit_of_a_record(victim, server):
    """With any bit flipped a record opens nothing, and is left as it is; the identifier stays good for the true one.

    It is refused with RecordCorrupted; where the bit was one of the key's id, it counts as none, and is logged.
    """
    whole = server.client.get(victim.record)
    for changed in flipped(whole):
        server.client.set(victim.record, changed, keepttl=True)
        if changed[2:4] != whole[2:4]:
            assert victim.load() is None
        else:
            with pytest.raises(RecordCorrupted):
                victim.load()
        assert server.client.get(victim.record) == changed
    server.client.set(victim.record, whole, keepttl=True)

    assert victim.load()["a"] == 1


@pytest.mark.requirement("R35")
def test_every_bit_of_a_compartment(victim, server):
    """With any bit flipped a compartment is refused, and what else the session holds is not."""
    for changed in flipped(server.client.get(victim.cart)):
        server.client.set(victim.cart, changed, keepttl=True)
        session = victim.load()
        assert session["a"] == 1
        with pytest.raises(RecordCorrupted):
            session.compartment("cart")


@pytest.mark.requirement("R35")
def test_every_bit_of_an_entry(victim, server):
    """With any bit flipped an entry of the activity is left out, and hides no other."""
    ((_, fields),) = server.client.xrange(victim.activity)
    for changed in flipped(fields[b"d"]):
        server.client.xadd(victim.activity, {b"d": changed})

    found = victim.sessions.activity(victim.handle, limit=100_000)

    assert [entry.name for entry in found] == ["view"]


@pytest.mark.requirement("R35", "R52")
@pytest.mark.parametrize(("subject", "prefix"), [("ada", "cc"), ("bob", "cc"), ("ada", "other")])
@pytest.mark.parametrize("source", ["record", "cart"])
@pytest.mark.parametrize("target", ["record", "cart"])
def test_moved(victim, open_sessions, server, source, target, subject, prefix):
    """What was sealed for one session opens in no other: the same subject's, somebody else's, another prefix's."""
    other = Victim(open_sessions(policy=POLICY, prefix=prefix), server, subject)

    server.client.copy(getattr(victim, source), getattr(other, target), replace=True)

    with pytest.raises(RecordCorrupted):
        other.load().compartment("cart")


@pytest.mark.requirement("R35")
@pytest.mark.parametrize(("source", "target"), [("record", "cart"), ("cart", "record")])
def test_moved_within_a_session(victim, server, source, target):
    """A session's record does not open as its compartment, nor the other way round."""
    server.client.copy(getattr(victim, source), getattr(victim, target), replace=True)

    with pytest.raises(RecordCorrupted):
        victim.load().compartment("cart")


@pytest.mark.requirement("R35", "R52")
def test_moved_to_the_same_handle_of_another_prefix(victim, open_sessions, server):
    """All that one application holds for a session, copied as it is to another's prefix, opens nothing there."""
    other = open_sessions(policy=POLICY, prefix="other")
    for name in server.keys("cc:"):
        server.client.copy(name, name.replace("cc:", "other:", 1))

    with pytest.raises(RecordCorrupted, match="belongs to another key, prefix or request"):
        other.load(victim.identifier)
    assert other.list_for("ada") == []
    assert other.activity(victim.handle) == []


@pytest.mark.requirement("R35")
def test_compartment_under_another_name(open_sessions, server):
    """A compartment that was moved to another name of the same session does not open; the session still does."""
    policy = type(POLICY)(compartments={"cart": POLICY.idle_timeout, "wizard": POLICY.idle_timeout})
    victim = Victim(open_sessions(policy=policy), server)
    server.client.copy(victim.cart, victim.cart.replace(":cart", ":wizard"))
    session = victim.load()

    assert session["a"] == 1
    with pytest.raises(RecordCorrupted):
        session.compartment("wizard")


@pytest.mark.requirement("R35")
def test_entry_of_another_session(victim, server):
    """An entry copied into another session's activity is left out there, and hides no other."""
    other = Victim(victim.sessions, server)
    ((_, fields),) = server.client.xrange(victim.activity)
    server.client.xadd(other.activity, fields)

    assert len(victim.sessions.activity(other.handle)) == 1


@pytest.mark.requirement("R35", "R23")
def test_handle_in_another_subjects_index(victim, server, key):
    """A session that was put into the index of somebody else is not shown to that one."""
    stem, _, name = victim.record.partition(":s:")
    somebody = ((f"bob{number}", *Keyring.parse(key).places("cc", f"bob{number}")) for number in count())
    bob, place = next(each for each in somebody if each[1].partition == victim.handle.partition)
    server.client.zadd(f"{stem}:u:{place.digest}", {name: 9e12})

    assert victim.sessions.list_for(bob) == []
