"""bind, trim, revoke_all, list, sweep: the sessions of a subject and their indexes."""

import pytest

from coatcheck.engine import scripts
from coatcheck.model.device import class_of
from tests.lua.conftest import ABSOLUTE, IDLE, Listed, name

ONE, TWO, THREE, FOUR = (name(number) for number in range(1, 5))
HOUR = 3_600_000


# bind


def test_bind(bench):
    """Bind stores the record and enters it in both indexes, each with its own time."""
    record, reply = bench.bind(ONE)

    assert reply == [1, 1, 1, b""]
    assert bench.client.get(bench.key(ONE)) == record
    assert bench.listed() == {ONE: bench.now + ABSOLUTE}
    assert bench.due() == {ONE: bench.now + IDLE}
    assert IDLE - 5000 < bench.client.pttl(bench.key(ONE)) <= IDLE
    for index, longer in ((bench.u, 0), (bench.x, 24 * HOUR)):
        assert ABSOLUTE - 5000 < bench.client.pttl(index) - longer <= ABSOLUTE


@pytest.mark.requirement("R43")
@pytest.mark.parametrize("order", ["oldest", "idlest", "refuse"])
def test_bind_again(bench, order):
    """A bind sent twice is answered as done, and neither counts nor ends a session more than once."""
    bench.bound(ONE)
    record, reply = bench.bind(TWO, limit=2, order=order)
    before = bench.state()

    assert bench.bind(TWO, limit=2, order=order, record=record)[1] == reply == [1, 2, 1, b""]

    assert bench.state() == before
    assert bench.told(TWO) == [("bound", TWO, "")]


def test_bind_over_another_record(bench):
    """Bind never replaces another record: it fails and changes nothing."""
    bench.bound(ONE)
    before = bench.state()

    with pytest.raises(Exception, match="the handle is taken"):
        bench.bind(ONE, limit=1)

    assert bench.state() == before


def test_a_short_session_does_not_shorten_the_indexes(bench):
    """The indexes live as long as their longest entry, in whichever order sessions come."""
    bench.bind(ONE, absolute=30 * ABSOLUTE)
    bench.bind(TWO, ttl=1000, idle=1000, absolute=1000)

    for index in (bench.u, bench.x):
        assert bench.client.pttl(index) > 30 * ABSOLUTE - 5000

    bench.bind(THREE, absolute=60 * ABSOLUTE)
    for index in (bench.u, bench.x):
        assert bench.client.pttl(index) > 60 * ABSOLUTE - 5000


@pytest.mark.requirement("R17")
def test_bind_refused(bench):
    """At the limit of a refusing policy nothing is written but one event, however often it is sent."""
    bench.bound(ONE, TWO)
    before, record = bench.state(), bench.record(THREE)

    for _ in range(2):
        assert bench.bind(THREE, limit=2, order="refuse", record=record)[1] == [0]

    assert bench.state() == before
    assert bench.told(THREE) == [("refused", THREE, "")]


@pytest.mark.parametrize(("elsewhere", "reply"), [(0, [1, 2, 1, b""]), (1, [0]), (5, [0])])
def test_bind_counts_what_lives_elsewhere(bench, elsewhere, reply):
    """Sessions counted under other keys count toward a refusing limit."""
    bench.bound(ONE)

    assert bench.bind(TWO, limit=2, order="refuse", elsewhere=elsewhere)[1] == reply


@pytest.mark.requirement("R24")
def test_the_dead_do_not_count(bench):
    """Sessions that have expired make room under the limit; that they did is left to the sweep to say."""
    bench.bound(ONE, TWO)
    bench.client.delete(bench.key(ONE))

    assert bench.bind(THREE, limit=2, order="refuse")[1] == [1, 2, 1, b""]

    assert bench.live() == {TWO, THREE}
    assert set(bench.listed()) == set(bench.due()) == {ONE, TWO, THREE}


@pytest.mark.requirement("R17")
def test_bind_evicts_the_oldest(bench):
    """The sessions created first end, however long they may live and however lately they were used."""
    bench.bind(ONE, created=-3 * HOUR, seen=-1, absolute=90 * HOUR)
    bench.bind(TWO, created=-5 * HOUR, seen=-10, absolute=50 * HOUR)
    bench.bind(THREE, created=-1 * HOUR, seen=-HOUR)

    assert bench.bind(FOUR, limit=2)[1] == [1, 2, 1, b"", TWO.encode(), ONE.encode()]

    assert bench.live() == set(bench.listed()) == set(bench.due()) == {THREE, FOUR}


@pytest.mark.requirement("R17")
def test_bind_evicts_the_idlest_by_the_last_save(bench):
    """The sessions whose last save lies furthest back end, where no touch came after it."""
    bench.bind(ONE, created=-50_000, seen=-10_000, ttl=IDLE - 10_000)
    bench.bind(TWO, created=-90_000, seen=-5_000, ttl=IDLE - 5_000)
    bench.bind(THREE, created=-20_000, seen=-20_000, ttl=IDLE - 20_000)

    assert bench.bind(FOUR, limit=3, order="idlest")[1] == [1, 3, 1, b"", THREE.encode()]


@pytest.mark.requirement("R17")
def test_bind_evicts_the_idlest_by_the_last_touch(bench):
    """A touch, which only extends the record's life, counts as use."""
    bench.bind(ONE, created=-900_000, ttl=IDLE - 900_000)
    bench.bind(TWO, created=-600_000, ttl=IDLE - 600_000)
    bench.client.pexpire(bench.key(ONE), IDLE)

    assert bench.bind(THREE, limit=2, order="idlest")[1] == [1, 2, 1, b"", TWO.encode()]


def test_evictions_among_equals_are_by_handle(bench):
    """Sessions of the same moment end in the order of their handles, so that a retry would choose the same."""
    bench.bound(THREE, ONE, TWO)

    assert bench.bind(FOUR, limit=2)[1] == [1, 2, 1, b"", ONE.encode(), TWO.encode()]


def test_a_limit_lowered_far(bench):
    """A limit brought down to one ends however many sessions there are: the reply has room for all of them."""
    pipeline = bench.client.pipeline(transaction=False)
    record = bench.record(ONE)
    for number in range(9000):
        pipeline.set(bench.key(name(number)), record, px=IDLE)
    pipeline.zadd(bench.u, {name(number): bench.now + ABSOLUTE for number in range(9000)})
    pipeline.pexpire(bench.u, ABSOLUTE)
    pipeline.execute()

    _, reply = bench.bind(name(9999), limit=1)

    assert reply[:4] == [1, 1, 1, b""]
    assert len(reply) == 4 + 9000
    assert bench.live() == {name(9999)}


def test_bind_in_place_of_another(bench):
    """Bind takes the place of the subject's own session: the reply brings it, and it is gone from everywhere."""
    (one,) = bench.bound(ONE)

    _, reply = bench.bind(TWO, replacing=ONE)

    assert reply[:1] + reply[3:] == [1, one.record]
    assert bench.told(ONE)[1:] == [("revoked", ONE, "another sign-in")]
    assert bench.live() == set(bench.listed()) == set(bench.due()) == {TWO}


@pytest.mark.requirement("R28")
@pytest.mark.parametrize("order", ["oldest", "idlest", "refuse"])
def test_bind_in_place_of_another_at_the_limit(bench, order):
    """What is replaced does not count: at the limit no third session ends, and none is refused."""
    one, two = bench.bound(ONE, TWO)

    _, reply = bench.bind(THREE, limit=2, order=order, replacing=ONE)

    assert reply == [1, 2, 1, one.record]
    assert bench.live() == set(bench.listed()) == {two.name, THREE}


@pytest.mark.requirement("R20")
@pytest.mark.parametrize("limit", [0, 1])
def test_bind_in_place_of_what_has_ended(bench, limit):
    """Bind in place of a session that has ended writes nothing: a sign-out is not undone."""
    bench.bound(ONE, TWO)
    bench.client.delete(bench.key(ONE))
    before = bench.state()

    assert bench.bind(THREE, limit=limit, replacing=ONE)[1] == [2]

    assert bench.state() == before


def test_bind_in_place_of_another_refused(bench):
    """Where the limit refuses, what was to be replaced lives on."""
    bench.bound(ONE, TWO, THREE)
    before = bench.state()

    assert bench.bind(FOUR, limit=2, order="refuse", replacing=ONE)[1] == [0]

    assert bench.state() == before


PHONE = {"device": "phone", "of_class": (2, 0)}


@pytest.mark.requirement("R17")
@pytest.mark.parametrize("former", [None, bytes(32)])
def test_bind_evicts_of_the_class(bench, former):
    """At the limit of its class the oldest of the class ends, also behind a former secret; older others live on."""
    bench.bind(ONE, created=-9000, device="desktop")
    bench.bind(TWO, created=-8000, device="phone", former=former)
    bench.bind(THREE, created=-7000, device="phone", former=former)

    assert bench.bind(FOUR, **PHONE)[1] == [1, 3, 2, b"", TWO.encode()]

    assert bench.live() == set(bench.listed()) == set(bench.due()) == {ONE, THREE, FOUR}
    assert bench.told(TWO)[1:] == [("evicted", TWO, "")]


@pytest.mark.requirement("R17")
def test_bind_evicts_of_the_class_first(bench):
    """What ends for the class makes room under the overall limit, too: no more end than have to."""
    bench.bind(ONE, created=-9000, device="desktop")
    bench.bind(TWO, created=-8000, device="phone")
    bench.bind(THREE, created=-7000, device="phone")

    assert bench.bind(FOUR, limit=3, **PHONE)[1] == [1, 3, 2, b"", TWO.encode()]
    assert bench.bind(name(5), limit=3, device="desktop")[1] == [1, 3, 1, b"", ONE.encode()]


@pytest.mark.requirement("R17")
@pytest.mark.parametrize(("elsewhere", "reply"), [(0, [1, 3, 2, b""]), (1, [4]), (5, [4])])
def test_bind_refused_by_the_class(bench, elsewhere, reply):
    """The limit of the class counts those of the class, here and elsewhere, and refuses by a number of its own."""
    bench.bound(ONE, device="phone")
    bench.bound(TWO, device="desktop")
    record = bench.record(THREE, device="phone")

    for _ in range(2):
        assert bench.bind(THREE, order="refuse", of_class=(2, elsewhere), record=record)[1] == reply
    refused = reply == [4]
    assert bench.told(THREE) == [("refused" if refused else "bound", THREE, "")]


def test_what_is_replaced_does_not_count_for_its_class(bench):
    """A sign-in in place of the subject's own session takes that one's place in the class."""
    one, _ = bench.bound(ONE, TWO, device="phone")

    for order in ("refuse", "oldest"):
        _, reply = bench.bind(THREE if order == "refuse" else FOUR, order=order, replacing=one.name, **PHONE)
        assert reply == [1, 2, 2, one.record]
        (one,) = [Listed(THREE, bench.client.get(bench.key(THREE)))] if order == "refuse" else [one]

    assert bench.live() == {TWO, FOUR}


# trim


def trim(bench, allowed, order="oldest", device=None, of_class=-1):
    """Run trim. of_class: how many sessions of the class of *device* are allowed."""
    keys, said = [bench.u, bench.x, bench.g, bench.e], (bench.now, bench.stem, bench.place.digest, "")
    return bench.run(scripts.TRIM, keys, allowed, order, *said, class_of(device), of_class)


def test_trim_counts(bench):
    """Trim without a limit counts the live sessions; it ends none and leaves the dead to the sweep."""
    bench.bound(ONE, TWO, THREE)
    bench.client.delete(bench.key(TWO))

    assert trim(bench, -1) == [2, 0]

    assert set(bench.listed()) == set(bench.due()) == {ONE, TWO, THREE}
    assert len(bench.told()) == 3


@pytest.mark.parametrize(
    ("allowed", "ended"), [(3, []), (2, [TWO]), (1, [TWO, THREE]), (0, [TWO, THREE, ONE])]
)  # fmt: skip
def test_trim_ends_the_oldest(bench, allowed, ended):
    """Trim ends the oldest sessions until the allowed number is left, and says which."""
    bench.bind(ONE, created=-1000)
    bench.bind(TWO, created=-3000)
    bench.bind(THREE, created=-2000)

    assert trim(bench, allowed) == [3 - len(ended), 0, *(handle.encode() for handle in ended)]

    assert bench.live() == set(bench.listed()) == set(bench.due()) == {ONE, TWO, THREE} - set(ended)
    assert trim(bench, allowed) == [3 - len(ended), 0]


def test_trim_ends_the_idlest(bench):
    """Trim ends the sessions that were used least lately."""
    bench.bind(ONE, created=-900_000, ttl=IDLE)
    bench.bind(TWO, created=-600_000, ttl=IDLE - 600_000)

    assert trim(bench, 1, "idlest") == [1, 0, TWO.encode()]


def test_trim_of_nobody(bench):
    """A subject without sessions has none to end."""
    assert trim(bench, 0) == [0, 0]
    assert bench.names() == []


@pytest.mark.requirement("R17")
@pytest.mark.parametrize(
    ("allowed", "of_class", "left"),
    [
        (-1, -1, {ONE, TWO, THREE, FOUR}),
        (-1, 1, {ONE, THREE, FOUR}),
        (-1, 0, {ONE, THREE}),
        (2, 2, {THREE, FOUR}),
        (2, 1, {THREE, FOUR}),
        (3, 1, {ONE, THREE, FOUR}),
        (1, 1, {FOUR}),
        (0, 5, set()),
    ],
)
def test_trim_ends_those_of_a_class_first(bench, allowed, of_class, left):
    """Trim leaves the allowed number of a class, the newest, and then of all; a class of others is not touched."""
    for number, (handle, device) in enumerate([(ONE, "desktop"), (TWO, "phone"), (THREE, None), (FOUR, "phone")]):
        bench.bind(handle, created=number - 9000, device=device)

    reply = trim(bench, allowed, device="phone", of_class=of_class)

    assert reply[:2] == [len(left), len(left & {TWO, FOUR})]
    assert bench.live() == set(bench.listed()) == left
    assert {handle.decode() for handle in reply[2:]} == {ONE, TWO, THREE, FOUR} - left


# revoke_all


def revoke_all(bench, keep="", at_most=1000, until=2**50):
    """Run revoke_all."""
    keys = [bench.u, bench.x, bench.g, bench.e]
    said = (bench.now, "ops", "test", "", until)
    return bench.run(scripts.REVOKE_ALL, keys, bench.stem, bench.place.digest, keep, at_most, *said)


def test_revoke_all(bench):
    """All sessions of the subject end, and nothing of them is left."""
    bench.bound(ONE, TWO, THREE)

    assert revoke_all(bench) == [3, 0]

    assert bench.names() == []
    assert revoke_all(bench) == [0, 0]


@pytest.mark.parametrize("keep", [ONE, TWO, THREE])
def test_revoke_all_but_one(bench, keep):
    """The session to keep stays in the store and in both indexes, wherever it stands among them."""
    bench.bound(ONE, TWO, THREE)

    assert revoke_all(bench, keep) == [2, 0]

    assert bench.live() == set(bench.listed()) == set(bench.due()) == {keep}


def test_revoke_all_keeping_a_stranger(bench):
    """A session to keep that is not the subject's is nothing to it."""
    bench.bound(ONE, TWO)

    assert revoke_all(bench, FOUR) == [2, 0]


@pytest.mark.requirement("R25")
def test_revoke_all_too_late(bench):
    """After the time until which it may be carried out it does nothing, and says what time it is."""
    bench.bound(ONE, TWO)
    before = bench.state()

    late, seconds, microseconds = revoke_all(bench, until=bench.now - 1)

    assert late == -1
    assert bench.now <= int(seconds) * 1000 + int(microseconds) // 1000 < bench.now + 60_000
    assert bench.state() == before


def test_revoke_all_does_not_count_the_dead(bench):
    """Sessions that had expired are settled as the sweep does: dropped, told as expired, and not counted as ended."""
    bench.bound(ONE, TWO)
    bench.client.delete(bench.key(ONE))

    assert revoke_all(bench) == [1, 0]

    assert bench.names() == []
    assert bench.told()[2:] == [("expired", ONE, "idle"), ("revoked", TWO, "test")]


@pytest.mark.parametrize("keep", ["", name(0), name(3), name(9)])
@pytest.mark.parametrize("at_most", [1, 2, 3, 9, 10, 11])
def test_revoke_all_in_batches(bench, keep, at_most):
    """At most the given number end at a time, and the reply says how many are left to end, down to none."""
    bench.bound(*map(name, range(10)))
    to_end, replies = 9 if keep else 10, []
    left = to_end
    while left:
        ended, left = revoke_all(bench, keep, at_most)
        replies.append(ended)
        assert left == to_end - sum(replies)
        assert 1 <= ended <= at_most

    assert sum(replies) == to_end
    assert bench.live() == ({keep} if keep else set())


# list


def pages(bench, size, between=lambda: None):
    """List the subject's sessions a page at a time: how many pages, and handle, record and TTL of each session."""
    cursor, count, found = b"0", 0, []
    while not count or cursor != b"0":
        cursor, *rest = bench.run(scripts.LIST, [bench.u, bench.g], bench.stem, cursor, size)
        count += 1
        found += zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        between()
    return count, found


@pytest.mark.parametrize(("total", "size"), [(1, 200), (5, 1), (128, 200), (199, 200), (500, 200), (500, 10)])
def test_list(bench, total, size):
    """Pages of any size give each session, with its record and remaining time; one page does where they fit in it."""
    sessions = bench.bound(*map(name, range(total)))

    count, found = pages(bench, size)

    assert {(handle.decode(), record) for handle, record, _ in found} == {(s.name, s.record) for s in sessions}
    assert all(IDLE - 5000 < ttl <= IDLE for _, _, ttl in found)
    assert count == 1 if total <= size else count <= total / size + 1


@pytest.mark.requirement("R24")
def test_list_while_sessions_end_and_deadlines_move(bench):
    """What lives throughout is on one of the pages, though between them others end and move in the index."""
    bench.bound(*map(name, range(500)))
    doomed = iter(range(400))

    def between():
        for number in [next(doomed) for _ in range(10)]:
            bench.client.delete(bench.key(name(number)))
            bench.client.zrem(bench.u, name(number))
            bench.client.zadd(bench.u, {name(400 + number % 100): bench.now + 5 * number})

    count, found = pages(bench, 20, between)

    assert count > 5
    assert {name(number) for number in range(400, 500)} <= {handle.decode() for handle, _, _ in found}


def test_list_leaves_out_the_dead_and_changes_nothing(bench):
    """Sessions that have ended are left out; listing writes nothing."""
    bench.bound(ONE, TWO, THREE)
    bench.client.delete(bench.key(TWO))
    before = bench.state()

    _, found = pages(bench, 2)

    assert {handle.decode() for handle, _, _ in found} == {ONE, THREE}
    assert bench.state() == before


def test_list_of_nobody(bench):
    """A subject without sessions has an empty list."""
    assert pages(bench, 10) == (1, [])


# sweep


def sweep(bench, now=None, at_most=100):
    """Run sweep at a moment."""
    moment = bench.now if now is None else now
    return bench.run(scripts.SWEEP, [bench.x, bench.g, bench.e], moment, bench.stem, bench.subjects, at_most)


@pytest.mark.requirement("R24")
def test_sweep_settles_what_has_ended_exactly_once(bench):
    """A session that has ended leaves both indexes at the first sweep after it is due, and is told once."""
    bench.bound(ONE, TWO)
    bench.client.delete(bench.key(ONE))

    assert sweep(bench) == [0]
    assert sorted(sweep(bench, bench.now + IDLE)[1:]) == [ONE.encode()]
    assert sweep(bench, bench.now + IDLE) in ([0], [1])

    assert set(bench.listed()) == set(bench.due()) == {TWO}
    assert bench.told(ONE) == [("bound", ONE, ""), ("expired", ONE, "idle")]


def test_sweep_puts_off_what_was_touched(bench):
    """A session that lives on when it is due is looked at again when its life is over, as of then."""
    bench.bound(ONE)
    bench.client.pexpire(bench.key(ONE), 2 * IDLE)
    due = bench.now + IDLE

    assert sweep(bench, due) == [1]

    assert due + 2 * IDLE - 5000 < bench.due()[ONE] <= due + 2 * IDLE
    assert bench.listed() == {ONE: bench.now + ABSOLUTE}
    assert sweep(bench, due) == [0]


def test_sweep_in_batches(bench):
    """At most the given number of entries is looked at; the number says whether more may be due."""
    bench.bound(*map(name, range(5)))
    bench.client.delete(*(bench.key(name(number)) for number in range(5)))
    due = bench.now + IDLE

    replies = [sweep(bench, due, 2) for _ in range(4)]

    assert [reply[0] for reply in replies] == [2, 2, 1, 0]
    assert [len(reply) - 1 for reply in replies] == [2, 2, 1, 0]
    assert bench.names() == []


def test_sweep_knows_whose_session_it_was(bench):
    """Sessions of several subjects of a partition leave each their own subject's index."""
    bench.bound(ONE)
    mine, place = bench.u, bench.place
    bench.u, bench.place = bench.subjects + "subject-digest-2", type(place)(place.partition, "subject-digest-2")
    bench.bound(TWO, THREE)
    bench.client.delete(bench.key(ONE), bench.key(TWO))

    looked_at, *ended = sweep(bench, bench.now + IDLE)

    assert looked_at == 3
    assert sorted(ended) == [ONE.encode(), TWO.encode()]
    assert bench.client.exists(mine) == 0
    assert set(bench.listed()) == {THREE}


def test_sweep_of_nothing(bench):
    """A partition without bound sessions has nothing to settle."""
    assert sweep(bench) == [0]
    assert bench.names() == []
