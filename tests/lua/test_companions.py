"""The scripts of compartments and activity: nothing without the session's record, and twice is once."""

import pytest

from coatcheck.engine import scripts

NAME = "handle0000000001"


@pytest.fixture
def held(bench):
    """Give the keys that a compartment and the activity of a session need; the session's record is there."""
    bench.client.set(bench.key(NAME), bench.record(NAME), px=60_000)
    base = bench.stem.removesuffix("s:")
    epoch = base + "g"

    class Held:
        record, cart, activity = bench.key(NAME), f"{base}c:{NAME}:cart", f"{base}a:{NAME}"

        @staticmethod
        def put(expected, record, ttl=30_000):
            return bench.run(scripts.COMPARTMENT, (Held.record, epoch, Held.cart), expected, record, ttl)

        @staticmethod
        def add(*entries, kept=200, ttl=30_000):
            words = (word for entry in entries for word in entry)
            return bench.run(scripts.ACTIVITY, (Held.record, epoch, Held.activity), ttl, kept, *words)

        @staticmethod
        def read(order="XRANGE", first="-", last="+", count=100):
            keys = (Held.record, epoch, Held.activity)
            return bench.run(scripts.READ_ACTIVITY, keys, order, first, last, count)

    Held.epoch = epoch
    return Held


def part(revision, text=b""):
    """Make what stands for a compartment of that revision."""
    return b"\x01\x00\x00\x00" + revision.to_bytes(4) + text


def test_compartment_is_made_replaced_and_removed(bench, held):
    """A compartment is written where its revision is the expected one, with its TTL, and removed."""
    assert held.put(b"", part(1)) == [1]
    assert held.put(part(1)[4:8], part(2)) == [1]
    assert bench.client.get(held.cart) == part(2)
    assert 0 < bench.client.pttl(held.cart) <= 30_000
    assert held.put(part(2)[4:8], b"") == [1]
    assert bench.client.exists(held.cart) == 0


def test_compartment_conflicts(bench, held):
    """Another revision, or none where one was expected, is replied and nothing is written."""
    held.put(b"", part(3, b"theirs"))

    assert held.put(b"", part(1)) == [2, part(3, b"theirs")]
    assert held.put(part(2)[4:8], part(3, b"mine")) == [2, part(3, b"theirs")]
    bench.client.delete(held.cart)
    assert held.put(part(3)[4:8], part(4)) == [2, b""]
    assert bench.client.exists(held.cart) == 0


@pytest.mark.requirement("R43")
def test_compartment_sent_twice(bench, held):
    """Every form of the script may be sent twice."""
    for expected, record in ((b"", part(1)), (part(1)[4:8], part(2)), (b"*", b""), (part(2)[4:8], b"")):
        assert held.put(expected, record) == [1]
        state = bench.state()
        assert held.put(expected, record) == [1]
        assert bench.state() == state


@pytest.mark.requirement("R14")
@pytest.mark.parametrize("ended_by", ["deletion", "epoch"])
def test_nothing_without_the_session(bench, held, ended_by):
    """A session that has ended gets no compartment, no extension, no activity, and shows none."""
    held.put(b"", part(1))
    held.add((bench.now, b"one"))
    if ended_by == "deletion":
        bench.client.delete(held.record)
    else:
        bench.client.set(held.epoch, bench.now, px=60_000)
    state = bench.state()

    assert held.put(part(1)[4:8], part(2)) == [0]
    assert held.put(b"*", b"", 60_000) == [0]
    assert held.add((bench.now, b"two")) == [0]
    assert held.read() == []
    assert bench.state() == state
    assert bench.client.pttl(held.cart) <= 30_000


def test_extension_of_a_compartment_makes_none(bench, held):
    """To extend a compartment that has ended makes nothing."""
    assert held.put(b"*", b"") == [1]
    assert bench.client.exists(held.cart) == 0


def test_activity_keeps_order(bench, held):
    """Entries keep the order in which they come, whatever their senders' clocks say."""
    held.add((bench.now, b"one"), (bench.now, b"two"))
    held.add((bench.now - 50, b"three"))
    held.add((bench.now + 1, b"four"))

    assert held.read()[1::2] == [b"one", b"two", b"three", b"four"]
    assert held.read("XREVRANGE", "+", "-", 2)[1::2] == [b"four", b"three"]


@pytest.mark.requirement("R43")
def test_activity_sent_twice(bench, held):
    """Activity that is sent again, also after other entries, is there once."""
    held.add((bench.now, b"one"), (bench.now, b"two"))
    held.add((bench.now, b"three"))
    held.add((bench.now, b"one"), (bench.now, b"two"))

    assert held.read()[1::2] == [b"one", b"two", b"three"]


def test_activity_is_capped(bench, held):
    """Only the latest entries are kept."""
    held.add(*((bench.now, str(number).encode()) for number in range(10)), kept=4)

    assert held.read()[1::2] == [b"6", b"7", b"8", b"9"]


def test_revocation_removes_companions(bench, held):
    """To end a session removes its activity and the compartments that are named."""
    held.put(b"", part(1))
    held.add((bench.now, b"one"))
    bench.run(scripts.REVOKE, (held.record, held.epoch), b"", NAME, "", 0, bench.now, "", "", "", "wizard cart")

    assert bench.names() == []
