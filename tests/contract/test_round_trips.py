"""What each operation costs: the commands that it sends, as its description says."""

from datetime import timedelta

import pytest

from coatcheck import SessionPolicy
from tests import near_mode


@pytest.fixture
def warm(open_sessions, server):
    """Give sessions that know the time, on a server that knows the scripts."""
    sessions = open_sessions()
    for name in ("ada", "bob"):
        session = sessions.create({"a": 1})
        sessions.bind(session, name)
        sessions.rotate(session)
        sessions.list_for(name)
        sessions.unbind(session)
        sessions.revoke_all(name)
    sessions.sweep()
    server.client.flushdb()
    return sessions


@pytest.fixture
def sent(server):
    """Give a function that says which commands a call sends."""

    def names(call):
        with server.commands() as commands:
            call()
        return [command.split()[0] for command in commands]

    return names


def test_create(warm, sent):
    """Creating a session is one script."""
    assert sent(lambda: warm.create({"a": 1})) == ["EVALSHA"]


@pytest.mark.skipif(near_mode.IS_ON, reason=near_mode.LOADS_SEND_NOTHING)
def test_load_and_find(warm, sent):
    """Loading and finding are one GET each, unknown or not."""
    session = warm.create({"a": 1})
    assert sent(lambda: warm.load(session.identifier)) == ["MGET"]
    assert sent(lambda: warm.find(session.handle)) == ["MGET"]
    warm.revoke(session.handle)
    assert sent(lambda: warm.load(session.identifier)) == ["MGET"]


@pytest.mark.requirement("R39")
def test_save(warm, sent):
    """Saving is one script if anything was changed, else nothing."""
    session = warm.create({"a": 1})
    loaded = warm.load(session.identifier)
    assert sent(lambda: warm.save(loaded)) == []
    loaded["a"] = 2
    loaded.rotate()
    loaded.set_timeouts(persistent=False)
    assert sent(lambda: warm.save(loaded)) == ["EVALSHA"]


def test_touch(warm, sent, clock):
    """Touching is one script, if it is due."""
    session = warm.create({"a": 1})
    assert sent(lambda: warm.touch(session)) == []
    clock.advance(timedelta(minutes=4))
    assert sent(lambda: warm.touch(session)) == ["EVALSHA"]


def test_sign_in_and_out(warm, sent):
    """A sign-in is one script, and one more to end an anonymous session; a sign-out is two."""
    new = warm.new()
    assert sent(lambda: warm.bind(new, "ada")) == ["EVALSHA"]
    assert sent(lambda: warm.bind(new, "ada")) == ["EVALSHA"]
    assert sent(lambda: warm.bind(new, "bob")) == ["EVALSHA"] * 2
    new["a"] = 1
    assert sent(lambda: warm.unbind(new)) == ["EVALSHA"] * 2
    assert sent(lambda: warm.bind(new, "ada")) == ["EVALSHA"] * 2


def test_revoke(warm, sent):
    """Ending a session is one script, and a GET before it where only the handle is known."""
    for subject, commands in (({}, ["MGET", "EVALSHA"]), ({"subject": "ada"}, ["EVALSHA"])):
        session = warm.new()
        warm.bind(session, "ada")
        assert sent(lambda session=session, subject=subject: warm.revoke(session.handle, **subject)) == commands
    session = warm.create({"a": 1})
    assert sent(lambda: warm.revoke(session)) == ["EVALSHA"]


def test_of_a_subject(warm, sent):
    """Listing and ending all sessions of a subject are one script each, up to a page of them."""
    for _ in range(199):
        warm.bind(warm.new(), "ada")

    assert sent(lambda: warm.list_for("ada")) == ["EVALSHA"]
    assert sent(lambda: warm.revoke_all("ada")) == ["EVALSHA"]


def test_sweep(warm, sent):
    """Sweeping is one script for each of the 256 partitions."""
    assert sent(warm.sweep) == ["EVALSHA"] * 256


@pytest.mark.parametrize("call", ["sweep", "read_events"])
def test_others_get_their_turn(warm, monkeypatch, call):
    """No more than eight of the scripts that may be long are sent in one go: the server serves others in between."""
    transport, sizes = getattr(warm, "core", warm)._store.transport, []
    carry = transport.call

    async def count(*commands):
        sizes.append(len(commands))
        return await carry(*commands)

    monkeypatch.setattr(transport, "call", count)
    getattr(warm, call)(*(["group", "one"] if call == "read_events" else []))

    assert sizes == [8] * 32


def test_limit(open_sessions, warm, sent):
    """Keeping the limit costs nothing more."""
    sessions = open_sessions(policy=SessionPolicy(limit=1))
    sessions.create({"warm": 1})
    sessions.bind(sessions.new(), "ada")

    assert sent(lambda: sessions.bind(sessions.new(), "ada")) == ["EVALSHA"]


@pytest.mark.skipif(near_mode.IS_ON, reason=near_mode.LOADS_SEND_NOTHING)
def test_first_call(open_sessions, warm, sent):
    """The first call of a process asks for the server's time beside it, or before a write."""
    session = warm.create({"a": 1})

    assert sent(lambda: open_sessions(clock=None).load(session.identifier))[-2:] == ["MGET", "TIME"]


def test_ending_many(warm, sent):
    """Ending a subject's sessions is a script for each 250 of them, however many there are."""
    for _ in range(501):
        warm.bind(warm.new(), "ada")

    assert sent(lambda: warm.revoke_all("ada")) == ["EVALSHA"] * 3


def test_sweeping_many(warm, sent, clock):
    """Sweeping is a script for each 50 entries that are due in a partition, and one where there are fewer."""
    for _ in range(101):
        warm.bind(warm.new(), "ada")
    clock.advance(timedelta(minutes=31))

    assert sent(warm.sweep) == ["EVALSHA"] * (256 + 2)
