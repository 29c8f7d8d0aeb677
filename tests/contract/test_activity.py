"""Activity: what was done in a session, in order, capped, sealed, and read back."""

from datetime import UTC, datetime, timedelta

import pytest

from coatcheck import SessionPolicy, SessionRevoked

MINUTE = timedelta(minutes=1)


def shown(entries):
    """List the names of entries."""
    return [entry.name for entry in entries]


def viewed(sessions, *names, **fields):
    """Store a session in which *names* were done, one request each."""
    session = sessions.create({"a": 1})
    for name in names:
        loaded = sessions.load(session.identifier)
        loaded.record(name, **fields)
        sessions.save(loaded)
    return session


def test_newest_first_and_oldest_first(sessions):
    """Entries come back in the order in which they were saved, either way."""
    session = viewed(sessions, "one", "two", "three")

    assert shown(sessions.activity(session)) == ["three", "two", "one"]
    assert shown(sessions.activity(session.handle, newest_first=False)) == ["one", "two", "three"]
    assert shown(sessions.activity(str(session.handle), limit=2)) == ["three", "two"]


def test_entries_of_one_request_keep_their_order(sessions):
    """Several entries of one request stand in the order of their recording."""
    session = sessions.create({"a": 1})
    for number in range(5):
        session.record(f"step{number}")
    sessions.save(session)

    assert shown(sessions.activity(session, newest_first=False)) == [f"step{number}" for number in range(5)]


def test_fields_and_time(sessions, clock):
    """An entry carries its fields and the store's time."""
    session = sessions.create({"a": 1})
    before = clock.now()
    session.record("view_product:123", price=3, tags=["a"])
    sessions.save(session)
    (entry,) = sessions.activity(session)

    assert entry.fields == {"price": 3, "tags": ["a"]}
    assert before - 5 <= entry.at.timestamp() * 1000 <= clock.now() + 5
    assert entry.at.tzinfo is UTC


def test_between_two_times(sessions, clock):
    """Activity is read between two instants."""
    session = viewed(sessions, "one")
    for name in ("two", "three"):
        clock.advance(MINUTE)
        loaded = sessions.load(session.identifier)
        loaded.record(name)
        sessions.save(loaded)
    _, middle, _ = sessions.activity(session)

    assert shown(sessions.activity(session, since=middle.at)) == ["three", "two"]
    assert shown(sessions.activity(session, until=middle.at)) == ["two", "one"]
    assert shown(sessions.activity(session, since=middle.at, until=middle.at)) == ["two"]


def test_capped(open_sessions):
    """Only the latest entries are kept, as many as the policy says."""
    sessions = open_sessions(policy=SessionPolicy(activity_kept=3))
    session = viewed(sessions, *"abcde")

    assert shown(sessions.activity(session)) == ["e", "d", "c"]


def test_no_round_trip_of_its_own(sessions):
    """What a request records goes along with what it saves."""
    session = sessions.create({"a": 1})
    loaded = sessions.load(session.identifier)
    loaded["a"] = 2
    loaded.record("view")
    core = getattr(sessions, "core", None) or sessions._sessions
    calls, call = [], core._store.transport.call

    async def counted(*commands):
        calls.append(len(commands))
        return await call(*commands)

    core._store.transport.call = counted
    sessions.save(loaded)

    assert calls == [2]
    assert shown(sessions.activity(session)) == ["view"]


def test_goes_along_with_a_touch(sessions, server, clock):
    """What a request records goes along with its touch, once, and the session's record is not written."""
    session = sessions.create({"a": 1})
    for _ in range(2):  # the first time, the server may have to be told the scripts
        clock.advance(4 * MINUTE)
        loaded = sessions.load(session.identifier)
        loaded.record("view")
        with server.commands() as commands:
            sessions.save(loaded)
            sessions.save(loaded)

    assert [command.split()[0] for command in commands] == ["EVALSHA", "EVALSHA"]  # the touch, and what was recorded
    assert shown(sessions.activity(session)) == ["view", "view"]


def test_recording_makes_a_session(sessions):
    """To record something in a new session is to write: the session is stored."""
    session = sessions.new()
    session.record("landed")
    sessions.save(session)

    assert shown(sessions.activity(session)) == ["landed"]


@pytest.mark.requirement("R14")
def test_after_the_end(sessions, server):
    """Nothing is recorded in a session that has ended, and what was is gone."""
    session = viewed(sessions, "one")
    loaded = sessions.load(session.identifier)
    loaded.record("two")
    sessions.revoke(session.handle)

    with pytest.raises(SessionRevoked):
        sessions.save(loaded)

    assert server.keys(":a:") == []
    assert sessions.activity(session.handle) == []


@pytest.mark.requirement("R13")
def test_key_ends_with_the_absolute_deadline(sessions, server):
    """The activity's key lives until the session's absolute deadline."""
    viewed(sessions, "one")
    (name,) = server.keys(":a:")

    assert 0 < server.client.pttl(name) <= 12 * 3600 * 1000
    assert server.keys_without_ttl() == []


def test_sealed(sessions, server):
    """Neither names nor fields of activity can be read in the store."""
    viewed(sessions, "view_secret_product", price="canary")

    assert not any(b"secret" in content or b"canary" in content for content in server.contents().values())


def test_sign_in_begins_anew(sessions):
    """The anonymous activity ends with the sign-in; what that request has recorded begins the new one."""
    session = viewed(sessions, "browse")
    loaded = sessions.load(session.identifier)
    loaded.record("sign in")
    sessions.bind(loaded, "ada")

    assert shown(sessions.activity(loaded)) == ["sign in"]
    assert sessions.activity(session.handle) == []


@pytest.mark.requirement("R38")
def test_100_parallel_requests(sessions, at_once):
    """100 requests that record at once leave 100 entries."""
    session = sessions.create({"a": 1})
    loaded = [sessions.load(session.identifier) for _ in range(100)]
    for number, each in enumerate(loaded):
        each.record(f"view{number}")
    assert at_once(*((sessions, "save", each) for each in loaded)) == [None] * 100

    assert sorted(shown(sessions.activity(session, limit=200))) == sorted(f"view{number}" for number in range(100))


@pytest.mark.parametrize("name", ["", "x" * 201])
def test_bad_name(sessions, name):
    """A name of no or too many characters is refused where it is recorded."""
    with pytest.raises(ValueError, match="1 to 200"):
        sessions.new().record(name)


def test_too_large(sessions):
    """An entry has an upper size."""
    with pytest.raises(ValueError, match="at most"):
        sessions.new().record("x", text="y" * 9000)


def test_instants_need_an_offset(sessions):
    """A time without its offset from UTC is refused."""
    with pytest.raises(ValueError, match="UTC"):
        sessions.activity(sessions.create({"a": 1}), since=datetime(2026, 1, 1))  # noqa: DTZ001  that is the point
