"""Operations whose replies were lost, or whose commands were carried out twice: done again, they count once."""

from datetime import timedelta

import pytest

from coatcheck import AtLimit, Keyring, SessionLimitReached, SessionPolicy, SessionRevoked, StoreUnavailable
from coatcheck.engine.operations import Operations
from coatcheck.runtime.sync import run
from tests.fix_line import ENDS, KEEPS_THE_OLD, OPERATIONS, SAVES, anonymous, interrupted, signed_in


def send_twice_with_another_write_between(line, sound, session, counted=0):
    """From now on let commands be sent twice; between the first and its repetition another process writes."""

    def write_something_else():
        line.between = None
        theirs = run(sound.find(session.handle))
        theirs["c"] = 3
        theirs.increment("n", counted)
        run(sound.save(theirs))

    line.sends_twice, line.between = True, write_something_else


@pytest.mark.requirement("R43")
@pytest.mark.parametrize("name", [*sorted(KEEPS_THE_OLD), *sorted(ENDS)])
def test_operation_again_after_a_lost_reply(name, brittle, line, sound):
    """An operation whose reply was lost can be done again: it counts once and leaves one session, listed once."""
    _, operate = OPERATIONS[name]
    for _, session in interrupted(name, brittle, line, sound, after_sending=True):
        run(operate(brittle, session) if name not in SAVES else brittle.save(session))

        listed = run(sound.list_for("ada"))
        assert len(listed) == (0 if name in ENDS else 1)
        if name in {"save", "save all"}:
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
    if name in {"save", "save all"}:
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
    send_twice_with_another_write_between(line, sound, session, counted=100)

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
    session["b"] = 2
    send_twice_with_another_write_between(line, sound, session)

    run(brittle.rotate(session))
    line.sends_twice = False
    clock.advance(timedelta(minutes=1))

    assert dict(run(sound.load(session.identifier))) == {"a": 1, "n": 10, "b": 2, "c": 3}


@pytest.mark.requirement("R43")
@pytest.mark.requirement("R29")
@pytest.mark.parametrize("change", [{}, {"b": 2}], ids=["alone", "with a change"])
def test_rotation_again_after_a_lost_reply(change, brittle, line, sound, clock):
    """A rotation whose reply was lost, done again, gives its owner the secret that was stored, not the former one."""
    for _, session in interrupted("rotate", brittle, line, sound, after_sending=True):
        session.update(change)
        run(brittle.rotate(session))
        clock.advance(timedelta(minutes=1))

        assert run(sound.load(session.identifier)) is not None


@pytest.mark.requirement("R43")
def test_strict_save_does_not_conflict_with_itself(brittle, line, sound):
    """A strict save that was sent twice, with another write between, does not take its own change for another's."""
    session = anonymous(brittle)
    session.strict = True
    session["b"] = 2
    send_twice_with_another_write_between(line, sound, session)

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
