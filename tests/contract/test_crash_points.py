"""Every operation, interrupted at every call to the store: before it is sent, after it, and sent twice.

The transport below stands for a process that dies or a line that breaks; the store is a real one.
"""

from datetime import timedelta

import pytest

from coatcheck import (
    AtLimit,
    EventType,
    Keyring,
    SessionLimitReached,
    SessionPolicy,
    SessionRevoked,
    StoreUnavailable,
)
from coatcheck.engine.operations import Operations
from coatcheck.runtime.address import Address
from coatcheck.runtime.blocking import BlockingTransport
from coatcheck.runtime.sync import run


class Brittle:
    """A transport that breaks at its *breaks_at*-th call from now, before or after sending it."""

    def __init__(self, url):
        self._sound = BlockingTransport(Address(url), {})
        self.breaks_at = 0
        self.after_sending = False
        self.sends_twice = False
        self.between = None

    async def call(self, *commands):
        """Carry *commands* out, or not, or twice."""
        self.breaks_at -= 1
        if self.breaks_at == 0 and not self.after_sending:
            raise StoreUnavailable("the line broke")
        replies = await self._sound.call(*commands)
        if self.breaks_at == 0:
            raise StoreUnavailable("the reply was lost")
        if self.sends_twice:
            if self.between is not None:
                self.between()
            replies = await self._sound.call(*commands)
        return replies

    async def pause(self, seconds):
        """Wait."""
        await self._sound.pause(seconds)

    def close(self):
        """Close the connections."""
        self._sound.close()


@pytest.fixture
def line(server):
    """Give the transport."""
    brittle = Brittle(server.url)
    yield brittle
    brittle.close()


@pytest.fixture
def brittle(line, key, clock):
    """Give operations over the brittle transport."""
    return Operations(line, keyring=Keyring.parse(key), clock=clock, policy=SessionPolicy(limit=3))


@pytest.fixture
def sound(line, key, clock):
    """Give operations of another process, whose line does not break."""
    transport = BlockingTransport(line._sound.address, {})
    yield Operations(transport, keyring=Keyring.parse(key), clock=clock)
    transport.close()


def anonymous(operations):
    """Make an anonymous session."""
    return run(operations.create({"a": 1, "n": 10}))


def signed_in(operations):
    """Make a session of ada's."""
    session = anonymous(operations)
    run(operations.bind(session, "ada"))
    return session


def save(operations, session):
    """Change something and save it."""
    session["b"] = 2
    session.increment("n")
    return operations.save(session)


def save_timeouts(operations, session):
    """Give a session timeouts of its own."""
    session.set_timeouts(idle=timedelta(hours=2))
    return operations.save(session)


OPERATIONS = {
    "sign in": (anonymous, lambda operations, session: operations.bind(session, "ada")),
    "sign in again": (signed_in, lambda operations, session: operations.bind(session, "ada")),
    "sign somebody else in": (signed_in, lambda operations, session: operations.bind(session, "bob")),
    "sign out": (signed_in, lambda operations, session: operations.unbind(session)),
    "rotate": (signed_in, lambda operations, session: operations.rotate(session)),
    "save": (signed_in, save),
    "save timeouts": (signed_in, save_timeouts),
    "revoke": (signed_in, lambda operations, session: operations.revoke(session)),
    "revoke by handle": (signed_in, lambda operations, session: operations.revoke(session.handle)),
    "revoke all": (signed_in, lambda operations, session: operations.revoke_all("ada")),
}
KEEPS_THE_OLD = {"rotate", "save", "save timeouts"}
ENDS = {"revoke", "revoke by handle", "revoke all"}

every_operation = pytest.mark.parametrize("name", OPERATIONS)
moments = pytest.mark.parametrize("after_sending", [False, True], ids=["before sending", "after sending"])


def interrupted(name, brittle, line, sound, after_sending):
    """Interrupt the operation at each of its calls in turn; give, for each, the old identifier and the session."""
    make, operate = OPERATIONS[name]
    for call in range(1, 20):
        run(sound.revoke_all("ada"))
        run(sound.revoke_all("bob"))
        session = make(brittle)
        old = session.identifier
        line.breaks_at, line.after_sending = call, after_sending
        try:
            run(operate(brittle, session))
        except StoreUnavailable:
            line.breaks_at = 0
            yield old, session
        else:
            assert call > 1
            return
    raise AssertionError("the operation does not come to an end")


@pytest.mark.requirement("R13")
@every_operation
@moments
def test_no_key_lives_for_ever(name, after_sending, brittle, line, sound, server):
    """Wherever an operation is interrupted, every key has a TTL."""
    for _ in interrupted(name, brittle, line, sound, after_sending):
        assert server.keys_without_ttl() == []


@pytest.mark.requirement("R28")
@every_operation
@moments
def test_never_two_signed_in(name, after_sending, brittle, line, sound):
    """Wherever an operation is interrupted, at most one of the identifiers known opens a signed-in session."""
    for old, session in interrupted(name, brittle, line, sound, after_sending):
        opened = {known: run(sound.load(known)) for known in (old, session.identifier) if known}
        handles = {found.handle for found in opened.values() if found is not None and found.subject is not None}
        assert len(handles) <= 1


@pytest.mark.requirement("R28")
@every_operation
def test_old_identifier_works_until_the_first_step(name, brittle, line, sound):
    """An operation that is interrupted before it has reached the store has changed nothing."""
    old, _ = next(interrupted(name, brittle, line, sound, after_sending=False))

    assert run(sound.load(old)) is not None


@pytest.mark.requirement("R28")
@pytest.mark.parametrize("name", ["sign in", *sorted(KEEPS_THE_OLD)])
@moments
def test_never_neither(name, after_sending, brittle, line, sound):
    """Wherever a sign-in, a rotation or a save is interrupted, the old identifier or the session's own works."""
    for old, session in interrupted(name, brittle, line, sound, after_sending):
        assert run(sound.load(old)) or run(sound.load(session.identifier))
        assert name not in KEEPS_THE_OLD or run(sound.load(old))


@pytest.mark.requirement("R43")
@pytest.mark.parametrize("name", [*sorted(KEEPS_THE_OLD), *sorted(ENDS)])
def test_operation_again_after_a_lost_reply(name, brittle, line, sound):
    """An operation whose reply was lost can be done again: it counts once and leaves one session, listed once."""
    _, operate = OPERATIONS[name]
    for _, session in interrupted(name, brittle, line, sound, after_sending=True):
        run(operate(brittle, session) if name not in {"save", "save timeouts"} else brittle.save(session))

        listed = run(sound.list_for("ada"))
        assert len(listed) == (0 if name in ENDS else 1)
        if name == "save":
            assert dict(run(sound.find(session.handle))) == {"a": 1, "n": 11, "b": 2}


@pytest.mark.requirement("R43")
@pytest.mark.requirement("R28")
def test_sign_in_again_after_a_lost_reply(brittle, line, sound):
    """A sign-in whose reply was lost can be done again; the limit holds, and nobody has the lost one's secret."""
    for old, session in interrupted("sign in", brittle, line, sound, after_sending=True):
        run(brittle.bind(session, "ada"))

        assert run(sound.load(session.identifier)).subject == "ada"
        assert run(sound.load(old)) is None
        assert len(run(sound.list_for("ada"))) <= 2


@pytest.mark.requirement("R28")
@moments
def test_sign_in_stands_though_the_former_session_could_not_be_ended(after_sending, brittle, line, sound, server):
    """Once a sign-in is stored it is no failure that the anonymous session is left: that has a TTL of its own.

    Raised, it would keep the new identifier from its owner, who might then be over the limit with it.
    """
    session = anonymous(brittle)
    line.breaks_at, line.after_sending = 2, after_sending

    run(brittle.bind(session, "ada"))

    assert run(sound.load(session.identifier)).subject == "ada"
    assert server.keys_without_ttl() == []


@pytest.mark.requirement("R43")
@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - {"sign out", "sign somebody else in"}))
def test_commands_sent_twice(name, brittle, line, sound, server):
    """Each command of an operation may be carried out twice: the outcome is that of once."""
    make, operate = OPERATIONS[name]
    session = make(brittle)
    line.sends_twice = True
    run(operate(brittle, session))
    line.sends_twice = False

    listed = run(sound.list_for("ada"))
    assert [info.handle for info in listed] == ([] if name in ENDS else [session.handle])
    assert len(server.keys(":s:")) == len(listed)
    if name == "save":
        assert dict(run(sound.load(session.identifier))) == {"a": 1, "n": 11, "b": 2}
    elif name not in ENDS:
        assert dict(run(sound.load(session.identifier))) == {"a": 1, "n": 10}
    told = [(event.type, event.handle) for event in run(sound.read_events("test", "one"))]
    assert len(told) == len(set(told))


@pytest.mark.requirement("R43")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("create", {"created"}),
        ("evict", {"bound", "evicted"}),
        ("refuse", {"refused"}),
        ("sweep", {"expired"}),
        ("revoke everyone", {"revoked"}),
    ],
)
def test_events_of_what_is_sent_twice(name, expected, brittle, line, sound, key, clock):
    """What is carried out twice is told once, also where it leaves nothing behind by which it is known."""
    refusing = Operations(
        line, keyring=Keyring.parse(key), clock=clock, policy=SessionPolicy(limit=3, at_limit=AtLimit.REFUSE)
    )
    for _ in range(3):
        signed_in(brittle)
    waiting = anonymous(brittle)
    clock.advance(timedelta(minutes=31) if name == "sweep" else timedelta(0))
    run(sound.acknowledge_events("test", run(sound.read_events("test", "one"))))
    line.sends_twice = True
    if name == "refuse":
        with pytest.raises(SessionLimitReached):
            run(refusing.bind(waiting, "ada"))
    else:
        work = {"create": brittle.create, "sweep": brittle.sweep, "revoke everyone": brittle.revoke_everyone}
        run(brittle.bind(waiting, "ada") if name == "evict" else work[name]())
    line.sends_twice = False

    told = [(event.type.value, event.partition, event.handle) for event in run(sound.read_events("test", "one"))]
    assert len(told) == len(set(told)) == {"sweep": 3, "evict": 2, "revoke everyone": 256}.get(name, 1)
    assert {kind for kind, *_ in told} == expected


@pytest.mark.requirement("R28")
@every_operation
@moments
def test_no_event_is_lost(name, after_sending, brittle, line, sound):
    """Wherever an operation is interrupted, the events tell of exactly the signed-in sessions that are there."""
    for number, _ in enumerate(interrupted(name, brittle, line, sound, after_sending)):
        events = run(sound.read_events(f"reader {number}", "one", at_most=1000))
        bound = {event.handle for event in events if event.type is EventType.BOUND}
        ended = [event.handle for event in events if event.type in {EventType.REVOKED, EventType.EVICTED}]
        listed = {info.handle for subject in ("ada", "bob") for info in run(sound.list_for(subject))}
        assert bound - set(ended) == listed
        assert len(ended) == len(set(ended))


@pytest.mark.requirement("R43")
@pytest.mark.parametrize("name", ["sign out", "sign somebody else in"])
def test_end_of_a_subjects_session_sent_twice(name, brittle, line, server):
    """Where ending the former subject's session is sent twice, nobody is signed in: it is ended, and said to be."""
    session = signed_in(brittle)
    line.sends_twice = True

    with pytest.raises(SessionRevoked):
        run(OPERATIONS[name][1](brittle, session))

    assert server.left() == []


@pytest.mark.requirement("R43")
@pytest.mark.parametrize("name", ["save", "rotate"])
def test_another_write_between_a_lost_reply_and_the_retry(name, brittle, line, sound):
    """A write of another process in between does not make a write count twice, nor lose a rotation's secret."""
    session = signed_in(brittle)
    old = session.identifier

    def write_something_else():
        line.between = None
        theirs = run(sound.find(session.handle))
        theirs["c"] = 3
        theirs.increment("n", 100)
        run(sound.save(theirs))

    line.sends_twice, line.between = True, write_something_else
    run(OPERATIONS[name][1](brittle, session))
    line.sends_twice = False

    loaded = run(sound.load(session.identifier))
    assert loaded["n"] == (111 if name == "save" else 110)
    assert loaded["c"] == 3
    assert loaded.is_superseded is False
    assert (session.identifier != old) == (name == "rotate")


@pytest.mark.requirement("R43")
@pytest.mark.requirement("R29")
def test_rotation_with_a_change_whose_reply_was_lost(brittle, line, sound, clock):
    """A rotation that also writes, sent twice with another write between, leaves its owner a secret that works."""
    session = signed_in(brittle)

    def write_something_else():
        line.between = None
        theirs = run(sound.find(session.handle))
        theirs["c"] = 3
        run(sound.save(theirs))

    session["b"] = 2
    line.sends_twice, line.between = True, write_something_else
    run(brittle.rotate(session))
    line.sends_twice = False
    clock.advance(timedelta(minutes=1))

    assert dict(run(sound.load(session.identifier))) == {"a": 1, "n": 10, "b": 2, "c": 3}


@pytest.mark.requirement("R43")
def test_strict_save_does_not_conflict_with_itself(brittle, line, sound):
    """A strict save that was sent twice, with another write between, does not take its own change for another's."""
    session = anonymous(brittle)

    def write_something_else():
        line.between = None
        theirs = run(sound.load(session.identifier))
        theirs["c"] = 3
        run(sound.save(theirs))

    session.strict = True
    session["b"] = 2
    line.sends_twice, line.between = True, write_something_else
    run(brittle.save(session))

    assert dict(run(sound.load(session.identifier))) == {"a": 1, "n": 10, "b": 2, "c": 3}


@pytest.mark.requirement("R43")
@pytest.mark.parametrize("lost", [1, 2, 3])
def test_more_counted_after_a_lost_reply(brittle, line, sound, lost):
    """What is counted after a save whose reply was lost is added to it; what that save counted counts once."""
    session = anonymous(brittle)
    for _ in range(lost):
        session.increment("n")
        line.breaks_at, line.after_sending = 1, True
        with pytest.raises(StoreUnavailable):
            run(brittle.save(session))
        line.breaks_at = 0
    session.increment("n")
    session["b"] = 2
    run(brittle.save(session))

    assert dict(run(sound.load(session.identifier))) == {"a": 1, "n": 11 + lost, "b": 2}
