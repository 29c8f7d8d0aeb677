"""The epoch: everybody's sessions end at once."""

from datetime import timedelta

import pytest

from coatcheck import AtLimit, SessionPolicy, SessionRevoked
from coatcheck.engine.scripts import REVOKE_EVERYONE

MINUTE = timedelta(minutes=1)


@pytest.fixture
def session(sessions):
    """Give a session of ada's."""
    session = sessions.create({"a": 1})
    sessions.bind(session, "ada")
    return session


@pytest.mark.requirement("R21")
def test_everybody_is_signed_out(sessions, session):
    """No session from before is loaded, found or listed; who signs in after it stays."""
    anonymous = sessions.create({"a": 1})

    sessions.revoke_everyone()

    assert [sessions.load(old.identifier) for old in (session, anonymous)] == [None, None]
    assert sessions.find(session.handle) is None
    assert sessions.list_for("ada") == []
    late = sessions.create({"b": 1})
    assert sessions.load(late.identifier) is not None
    sessions.bind(late, "ada")
    assert sessions.load(late.identifier).subject == "ada"
    assert [info.handle for info in sessions.list_for("ada")] == [late.handle]


def ordered_by_the_epoch(sessions, waiting):
    """Say of each sign-in whether it was told after the epoch of its partition; hold that those live, and no others."""
    order = {}
    for event in sessions.read_events("test", "one", at_most=1000):
        order.setdefault(event.partition, []).append(event)
    late = []
    for session in waiting:
        events = order[session.handle.partition]
        epoch = next(n for n, event in enumerate(events) if event.type.value == "revoked" and event.handle is None)
        bound = next(n for n, event in enumerate(events) if event.handle == session.handle)
        assert (sessions.load(session.identifier) is not None) == (bound > epoch)
        late.append(bound > epoch)
    return late


@pytest.mark.requirement("R21")
def test_10000_sessions_and_sign_ins_at_the_same_time(open_sessions, sessions, server, at_once):
    """10,000 sessions end with one call of as many commands as there are partitions, amid sign-ins.

    A sign-in is before the epoch or after it: told first it has ended, told later it lives.
    """
    other, count = open_sessions(), 10_000
    stored = [sessions.create({"n": number}).identifier for number in range(count)]
    waiting = [sessions.create({"n": number}) for number in range(60)]

    with server.commands() as commands:
        at_once(
            *((sessions, "bind", session, f"user{n}") for n, session in enumerate(waiting[:30])),
            (other, "revoke_everyone"),
            *((sessions, "bind", session, f"user{n}") for n, session in enumerate(waiting[30:])),
        )

    assert commands.count(f"EVALSHA {REVOKE_EVERYONE.sha}") == 256
    assert sum(sessions.load(identifier) is not None for identifier in stored) == 0
    ordered_by_the_epoch(sessions, waiting)


@pytest.mark.requirement("R21")
def test_sign_ins_before_and_after(sessions):
    """Who signed in before the epoch is out, who signs in after it stays, in the order in which it is told."""
    waiting = [sessions.create({"n": number}) for number in range(40)]
    for number, session in enumerate(waiting):
        if number == 20:
            sessions.revoke_everyone()
        sessions.bind(session, f"user{number}")

    assert ordered_by_the_epoch(sessions, waiting) == [False] * 20 + [True] * 20


@pytest.mark.requirement("R21")
@pytest.mark.parametrize("behind", [-500, 0, 500])
def test_clocks_that_differ(sessions, clock, behind):
    """Whichever clock is late, a session from before the epoch ends and one from after it lives."""
    before = sessions.create({"a": 1})
    sessions.bind(before, "ada")
    clock.moved -= behind
    sessions.revoke_everyone()
    clock.moved += behind * 2
    late = sessions.create({"b": 1})
    sessions.bind(late, "ada")

    assert sessions.load(before.identifier) is None
    assert sessions.load(late.identifier).subject == "ada"


@pytest.mark.requirement("R20")
@pytest.mark.requirement("R21")
@pytest.mark.parametrize("name", ["save", "rotate", "unbind", "bind"])
def test_request_in_flight(sessions, session, name):
    """A request that loaded a session before cannot write it, nor take it over, and revives nothing."""
    mine = sessions.load(session.identifier)
    mine["b"] = 2
    sessions.revoke_everyone()

    with pytest.raises(SessionRevoked):
        getattr(sessions, name)(mine, *(["ada"] if name == "bind" else []))

    assert sessions.load(session.identifier) is None
    assert sessions.list_for("ada") == []


@pytest.mark.requirement("R21")
def test_touch_after_it(sessions, session, clock):
    """A touch says that the session is gone."""
    mine = sessions.load(session.identifier)
    sessions.revoke_everyone()
    clock.moved += 4 * 60_000

    assert sessions.touch(mine) is False


@pytest.mark.requirement("R21")
def test_ended_sessions_take_no_room(open_sessions, session):
    """What the epoch has ended counts toward no limit, is ended by nobody, and the sweep settles it once."""
    sessions = open_sessions(policy=SessionPolicy(limit=1, at_limit=AtLimit.REFUSE))
    sessions.revoke_everyone(by="ops", why="key lost")
    late = sessions.new()
    sessions.bind(late, "ada")

    assert sessions.revoke(session.handle) is False
    assert sessions.revoke(session.handle, subject="ada") is False
    assert sessions.revoke_all("ada", keep=late.handle) == 0
    events = [event for event in sessions.read_events("test", "one") if event.type.value != "created"]
    assert [(e.type.value, e.why) for e in events if e.handle == session.handle] == [
        ("bound", None),
        ("revoked", "everyone"),
    ]
    everyone = [event for event in events if event.handle is None]
    assert {(event.type.value, event.by, event.why) for event in everyone} == {("revoked", "ops", "key lost")}
    assert len(everyone) == 256


@pytest.mark.requirement("R21")
def test_sweep_clears_up_after_it(sessions, session, clock, server):
    """The sweep drops what the epoch has ended as it comes due, and says why."""
    keeps = sessions.load(session.identifier)
    clock.advance(20 * MINUTE)
    sessions.save(keeps)  # its key lives on when the index says that it is due
    sessions.revoke_everyone()
    clock.advance(11 * MINUTE)

    assert sessions.sweep() == 1

    assert server.keys(":s:") == server.keys(":u:") == server.keys("}:x") == []
    (last,) = (e for e in sessions.read_events("test", "one") if e.handle == session.handle and e.type.value != "bound")
    assert (last.type.value, last.why) == ("revoked", "everyone")
    assert server.keys_without_ttl() == []
