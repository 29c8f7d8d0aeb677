"""Ending sessions: one, by whom it belongs to, or all of a subject's."""

import re

import pytest

from coatcheck import RecordCorrupted, SessionPolicy, Status
from coatcheck.model.ticket import Handle


def signed_in(sessions, subject, count=1):
    """Sign *subject* in, *count* times."""
    found = []
    for _ in range(count):
        session = sessions.new()
        session["n"] = len(found)
        sessions.bind(session, subject)
        found.append(session)
    return found


@pytest.mark.parametrize("how", ["session", "loaded", "handle", "text"])
@pytest.mark.parametrize("subject", [None, "ada"])
def test_revoke(sessions, server, how, subject):
    """A session ends at once, by itself, its handle or the handle's text, and leaves nothing behind."""
    session = sessions.create({"a": 1})
    if subject:
        sessions.bind(session, subject)
    identifier = session.identifier
    target = {
        "session": session,
        "loaded": sessions.load(identifier),
        "handle": session.handle,
        "text": str(session.handle),
    }[how]

    assert sessions.revoke(target) is True

    assert sessions.load(identifier) is None
    assert server.left() == []


def test_revoke_again(sessions):
    """Ending a session that has ended says that there was none."""
    session = sessions.create({"a": 1})
    handle = session.handle
    sessions.revoke(session)

    assert sessions.revoke(session) is False
    assert sessions.revoke(handle) is False
    assert session.status is Status.REVOKED


def test_revoke_of_a_new_session(sessions, server):
    """A session that was never stored can be ended; nothing is sent."""
    session = sessions.new()
    with server.commands() as commands:
        assert sessions.revoke(session) is False

    assert commands == []
    assert session.status is Status.REVOKED


@pytest.mark.parametrize("subject", [None, "ada"])
@pytest.mark.parametrize("garbage", ["", "x", "00.****************", "é" * 19, "00.AAAAAAAAAAAAAAAA\n"])
def test_revoke_of_garbage(sessions, server, garbage, subject):
    """What is no handle ends nothing, and the store is not asked."""
    with server.commands() as commands:
        assert sessions.revoke(garbage, subject=subject) is False

    assert commands == []


@pytest.mark.requirement("R23")
def test_revoke_of_somebody_elses_session(sessions):
    """With a subject given only that subject's sessions end, whichever handle a user sends."""
    (mine,), (theirs,) = signed_in(sessions, "ada"), signed_in(sessions, "bob")
    anonymous = sessions.create({"a": 1})
    same_partition = Handle.new(mine.handle.partition)

    for handle in (theirs.handle, str(theirs.handle), anonymous.handle, same_partition, Handle.new()):
        assert sessions.revoke(handle, subject="ada") is False

    assert all(sessions.load(session.identifier) for session in (mine, theirs, anonymous))
    assert sessions.revoke(str(mine.handle), subject="ada") is True
    assert sessions.load(mine.identifier) is None


@pytest.mark.requirement("R23")
def test_revoke_of_an_anonymous_session_in_the_subjects_partition(sessions):
    """Being in the same partition does not make a session a subject's own."""
    (mine,) = signed_in(sessions, "ada")
    anonymous = sessions.create({"a": 1})
    while anonymous.handle.partition != mine.handle.partition:
        anonymous = sessions.create({"a": 1})

    assert sessions.revoke(anonymous.handle, subject="ada") is False
    assert sessions.load(anonymous.identifier) is not None


def test_revoke_of_a_session_object_of_another_subject(sessions):
    """A session object and a subject that contradict each other are a mistake of the caller."""
    (mine,) = signed_in(sessions, "ada")

    with pytest.raises(ValueError, match="the session is another subject's"):
        sessions.revoke(mine, subject="bob")

    assert sessions.load(mine.identifier) is not None


def test_revoke_of_a_corrupted_record(sessions, server):
    """A record that does not open can be ended all the same."""
    session = sessions.create({"a": 1})
    (name,) = server.left()
    server.client.setrange(name, 90, b"damaged")
    with pytest.raises(RecordCorrupted):
        sessions.load(session.identifier)

    assert sessions.revoke(session.handle) is True
    assert server.left() == []


def test_revoke_of_a_subjects_corrupted_record(sessions, server):
    """A subject can end its own session though its record does not open."""
    (session,) = signed_in(sessions, "ada")
    (name,) = server.keys(":s:")
    server.client.setrange(name, 90, b"damaged")

    assert sessions.revoke(session.handle, subject="ada") is True
    assert server.left() == []


@pytest.mark.requirement("R21")
def test_revoke_all(sessions):
    """All sessions of a subject end, nobody else's."""
    mine, theirs = signed_in(sessions, "ada", 3), signed_in(sessions, "bob", 2)

    assert sessions.revoke_all("ada") == 3

    assert all(sessions.load(session.identifier) is None for session in mine)
    assert all(sessions.load(session.identifier) is not None for session in theirs)
    assert sessions.revoke_all("ada") == 0
    assert sessions.list_for("ada") == []


@pytest.mark.requirement("R22")
@pytest.mark.parametrize("as_text", [True, False])
def test_revoke_all_but_one(sessions, as_text):
    """The session to keep goes on; the others end."""
    kept, *others = signed_in(sessions, "ada", 4)

    assert sessions.revoke_all("ada", keep=str(kept.handle) if as_text else kept.handle) == 3

    assert sessions.load(kept.identifier) is not None
    assert all(sessions.load(session.identifier) is None for session in others)
    assert [info.handle for info in sessions.list_for("ada")] == [kept.handle]


def test_revoke_all_but_somebody_elses(sessions):
    """To keep a session that is not the subject's keeps none."""
    mine, (theirs,) = signed_in(sessions, "ada", 2), signed_in(sessions, "bob")

    assert sessions.revoke_all("ada", keep=theirs.handle) == 2
    assert all(sessions.load(session.identifier) is None for session in mine)


def test_revoke_all_but_garbage(sessions):
    """A session to keep that cannot be is a mistake of the caller: nothing ends."""
    (mine,) = signed_in(sessions, "ada")

    with pytest.raises(ValueError, match="keep is not a session handle"):
        sessions.revoke_all("ada", keep="garbage")

    assert sessions.load(mine.identifier) is not None


@pytest.mark.requirement("R21")
@pytest.mark.parametrize("is_kept", [True, False])
def test_revoke_all_of_very_many(sessions, server, is_kept):
    """More than fit in one step end too, counted exactly, with or without one to keep."""
    found = signed_in(sessions, "ada", 251 if is_kept else 250)
    found += signed_in(sessions, "ada", 205)
    keep = found[200].handle if is_kept else None

    assert sessions.revoke_all("ada", keep=keep) == 455

    assert len(server.keys(":s:")) == int(is_kept)
    assert server.keys_without_ttl() == []


@pytest.mark.requirement("R19")
def test_revoked_session_is_refused_by_every_process(open_sessions):
    """After a revocation has returned, no other process accepts the session, touches or saves it."""
    one, other = open_sessions(), open_sessions()
    session = one.create({"a": 1})
    theirs = other.load(session.identifier)
    other.save(theirs)

    one.revoke(session.handle)

    assert other.load(session.identifier) is None
    assert other.find(session.handle) is None


@pytest.mark.requirement("R60")
def test_revocation_is_logged_by_handle(sessions, logged):
    """The log names the handles that ended, and how many of a subject's, but not the subject."""
    (mine,) = signed_in(sessions, "secretive")
    handle = mine.handle
    sessions.revoke(mine)
    sessions.revoke_all("secretive")

    assert [record.handle for record in logged("session_revoked")] == [str(handle)]
    assert [record.count for record in logged("sessions_revoked")] == [0]
    assert not any(re.search("secretive", str(record.__dict__)) for record in logged() if record.name == "coatcheck")


def test_revoke_all_frees_the_limit(open_sessions):
    """After all sessions of a subject were ended, as many can be opened again."""
    sessions = open_sessions(policy=SessionPolicy(limit=2))
    signed_in(sessions, "ada", 2)
    sessions.revoke_all("ada")

    assert len(signed_in(sessions, "ada", 2)) == len(sessions.list_for("ada")) == 2


@pytest.mark.requirement("R23")
@pytest.mark.parametrize("nobody", [None, ""])
def test_nobody_ends_nobodys_session(sessions, nobody):
    """A visitor who is not signed in, and so has no subject, cannot end a session by its handle."""
    (mine,) = signed_in(sessions, "ada")

    assert sessions.revoke(str(mine.handle), subject=nobody) is False

    assert sessions.load(mine.identifier) is not None


@pytest.mark.parametrize("call", ["list_for", "revoke_all"])
def test_a_subject_is_a_text(sessions, call):
    """A subject that is not a str is refused with what to do: 7 and "7" must not be two people."""
    with pytest.raises(TypeError, match=r"^a subject is a str, not int: pass str\(subject\)$"):
        getattr(sessions, call)(7)
