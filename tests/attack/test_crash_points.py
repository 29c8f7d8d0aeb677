"""A crash at every command boundary of every operation: at each call in turn the line is cut, the process killed.

No key is left without a TTL; nobody is signed in twice; the old identifier or the new one works as long as the session
was not to end, and only one of them once the operation was carried out again.
"""

import os
from contextlib import suppress

import pytest

from coatcheck import EventType, Keyring, SessionError, SessionRevoked, StoreUnavailable
from coatcheck.engine.operations import Operations
from coatcheck.runtime.sync import run
from tests.attack.test_fork import fork
from tests.fix_line import (
    ENDS,
    KEEPS_THE_OLD,
    OPERATIONS,
    POLICY,
    Brittle,
    anonymous,
    every_operation,
    interrupted,
    moments,
    signed_in,
)


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


@pytest.mark.requirement("R28")
@every_operation
@moments
def test_settled(name, after_sending, brittle, line, sound):
    """Once an interrupted operation was carried out again, its identifiers open one session, or none if it ends that.

    Where the first try had ended a subject's session before it broke, nobody is signed in: the second says so, or was
    to sign out anyway.
    """
    _, operate = OPERATIONS[name]
    for old, session in interrupted(name, brittle, line, sound, after_sending):
        ended = False
        try:
            run(operate(brittle, session))
        except SessionRevoked:
            ended = True
        opened = {known: run(sound.load(known)) for known in (old, session.identifier) if known}
        handles = {found.handle for found in opened.values() if found is not None}
        assert len(handles) == (0 if ended or name in ENDS else 1) or (name == "sign out" and not handles)
        assert name in KEEPS_THE_OLD or opened[old] is None


@pytest.mark.requirement("R13", "R28")
@every_operation
@moments
def test_process_killed(name, after_sending, line, sound, key, clock, server):
    """A process that is killed at any of its commands leaves keys with TTLs, and one signed-in session at most."""
    make, operate = OPERATIONS[name]
    for call in range(1, 20):
        for subject in ("ada", "bob"):
            run(sound.revoke_all(subject))
        session = make(sound)

        def work(call=call, session=session):
            own = Brittle(server.url)
            own.is_deadly, own.breaks_at, own.after_sending = True, call, after_sending
            run(operate(Operations(own, keyring=Keyring.parse(key), clock=clock, policy=POLICY), session))

        code = os.waitstatus_to_exitcode(os.waitpid(fork(work), 0)[1])
        assert server.keys_without_ttl() == []
        listed = [info.handle for subject in ("ada", "bob") for info in run(sound.list_for(subject))]
        assert len(listed) <= 1
        assert name not in KEEPS_THE_OLD or run(sound.load(session.identifier)) is not None
        if code == 0:
            break
        assert code == 9
    assert call > 1


@pytest.mark.requirement("R13")
@moments
@pytest.mark.parametrize("made", [anonymous, signed_in], ids=["anonymous", "signed in"])
def test_creation(made, after_sending, line, brittle, sound, server):
    """Wherever the creation of a session breaks, what is stored has a TTL, and its secret nobody knows."""
    for call in range(1, 20):
        line.breaks_at, line.after_sending = call, after_sending
        try:
            made(brittle)
        except StoreUnavailable:
            assert server.keys_without_ttl() == []
            assert len(run(sound.list_for("ada"))) <= call
        else:
            return


@pytest.mark.requirement("R13")
@pytest.mark.parametrize(
    "work",
    [lambda operations: operations.revoke_everyone(), lambda operations: operations.sweep()],
    ids=["revoke everyone", "sweep"],
)
@moments
def test_work_on_all_sessions(work, after_sending, line, brittle, sound, server):
    """Wherever the end of everybody or a sweep breaks, every key has a TTL, and it can be carried out again."""
    signed_in(brittle)
    line.breaks_at, line.after_sending = 1, after_sending
    with suppress(SessionError):
        run(work(brittle))
    assert server.keys_without_ttl() == []

    run(work(brittle))

    assert server.keys_without_ttl() == []
