"""create, save, revoke: one record at a time."""

import pytest

from coatcheck.engine import scripts
from coatcheck.model.record import pack_revision
from tests.lua.conftest import ABSOLUTE, IDLE, name

ONE, TWO = name(1), name(2)


def create(bench, handle, record, ttl=IDLE):
    """Run create."""
    return bench.run(scripts.CREATE, [bench.key(handle), bench.g, bench.e], record, ttl, handle, bench.now)


def test_create(bench):
    """Create stores the record with its time to live."""
    record = bench.record(ONE)

    assert create(bench, ONE, record) == [1]

    assert bench.client.get(bench.key(ONE)) == record
    assert IDLE - 5000 < bench.client.pttl(bench.key(ONE)) <= IDLE


@pytest.mark.requirement("R43")
def test_create_again(bench):
    """A create sent twice is answered as the first time, and changes nothing more."""
    record = bench.record(ONE)
    for _ in range(2):
        assert create(bench, ONE, record) == [1]

    assert bench.client.get(bench.key(ONE)) == record


def test_create_over_another(bench):
    """Create never replaces another record."""
    theirs = bench.record(ONE)
    create(bench, ONE, theirs)

    assert create(bench, ONE, bench.record(ONE), 5) == [0]

    assert bench.client.get(bench.key(ONE)) == theirs
    assert bench.client.pttl(bench.key(ONE)) > 5


@pytest.fixture
def stored(bench):
    """Store a record of revision 1."""
    record = bench.record(ONE)
    create(bench, ONE, record)
    return record


def save(bench, revision, record, ttl=IDLE, *, deadline=None, event="", why=""):
    """Run save on the first handle; with *deadline*, also on the indexes."""
    keys = [bench.key(ONE), bench.g, bench.e, *(() if deadline is None else (bench.u, bench.x))]
    listed = () if deadline is None else (deadline,)
    told = (ONE, bench.now, bench.place.digest, event, why)
    return bench.run(scripts.SAVE, keys, pack_revision(revision), record, ttl, *told, *listed)


def test_save(bench, stored):
    """Save replaces the record of the expected revision and renews its time to live."""
    newer = bench.record(ONE, revision=2)

    assert save(bench, 1, newer, 60_000) == [1]

    assert bench.client.get(bench.key(ONE)) == newer
    assert 50_000 < bench.client.pttl(bench.key(ONE)) <= 60_000


@pytest.mark.requirement("R43")
def test_save_again(bench, stored):
    """A save sent twice is answered as the first time."""
    newer = bench.record(ONE, revision=2)
    assert save(bench, 1, newer) == [1]

    assert save(bench, 1, newer) == [1]


@pytest.mark.requirement("R38")
def test_save_tells_once(bench, stored):
    """The event of a save, and why, are told once, however often the save is sent; without one nothing is told."""
    newer = bench.record(ONE, revision=2)
    for _ in range(2):
        save(bench, 1, newer, event="client changed", why="address")
    save(bench, 1, bench.record(ONE, revision=2), event="client changed")
    save(bench, 2, bench.record(ONE, revision=3))

    told = [fields for _, fields in bench.client.xrange(bench.e)][1:]
    assert [(fields[b"t"], fields[b"why"]) for fields in told] == [(b"client changed", b"address")]


def test_save_of_an_old_revision(bench, stored):
    """A save made from an older revision changes nothing, and brings the present record."""
    theirs = bench.record(ONE, revision=2)
    save(bench, 1, theirs)

    assert save(bench, 1, bench.record(ONE, revision=2)) == [2, theirs]

    assert bench.client.get(bench.key(ONE)) == theirs


@pytest.mark.requirement("R14")
@pytest.mark.requirement("R20")
def test_save_of_what_is_gone(bench, stored):
    """A save never creates a record, nor an index entry, for a session that has ended."""
    bench.client.delete(bench.key(ONE))
    deadline = bench.now + ABSOLUTE

    assert save(bench, 1, bench.record(ONE, revision=2)) == [0]
    assert save(bench, 1, bench.record(ONE, revision=2), deadline=deadline) == [0]

    assert bench.names() == []


@pytest.mark.parametrize("revision", [1, 255, 256, 0x01020304, 0xFFFFFFFE])
def test_save_compares_all_four_bytes(bench, revision):
    """The revision is compared whole, whatever bytes it has."""
    create(bench, ONE, bench.record(ONE, revision=revision))
    for wrong in (revision - 1, revision + 1, revision ^ 0x01000000):
        assert save(bench, wrong, bench.record(ONE))[0] == 2

    assert save(bench, revision, bench.record(ONE, revision=revision + 1)) == [1]


def test_save_with_new_deadlines_enters_the_indexes(bench):
    """A save that changes the deadlines of a bound session moves its entries, and the indexes live as long."""
    bench.bound(ONE)
    longer = bench.record(ONE, revision=2, idle=2 * IDLE, absolute=2 * ABSOLUTE)
    deadline = bench.now + 2 * ABSOLUTE

    assert save(bench, 1, longer, 2 * IDLE, deadline=deadline) == [1]

    assert bench.listed() == {ONE: bench.now + 2 * ABSOLUTE}
    assert bench.due() == {ONE: bench.now + 2 * IDLE}
    assert min(bench.client.pttl(bench.u), bench.client.pttl(bench.x)) > 2 * ABSOLUTE - 5000


def test_save_with_shorter_deadlines_leaves_the_life_of_the_indexes(bench):
    """A session made shorter does not shorten the indexes that others stand in."""
    bench.bound(ONE, TWO)
    deadline = bench.now + 1000

    assert save(bench, 1, bench.record(ONE, revision=2), 1000, deadline=deadline) == [1]

    assert bench.listed() == {ONE: bench.now + 1000, TWO: bench.now + ABSOLUTE}
    assert min(bench.client.pttl(bench.u), bench.client.pttl(bench.x)) > ABSOLUTE - 5000


def test_save_of_an_old_revision_leaves_the_indexes(bench):
    """A save that meets another revision does not touch the indexes either."""
    bench.bound(ONE)
    before = bench.state()
    deadline = bench.now + 9 * ABSOLUTE

    assert save(bench, 5, bench.record(ONE, revision=6), deadline=deadline)[0] == 2

    assert bench.state() == before


def revoke(bench, handle, revision=None, *, bound=True, listed=0):
    """Run revoke."""
    expected = b"" if revision is None else pack_revision(revision)
    keys = [bench.key(handle), bench.g, bench.e, *((bench.u, bench.x) if bound else ())]
    digest = bench.place.digest if bound else ""
    said = (bench.now, "revoked", "ops", "test")
    return bench.run(scripts.REVOKE, keys, expected, handle, digest, listed, *said)


def test_revoke_of_an_anonymous_session(bench, stored):
    """Revoke deletes the record and brings it."""
    assert revoke(bench, ONE, bound=False) == [1, stored]

    assert bench.names() == []


@pytest.mark.requirement("R43")
def test_revoke_again(bench, stored):
    """A revoke sent twice finds nothing the second time."""
    revoke(bench, ONE, bound=False)

    assert revoke(bench, ONE, bound=False) == [0]


def test_revoke_of_a_bound_session(bench):
    """Revoke takes a bound session out of both indexes, and leaves the others."""
    one, two = bench.bound(ONE, TWO)

    assert revoke(bench, ONE) == [1, one.record]

    assert bench.live() == set(bench.listed()) == set(bench.due()) == {two.name}


def test_revoke_leaves_a_session_that_expired_to_the_sweep(bench):
    """A session that has expired is not there to end: the sweep will say that it expired."""
    bench.bound(ONE)
    bench.client.delete(bench.key(ONE))

    assert revoke(bench, ONE) == [0]

    assert set(bench.listed()) == set(bench.due()) == {ONE}
    assert bench.told(ONE) == [("bound", ONE, "")]


def test_revoke_of_another_revision(bench):
    """A revoke that expects another revision changes nothing and brings the present record."""
    (one,) = bench.bound(ONE)
    before = bench.state()

    assert revoke(bench, ONE, 2) == [2, one.record]
    assert revoke(bench, ONE, 2, bound=False) == [2, one.record]
    assert bench.state() == before

    assert revoke(bench, ONE, 1) == [1, one.record]


@pytest.mark.requirement("R23")
def test_revoke_only_if_listed(bench):
    """Where the subject must have the session, another's is left alone, as if there were none."""
    (one,) = bench.bound(ONE)
    foreign = bench.record(TWO)
    create(bench, TWO, foreign)

    assert revoke(bench, TWO, listed=1) == [0]
    assert bench.client.get(bench.key(TWO)) == foreign
    assert revoke(bench, ONE, listed=1) == [1, one.record]
    assert revoke(bench, ONE, listed=1) == [0]


def test_touch(bench, stored):
    """Touch makes the record live for its own idle timeout from now on."""
    bench.client.pexpire(bench.key(ONE), 1000)

    assert bench.run(scripts.TOUCH, [bench.key(ONE), bench.g], bench.now) == 1

    assert IDLE - 5000 < bench.client.pttl(bench.key(ONE)) <= IDLE
    assert bench.client.get(bench.key(ONE)) == stored


def test_touch_near_the_absolute_deadline(bench, stored):
    """Touch never lets a record live past its absolute deadline."""
    assert bench.run(scripts.TOUCH, [bench.key(ONE), bench.g], bench.now + ABSOLUTE - 7000) == 1

    assert 0 < bench.client.pttl(bench.key(ONE)) <= 7000


@pytest.mark.requirement("R11")
@pytest.mark.parametrize("late", [0, 1])
def test_touch_at_the_absolute_deadline(bench, stored, late):
    """From the absolute deadline on, touch does nothing."""
    before = bench.client.pttl(bench.key(ONE))

    assert bench.run(scripts.TOUCH, [bench.key(ONE), bench.g], bench.now + ABSOLUTE + late) == 0

    assert bench.client.pttl(bench.key(ONE)) <= before


@pytest.mark.requirement("R14")
def test_touch_of_nothing(bench):
    """Touch creates nothing."""
    assert bench.run(scripts.TOUCH, [bench.key(ONE), bench.g], bench.now) == 0

    assert bench.names() == []
