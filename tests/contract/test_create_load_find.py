"""Creating, loading and finding sessions, through both facades on a real server."""

from datetime import timedelta

import pytest

import coatcheck
from coatcheck import ConfigurationError, RecordCorrupted, Status
from coatcheck.model.ticket import Handle, Ticket

MALFORMED = [
    pytest.param("", id="empty"),
    pytest.param("x", id="short"),
    pytest.param("x" * 51, id="another format"),
    pytest.param("A" * 51, id="format 0"),
    pytest.param("A" * 52, id="long"),
    pytest.param("A" * 100_000, id="very long"),
    pytest.param("é" * 51, id="not ASCII"),
    pytest.param("A" * 50 + "\n", id="line break"),
    pytest.param("A" * 50 + "=", id="padded"),
    pytest.param("A" * 50 + "\0", id="NUL"),
]


def test_load_gives_back_what_was_stored(sessions):
    """A stored session comes back with its attributes, by its identifier."""
    stored = sessions.create({"cart": ["book"], "count": 1})

    loaded = sessions.load(stored.identifier)

    assert dict(loaded) == {"cart": ["book"], "count": 1}
    assert loaded.status is Status.CLEAN
    assert loaded.handle == stored.handle


def test_create_without_attributes(sessions):
    """A session created with nothing in it is stored all the same."""
    stored = sessions.create()

    loaded = sessions.load(stored.identifier)

    assert loaded is not None
    assert dict(loaded) == {}


def test_load_takes_a_ticket(sessions):
    """What was parsed already need not be parsed again."""
    stored = sessions.create({"a": 1})

    assert dict(sessions.load(Ticket.parse(stored.identifier))) == {"a": 1}


def test_new_session_is_nowhere(sessions, server):
    """A session that was begun but not saved is not stored, has no name and no deadlines."""
    session = sessions.new()
    session["a"] = 1

    assert (session.handle, session.identifier, session.created_at) == (None, None, None)
    assert (session.idle_deadline, session.absolute_deadline, sessions.remaining(session)) == (None, None, 0)
    assert session.status is Status.NEW
    assert server.left() == []


@pytest.mark.requirement("R2")
def test_load_of_an_unknown_identifier(sessions, server):
    """A well-formed identifier that nobody was given opens nothing, and leaves no trace."""
    forged = Ticket.new(Handle.new())

    assert sessions.load(forged.identifier) is None
    assert server.left() == []


def test_load_with_a_forged_secret(sessions):
    """The handle alone opens nothing: the secret must be right."""
    stored = sessions.create({"a": 1})

    assert sessions.load(Ticket.new(stored.handle).identifier) is None


@pytest.mark.requirement("R55")
@pytest.mark.parametrize("identifier", MALFORMED)
def test_load_of_a_malformed_identifier(sessions, server, identifier):
    """A malformed identifier is no session, and the store is not asked."""
    with server.commands() as commands:
        found = sessions.load(identifier)

    assert found is None
    assert commands == []


@pytest.mark.requirement("R55")
def test_load_of_another_spelling(sessions, server):
    """Only one spelling of an identifier is accepted: the unused low bits of its last character are zero."""
    identifier = sessions.create({"a": 1}).identifier
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = identifier[:-1] + alphabet[alphabet.index(identifier[-1]) + 1]

    with server.commands() as commands:
        found = sessions.load(other)

    assert found is None
    assert commands == []


@pytest.mark.requirement("R10")
def test_idle_timeout_ends_a_session(sessions, clock):
    """A session unused for its idle timeout cannot be loaded, whatever the browser keeps."""
    stored = sessions.create({"a": 1})

    clock.advance(timedelta(minutes=31))

    assert sessions.load(stored.identifier) is None
    assert sessions.find(stored.handle) is None


@pytest.mark.requirement("R11")
def test_absolute_deadline_is_checked(sessions, clock):
    """A session past its absolute deadline is not given out, even while its key is still there."""
    stored = sessions.create({"a": 1})

    clock.moved += 12 * 60 * 60 * 1000

    assert sessions.load(stored.identifier) is None
    assert sessions.find(stored.handle) is None


def test_find_by_handle(sessions):
    """A session is found by its handle or the handle's text; its identifier stays unknown."""
    stored = sessions.create({"a": 1})

    by_handle, by_text = sessions.find(stored.handle), sessions.find(str(stored.handle))

    assert dict(by_handle) == dict(by_text) == {"a": 1}
    assert by_handle.identifier is by_text.identifier is None


def test_found_session_can_be_changed(sessions):
    """What an administrator writes to a session that was found, its owner reads."""
    stored = sessions.create({"a": 1})
    found = sessions.find(stored.handle)

    found["note"] = "seen"
    sessions.save(found)

    assert dict(sessions.load(stored.identifier)) == {"a": 1, "note": "seen"}
    assert found.identifier is None


def test_found_session_is_not_used(sessions, server, clock):
    """Looking at somebody's session does not keep it alive."""
    stored = sessions.create({"a": 1})
    clock.advance(timedelta(minutes=20))

    sessions.save(sessions.find(stored.handle))
    clock.advance(timedelta(minutes=11))

    assert sessions.load(stored.identifier) is None


@pytest.mark.parametrize("handle", ["", "garbage", "00.", "zz.AAAAAAAAAAAAAAAA", "00.AAAAAAAAAAAAAAA*", "0" * 9999])
def test_find_of_garbage(sessions, server, handle):
    """What is no handle names no session, and the store is not asked."""
    with server.commands() as commands:
        found = sessions.find(handle)

    assert found is None
    assert commands == []


def test_remaining_counts_down(sessions, clock):
    """The seconds left until the absolute deadline are counted from now, not from the last save."""
    stored = sessions.create({"a": 1})
    clock.advance(timedelta(minutes=20))

    loaded = sessions.load(stored.identifier)

    assert sessions.remaining(loaded) == pytest.approx(11 * 3600 + 40 * 60, abs=2)


def _only_record(server):
    (name,) = server.keys(":s:")
    return name


@pytest.mark.requirement("R37")
@pytest.mark.parametrize(("at", "value"), [(0, 2), (0, 0), (0, 255), (1, 0x40), (1, 0x80)])
def test_unknown_format(sessions, server, at, value):
    """A record of an unknown format or with unknown flags fails closed, and is preserved."""
    stored = sessions.create({"a": 1})
    name = _only_record(server)
    record = bytearray(server.client.get(name))
    record[at] = value
    server.client.set(name, bytes(record), keepttl=True)

    with pytest.raises(RecordCorrupted, match="unknown to this version"):
        sessions.load(stored.identifier)
    with pytest.raises(RecordCorrupted, match="unknown to this version"):
        sessions.find(stored.handle)

    assert server.client.get(name) == bytes(record)
    assert server.client.pttl(name) > 0


def test_truncated_record(sessions, server):
    """A record cut short does not open."""
    stored = sessions.create({"a": 1})
    server.client.set(_only_record(server), b"\1", px=60_000)

    with pytest.raises(RecordCorrupted, match="a record is too short"):
        sessions.load(stored.identifier)


@pytest.mark.requirement("R36")
def test_record_of_a_lost_key(open_sessions, server, logged):
    """A record whose key is not in the ring counts as none; it stays, and the log names the key and what to do."""
    sessions = open_sessions()
    stored = sessions.create({"a": 1})
    other = open_sessions(keys=coatcheck.new_key())

    assert other.load(stored.identifier) is None
    assert other.find(stored.handle) is None

    assert "Keep former keys in the ring until their last session has ended" in logged()[-1].getMessage()
    assert dict(sessions.load(stored.identifier)) == {"a": 1}


@pytest.mark.requirement("R2")
def test_sign_in_over_a_record_of_a_lost_key(open_sessions):
    """Whoever holds the cookie of a session that cannot be opened any more can sign in anew."""
    stored = open_sessions().create({"a": 1})
    other = open_sessions(keys=coatcheck.new_key())
    session = other.load(stored.identifier) or other.new()

    other.bind(session, "ada")

    assert session.identifier != stored.identifier
    assert other.load(session.identifier).subject == "ada"


def test_prefixes_never_meet(open_sessions, server):
    """Two applications that share a server and a key do not see each other's sessions."""
    one, other = open_sessions(prefix="one"), open_sessions(prefix="other")
    stored = one.create({"a": 1})
    one.bind(stored, "ada")

    assert other.load(stored.identifier) is None
    assert other.find(stored.handle) is None
    assert other.list_for("ada") == []
    assert other.revoke(stored.handle) is False
    assert other.revoke(stored.handle, subject="ada") is False
    assert other.revoke_all("ada") == 0
    assert [info.handle for info in one.list_for("ada")] == [stored.handle]


@pytest.mark.parametrize("prefix", ["a b", "{a}", "a*", "ä", "x" * 65])
def test_prefix_that_could_be_mistaken(open_sessions, prefix):
    """A prefix that would make key names ambiguous is refused, with what is allowed."""
    with pytest.raises(ConfigurationError, match=r"a prefix is 1 to 64 of the characters A-Z a-z 0-9 _ \. : / -, not"):
        open_sessions(prefix=prefix)
