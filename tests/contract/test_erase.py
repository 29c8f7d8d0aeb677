"""Everything that is kept of a subject is removed: the store is searched for what stood for it."""

from datetime import timedelta

import pytest

import coatcheck
from coatcheck import AtLimit, EventType, SessionLimitReached, SessionPolicy
from coatcheck.engine import erasure

MINUTE = timedelta(minutes=1)
POLICY = SessionPolicy(compartments={"cart": 10 * MINUTE}, limit=3)


def signed_in(sessions, subject="ada"):
    """Sign *subject* in on a session with a compartment and activity."""
    session = sessions.create({"a": 1})
    sessions.bind(session, subject)
    session.compartment("cart")["items"] = ["book"]
    session.record("view", page="home")
    sessions.save(session)
    return session


def lived(sessions, clock, subject="ada"):
    """Let *subject* do all that is told of; give the handles that the subject's sessions have had."""
    known = [signed_in(sessions, subject) for _ in range(4)]
    handles = [session.handle for session in known]
    sessions.rotate(known[-1])
    sessions.bind(known[-1], subject)
    handles.append(known[-1].handle)
    sessions.revoke(known[-2].handle, by="support", why="lost phone")
    clock.advance(31 * MINUTE)
    sessions.sweep()
    fresh = [signed_in(sessions, subject) for _ in range(2)]
    sessions.unbind(fresh.pop())
    return [*handles, *(session.handle for session in fresh)]


def everything(server):
    """Give all that the store can be asked for: names of keys and what they hold, as one text."""
    client, names = server.client, server.keys()
    read = {b"string": client.get, b"zset": lambda name: client.zrange(name, 0, -1), b"stream": client.xrange}
    return "\n".join(repr((name, read[client.type(name)](name))) for name in names)


def traces(server, sessions, subject, handles):
    """Say which handles and digests of the subject are found in the store."""
    text = everything(server)
    names = [*(handle.name for handle in handles), *sessions.subject_digests(subject)]
    return {name for name in names if name in text}


@pytest.mark.requirement("R60")
def test_nothing_is_left(open_sessions, server, clock):
    """Neither a handle nor a digest of the subject is left anywhere; what is other people's stays."""
    sessions = open_sessions(policy=POLICY)
    other = signed_in(sessions, "bob")
    handles = lived(sessions, clock)
    other = signed_in(sessions, "bob")
    assert traces(server, sessions, "ada", handles)

    assert sessions.erase("ada") == 1

    assert traces(server, sessions, "ada", handles) == set()
    assert len(traces(server, sessions, "bob", [other.handle])) == 2
    assert sessions.load(other.identifier).compartment("cart")["items"] == ["book"]
    assert {event.subject_digest for event in sessions.read_events("late", "one")} >= sessions.subject_digests("bob")
    assert sessions.erase("ada") == 0


@pytest.mark.requirement("R60")
def test_under_every_key(open_sessions, server, clock, key):
    """While sealing keys are rotated the subject's traces under the former key go too."""
    old = open_sessions(policy=POLICY)
    handles = lived(old, clock)
    new = open_sessions(policy=POLICY, keys=[coatcheck.new_key(), key])
    handles += lived(new, clock)

    new.erase("ada")

    assert len(new.subject_digests("ada")) == 2
    assert traces(server, new, "ada", handles) == set()


@pytest.mark.requirement("R60")
def test_refused_sign_ins(open_sessions, server):
    """Events of sign-ins that were refused go too."""
    sessions = open_sessions(policy=SessionPolicy(limit=1, at_limit=AtLimit.REFUSE))
    session = signed_in_plainly(sessions)
    with pytest.raises(SessionLimitReached):
        signed_in_plainly(sessions)

    assert sessions.erase("ada") == 1

    assert traces(server, sessions, "ada", [session.handle]) == set()
    types = [event.type for event in sessions.read_events("late", "one")]
    assert set(types) <= {EventType.CREATED}


def signed_in_plainly(sessions):
    """Sign ada in."""
    session = sessions.new()
    sessions.bind(session, "ada")
    return session


@pytest.mark.requirement("R60")
def test_record_that_does_not_open(open_sessions, server):
    """A record that is damaged, and events that know its handle only, go with the subject."""
    sessions = open_sessions(policy=POLICY)
    handles = [signed_in(sessions).handle for _ in range(2)]
    for handle in handles:
        (name,) = server.keys(f":s:{handle.name}")
        server.client.setrange(name, 100, b"\x00\x00\x00")
    sessions.revoke(handles[0])

    sessions.erase("ada")

    assert traces(server, sessions, "ada", handles) == set()


@pytest.mark.requirement("R60")
def test_many_events(open_sessions, server, monkeypatch):
    """More than fits in one step is removed, between events of others of the same partition."""
    monkeypatch.setattr(erasure, "_STEP", 7)
    sessions = open_sessions()
    handles = [signed_in_plainly(sessions).handle for _ in range(60)]
    (stream,) = server.keys("}:e")
    for number in range(60):
        event = {"t": "created", "h": f"{number:016}", "s": "", "at": 1, "by": "", "why": ""}
        server.client.xadd(stream, event)
    session = signed_in_plainly(sessions)

    assert sessions.erase("ada") == 61

    assert traces(server, sessions, "ada", [*handles, session.handle]) == set()
    assert server.client.xlen(stream) == 60
    assert server.keys_without_ttl() == []


@pytest.mark.requirement("R60")
def test_no_step_is_long(open_sessions, server):
    """With 20,000 events and index entries of others around, no command takes 5 ms of the server's time."""
    sessions = open_sessions()
    session = signed_in_plainly(sessions)
    (stream,), (index,) = server.keys("}:e"), server.keys("}:x")
    pipeline = server.client.pipeline(transaction=False)
    for number in range(20_000):
        handle = f"{number:016}"
        pipeline.xadd(stream, {"t": "created", "h": handle, "s": "", "at": 1, "by": "", "why": ""})
        pipeline.zadd(index, {handle + "x" * 16: 10**15 + number})
    pipeline.execute()
    attempts = [_slow_commands_of_erasing(server, sessions) for _ in range(3)]  # a busy machine is slow by chance

    assert traces(server, sessions, "ada", [session.handle]) == set()
    assert [] in attempts


def _slow_commands_of_erasing(server, sessions):
    signed_in_plainly(sessions)
    for node in server.nodes:
        node.config_set("slowlog-log-slower-than", 5000)
        node.slowlog_reset()
    try:
        sessions.erase("ada")
        return [entry["command"] for node in server.nodes for entry in node.slowlog_get()]
    finally:
        for node in server.nodes:
            node.config_set("slowlog-log-slower-than", 10_000)


def test_nobody(sessions):
    """To erase a subject of whom nothing is kept is no error."""
    assert sessions.erase("nobody") == 0


@pytest.mark.requirement("R60")
def test_log_names_nobody(sessions, logged):
    """The log says that somebody was erased and how many sessions ended, not who."""
    signed_in_plainly(sessions)
    sessions.erase("ada")

    (record,) = logged("subject_erased")
    assert record.count == 1
    assert "ada" not in {str(value) for value in vars(record).values()}
