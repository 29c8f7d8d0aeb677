"""What a session may hold at most: bytes and attributes, refused where they are assigned or saved."""

import pytest

from coatcheck import SessionPolicy

KIB = b"x" * 1024
SMALL = SessionPolicy(max_bytes=10 * 1024, max_attributes=5, subject_attribute="user_id")


@pytest.fixture
def small(open_sessions):
    """Give sessions that may hold 10 KiB in 5 attributes."""
    return open_sessions(policy=SMALL)


@pytest.mark.requirement("R56")
def test_large_attribute(sessions):
    """An attribute over the limit is refused where it is assigned, with both sizes; what was there stays."""
    session = sessions.create({"a": 1})

    with pytest.raises(
        ValueError, match=r"^attribute a takes 262,150 bytes; the policy's max_bytes allows 262,144: keep large data"
    ):
        session["a"] = bytes(256 * 1024)

    assert (dict(session), dict(sessions.load(session.identifier))) == ({"a": 1}, {"a": 1})


def test_up_to_the_limit(sessions):
    """What takes just the limit is kept, names and the few bytes of the encoding included."""
    session = sessions.create({"a": bytes(256 * 1024 - 6)})

    assert len(sessions.load(session.identifier)["a"]) == 256 * 1024 - 6


def test_more_by_policy(open_sessions):
    """A policy may allow more: a megabyte is kept where max_bytes says so."""
    sessions = open_sessions(policy=SessionPolicy(max_bytes=2_000_000))

    session = sessions.create({"large": "x" * 1_000_000})

    assert len(sessions.load(session.identifier)["large"]) == 1_000_000


@pytest.mark.requirement("R56")
@pytest.mark.parametrize("first", ["new", "stored"])
def test_large_in_all(small, server, first):
    """Attributes that together are over the limit are refused by the save, and nothing is written."""
    session = small.new() if first == "new" else small.create({"a": 1})
    before = server.contents()
    session.update(dict.fromkeys("bcde", KIB * 3))

    with pytest.raises(
        ValueError, match=r"^the session's attributes take 12,3\d\d bytes; the policy's max_bytes allows 10"
    ):
        small.save(session)

    assert {name: value for name, value in server.contents().items() if ":s:" in name} == {
        name: value for name, value in before.items() if ":s:" in name
    }


@pytest.mark.requirement("R56")
def test_large_by_a_change_inside(small):
    """A list that grows over the limit is refused by the save."""
    session = small.create({"list": []})
    session["list"].extend([KIB] * 11)

    with pytest.raises(ValueError, match="the policy's max_bytes allows 10,240"):
        small.save(session)

    assert small.load(session.identifier)["list"] == []


@pytest.mark.requirement("R56")
def test_large_by_a_merge(small):
    """Two requests that add 6 KiB each: the one that comes second is refused, the first one's stay."""
    stored = small.create({"n": 1})
    first, second = small.load(stored.identifier), small.load(stored.identifier)
    first["a"], second["b"] = KIB * 6, KIB * 6
    small.save(first)

    with pytest.raises(ValueError, match="the policy's max_bytes allows 10,240"):
        small.save(second)

    assert set(small.load(stored.identifier)) == {"n", "a"}


@pytest.mark.requirement("R56")
@pytest.mark.parametrize("add", [lambda session: session.update(f=1), lambda session: session.increment("f")])
def test_many_attributes(small, add):
    """One attribute too many is refused where it is assigned, an increment's too; others can still change."""
    session = small.create(dict.fromkeys("abcde", 1))

    with pytest.raises(ValueError, match=r"^the session would hold 6 attributes; the policy's max_attributes allows 5"):
        add(session)

    session.increment("a")
    small.save(session)
    assert dict(small.load(session.identifier)) == {"a": 2, "b": 1, "c": 1, "d": 1, "e": 1}


@pytest.mark.requirement("R56")
def test_many_by_a_merge(small):
    """Two requests whose attributes together are too many: the second one is refused."""
    stored = small.create(dict.fromkeys("abcd", 1))
    first, second = small.load(stored.identifier), small.load(stored.identifier)
    first.increment("x")
    second.increment("y")
    small.save(first)

    with pytest.raises(ValueError, match="the session would hold 6 attributes"):
        small.save(second)

    assert set(small.load(stored.identifier)) == {*"abcd", "x"}


@pytest.mark.requirement("R56")
def test_sign_in(small):
    """A sign-in with too much is refused, and the anonymous session stays as it was."""
    session = small.create({"a": KIB * 5})
    session["b"], session["user_id"] = KIB * 6, "ada"

    with pytest.raises(ValueError, match="the policy's max_bytes allows 10,240"):
        small.save(session)

    assert set(small.load(session.identifier)) == {"a"}
    assert small.list_for("ada") == []


def test_limit_made_tighter(open_sessions, small):
    """A session from before a tighter limit can be used, rotated and made smaller, but not larger."""
    stored = open_sessions().create({"a": KIB * 20} | dict.fromkeys("bcdefg", 1))
    session = small.load(stored.identifier)
    session["b"] = 2
    small.save(session)
    small.rotate(session)
    del session["g"]
    small.save(session)

    with pytest.raises(ValueError, match="the session would hold 7 attributes"):
        session["new"] = 1
    session["b"] = "larger"
    with pytest.raises(ValueError, match="the policy's max_bytes allows 10,240"):
        small.save(session)

    session["a"] = KIB
    small.save(session)
    assert dict(small.load(session.identifier)) == {"a": KIB, "b": "larger"} | dict.fromkeys("cdef", 1)
