"""Saving: merges, conflicts, sessions that have ended, through both facades on a real server."""

from datetime import timedelta

import pytest

from coatcheck import SessionConflict, SessionPolicy, SessionRevoked, Status


@pytest.fixture
def stored(sessions):
    """Give a stored session with a bit of everything."""
    return sessions.create({"a": 1, "b": "two", "n": 10, "d": {"x": 1, "deep": {"y": [1]}}, "l": [1, 2]})


@pytest.fixture
def pair(sessions, stored):
    """Give the same session as two requests have loaded it."""
    return sessions.load(stored.identifier), sessions.load(stored.identifier)


def test_save_of_a_change(sessions, stored):
    """What was set, deleted, incremented and changed inside is there after the save."""
    mine = sessions.load(stored.identifier)
    mine["a"] = 2
    del mine["b"]
    mine.increment("n", 5)
    mine["d"]["deep"]["y"].append(2)
    mine["new"] = (1, 2)

    sessions.save(mine)

    assert dict(sessions.load(stored.identifier)) == {
        "a": 2,
        "n": 15,
        "d": {"x": 1, "deep": {"y": [1, 2]}},
        "l": [1, 2],
        "new": (1, 2),
    }
    assert mine.status is Status.CLEAN


@pytest.mark.requirement("R38")
def test_requests_that_begin_the_same_dict(sessions, stored, pair):
    """Two requests that find no dict, and each begin it with `setdefault`, share it: nothing of either is lost."""
    mine, yours = pair
    mine.setdefault("cart", {})["ink"] = 1
    yours.setdefault("cart", {})["pen"] = 2
    assert yours.setdefault("cart", {}) == {"pen": 2}

    sessions.save(mine)
    sessions.save(yours)

    assert sessions.load(stored.identifier)["cart"] == {"ink": 1, "pen": 2}
    assert yours["cart"] == {"ink": 1, "pen": 2}


def test_default_of_what_is_there_meanwhile(sessions, stored, pair):
    """What another request has set meanwhile stays; what this one has deleted before, it sets."""
    mine, yours = pair
    mine["new"] = "mine"
    assert yours.setdefault("new", "yours") == "yours"
    del yours["b"]
    assert yours.setdefault("b") is None
    yours.setdefault("m", 5)
    yours.increment("m")

    sessions.save(mine)
    sessions.save(yours)

    found = sessions.load(stored.identifier)
    assert (found["new"], found["b"], found["m"]) == ("mine", None, 6)


@pytest.mark.requirement("R39")
def test_save_without_a_change(sessions, stored, server):
    """A session that was only read is not written."""
    mine = sessions.load(stored.identifier)
    assert mine["d"]["deep"]["y"] == [1]

    with server.commands() as commands:
        sessions.save(mine)

    assert commands == []


def test_save_of_what_is_there_already(sessions, stored, server):
    """Setting an attribute to the value that it has is no change."""
    mine = sessions.load(stored.identifier)
    mine["a"], mine["d"] = 1, {"x": 1, "deep": {"y": [1]}}

    with server.commands() as commands:
        sessions.save(mine)

    assert commands == []


@pytest.mark.requirement("R38")
def test_different_attributes_merge(sessions, stored, pair):
    """Two requests that change different attributes both win."""
    mine, theirs = pair
    mine["a"], theirs["b"] = 2, "three"
    del theirs["l"]

    sessions.save(mine)
    sessions.save(theirs)

    loaded = sessions.load(stored.identifier)
    assert (loaded["a"], loaded["b"], "l" in loaded) == (2, "three", False)
    assert (theirs["a"], theirs["b"]) == (2, "three")


@pytest.mark.requirement("R38")
def test_nested_changes_merge(sessions, stored, pair):
    """Two requests that change different keys of one dict both win."""
    mine, theirs = pair
    mine["d"]["x"] = 2
    theirs["d"]["deep"]["z"] = 3
    del theirs["d"]["deep"]["y"]

    sessions.save(mine)
    sessions.save(theirs)

    assert sessions.load(stored.identifier)["d"] == {"x": 2, "deep": {"z": 3}}


@pytest.mark.requirement("R38")
def test_putting_back_what_was_read_merges(sessions, stored, pair):
    """To read a dict, change it and assign it again loses nothing that another request put into it."""
    for session, name in zip(pair, ("pen", "cup"), strict=True):
        cart = session["d"]
        cart[name] = 1
        session["d"] = cart

    for session in pair:
        sessions.save(session)

    assert sessions.load(stored.identifier)["d"] == {"x": 1, "deep": {"y": [1]}, "pen": 1, "cup": 1}


@pytest.mark.requirement("R38")
def test_increments_add_up(sessions, stored, at_once):
    """Of 64 increments made at the same time none is lost."""
    copies = [sessions.load(stored.identifier) for _ in range(64)]
    for copy in copies:
        copy.increment("n")

    assert at_once(*((sessions, "save", copy) for copy in copies)) == [None] * 64

    assert sessions.load(stored.identifier)["n"] == 74


@pytest.mark.requirement("R38")
def test_64_writers_of_different_attributes(sessions, stored, at_once):
    """Of 64 writers of different attributes none loses what it wrote."""
    copies = [sessions.load(stored.identifier) for _ in range(64)]
    for number, copy in enumerate(copies):
        copy[f"key{number}"] = number

    assert at_once(*((sessions, "save", copy) for copy in copies)) == [None] * 64

    loaded = sessions.load(stored.identifier)
    assert [loaded[f"key{number}"] for number in range(64)] == list(range(64))


def test_last_writer_wins(sessions, stored, pair):
    """On the same attribute the save that comes last wins."""
    mine, theirs = pair
    mine["a"], theirs["a"] = "mine", "theirs"

    sessions.save(mine)
    sessions.save(theirs)

    assert sessions.load(stored.identifier)["a"] == "theirs"


def test_increment_after_a_foreign_set(sessions, stored, pair):
    """An increment counts on from what another request has set meanwhile."""
    mine, theirs = pair
    mine["n"] = 100
    theirs.increment("n", 5)

    sessions.save(mine)
    sessions.save(theirs)

    assert sessions.load(stored.identifier)["n"] == 105


def test_increment_of_what_is_no_number_any_more(sessions, stored, pair):
    """An increment that meets a string conflicts: nothing is written."""
    mine, theirs = pair
    mine["n"] = "many"
    theirs.increment("n")
    sessions.save(mine)

    with pytest.raises(SessionConflict, match="attribute n is not a number and cannot be incremented"):
        sessions.save(theirs)

    assert sessions.load(stored.identifier)["n"] == "many"


def test_clear_removes_what_others_add(sessions, stored, pair):
    """A cleared session loses also what another request has added meanwhile, and keeps what was set after."""
    mine, theirs = pair
    mine["added"] = 1
    theirs.clear()
    theirs["only"] = 2

    sessions.save(mine)
    sessions.save(theirs)

    assert dict(sessions.load(stored.identifier)) == {"only": 2}


def test_clear_of_a_session_that_was_empty_removes_what_others_add(sessions):
    """Clearing is a wish for the whole session, also where there was nothing to clear when it was loaded."""
    stored = sessions.create()
    mine, theirs = sessions.load(stored.identifier), sessions.load(stored.identifier)
    theirs["a"] = 1
    sessions.save(theirs)

    mine.clear()
    mine["b"] = 2
    sessions.save(mine)

    assert dict(sessions.load(stored.identifier)) == {"b": 2}


@pytest.mark.requirement("R38")
def test_strict_save_conflicts(sessions, stored, pair):
    """In strict mode the same attribute changed elsewhere raises, and nothing is written."""
    mine, theirs = pair
    theirs.strict = True
    mine["a"] = "mine"
    theirs["a"], theirs["b"] = "theirs", "theirs"
    sessions.save(mine)

    with pytest.raises(SessionConflict, match="attribute a was changed by another request meanwhile"):
        sessions.save(theirs)

    loaded = sessions.load(stored.identifier)
    assert (loaded["a"], loaded["b"]) == ("mine", "two")


def test_strict_clear_conflicts_with_any_change(sessions, stored, pair):
    """In strict mode clearing a session in which another request has changed anything raises."""
    mine, theirs = pair
    theirs.strict = True
    mine["added"] = 1
    theirs.clear()
    sessions.save(mine)

    with pytest.raises(SessionConflict, match="attribute added was changed"):
        sessions.save(theirs)


def test_strict_save_of_different_attributes(sessions, stored, pair):
    """In strict mode changes of different attributes merge, and increments never conflict."""
    mine, theirs = pair
    theirs.strict = True
    mine["a"] = 2
    mine.increment("n")
    theirs["b"] = "three"
    theirs.increment("n")

    sessions.save(mine)
    sessions.save(theirs)

    loaded = sessions.load(stored.identifier)
    assert (loaded["a"], loaded["b"], loaded["n"]) == (2, "three", 12)


@pytest.mark.requirement("R14")
@pytest.mark.requirement("R20")
def test_save_after_revocation(sessions, stored, server):
    """Saving a session revoked elsewhere raises and does not revive it."""
    mine = sessions.load(stored.identifier)
    sessions.revoke(stored.handle)
    mine["a"] = 2

    with pytest.raises(SessionRevoked, match=f"session {stored.handle} has ended; nothing was written"):
        sessions.save(mine)

    assert sessions.find(stored.handle) is None
    assert server.left() == []


@pytest.mark.requirement("R14")
@pytest.mark.parametrize("pause", [timedelta(minutes=31), timedelta(hours=13)])
def test_save_after_expiry(sessions, stored, server, clock, pause):
    """A session that expires between read and write is not created again, neither whole nor in part."""
    mine = sessions.load(stored.identifier)
    mine["a"] = 2
    clock.advance(pause)

    with pytest.raises(SessionRevoked):
        sessions.save(mine)

    assert server.left() == []


@pytest.mark.requirement("R14")
def test_save_past_the_absolute_deadline_of_a_record_still_there(sessions, stored, clock, server):
    """A record that outlived its absolute deadline is not written any more."""
    mine = sessions.load(stored.identifier)
    mine["a"] = 2
    clock.moved += 12 * 60 * 60 * 1000
    before = server.contents()

    with pytest.raises(SessionRevoked):
        sessions.save(mine)

    assert server.contents() == before


@pytest.mark.requirement("R14")
def test_save_of_a_clean_session_that_ended(sessions, stored, clock, server):
    """A session that was only read and has ended is not touched into being."""
    mine = sessions.load(stored.identifier)
    clock.advance(timedelta(minutes=10))
    sessions.revoke(stored.handle)

    sessions.save(mine)

    assert server.left() == []


def test_save_of_an_emptied_session(sessions, stored, server):
    """An anonymous session left with nothing ends."""
    mine = sessions.load(stored.identifier)
    mine.clear()

    sessions.save(mine)

    assert mine.status is Status.REVOKED
    assert server.left() == []


def test_emptied_session_that_another_request_fills(sessions, pair, stored):
    """A session emptied attribute by attribute goes on where another request has added one."""
    mine, theirs = pair
    mine["added"] = 1
    for name in list(theirs):
        del theirs[name]
    sessions.save(mine)

    sessions.save(theirs)

    assert dict(sessions.load(stored.identifier)) == {"added": 1}
    assert theirs.status is Status.CLEAN


def test_emptied_session_that_has_ended(sessions, stored):
    """Emptying a session that has ended elsewhere raises: there is nothing to end."""
    mine = sessions.load(stored.identifier)
    mine.clear()
    sessions.revoke(stored.handle)

    with pytest.raises(SessionRevoked):
        sessions.save(mine)


@pytest.mark.requirement("R55")
def test_new_and_empty_session_is_not_stored(sessions, server):
    """Saving a session that nothing was written to stores nothing and sends nothing."""
    session = sessions.new()

    with server.commands() as commands:
        sessions.save(session)

    assert commands == []
    assert session.status is Status.NEW


def test_save_of_a_new_session(sessions):
    """A new session with something in it is stored by its first save."""
    session = sessions.new()
    session["a"] = 1

    sessions.save(session)

    assert dict(sessions.load(session.identifier)) == {"a": 1}


def test_save_carries_out_a_revocation(sessions, stored, server):
    """A session that was asked to end is ended by the save."""
    mine = sessions.load(stored.identifier)
    mine.revoke()

    sessions.save(mine)

    assert sessions.load(stored.identifier) is None
    assert server.left() == []


def test_saving_again(sessions, stored, server):
    """A session can go on to be changed and saved after a save; objects held from before are still its own."""
    mine = sessions.load(stored.identifier)
    held = mine["l"]
    mine["a"] = 2
    sessions.save(mine)
    held.append(3)

    sessions.save(mine)

    assert sessions.load(stored.identifier)["l"] == [1, 2, 3]


def test_save_extends_the_idle_deadline(sessions, stored, clock):
    """A write is a use: the idle timeout counts from it."""
    mine = sessions.load(stored.identifier)
    clock.advance(timedelta(minutes=20))
    mine["a"] = 2
    sessions.save(mine)
    clock.advance(timedelta(minutes=20))

    assert sessions.load(stored.identifier)["a"] == 2


@pytest.mark.requirement("R11")
def test_save_does_not_extend_the_absolute_deadline(sessions, stored, clock, server):
    """No write lets a session live past its absolute deadline."""
    for _ in range(35):
        clock.advance(timedelta(minutes=20))
        mine = sessions.load(stored.identifier)
        mine.increment("n")
        sessions.save(mine)
    (name,) = server.left()
    assert server.client.pttl(name) <= 20 * 60 * 1000

    clock.advance(timedelta(minutes=20))

    assert sessions.load(stored.identifier) is None


@pytest.mark.requirement("R38")
def test_many_increments_and_a_write_id(open_sessions, clock):
    """Counting for longer than write ids are kept neither loses nor repeats an increment."""
    sessions = open_sessions(policy=SessionPolicy(idle_timeout=timedelta(hours=1)))
    stored = sessions.create({"n": 0})
    for number in range(150):
        mine = sessions.load(stored.identifier)
        mine.increment("n")
        sessions.save(mine)
        if number % 50 == 0:
            clock.advance(timedelta(minutes=2))

    assert sessions.load(stored.identifier)["n"] == 150
