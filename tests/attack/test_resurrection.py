"""A request that began before a session ended tries to bring it back: whatever it writes, however the session ended."""

from datetime import timedelta

import pytest

from coatcheck import SessionRevoked
from tests.attack.conftest import POLICY


def change(sessions, session):
    """Change an attribute and save."""
    session["a"] = 2
    sessions.save(session)


def fill_the_cart(sessions, session):
    """Change a compartment alone and save."""
    session.compartment("cart")["items"] = ["coat"]
    sessions.save(session)


def note(sessions, session):
    """Record something alone and save."""
    session.record("view")
    sessions.save(session)


def set_timeouts(sessions, session):
    """Ask for a longer life and save."""
    session.set_timeouts(idle=timedelta(hours=11))
    sessions.save(session)


def replay(sessions, session, clock):
    """Use the session's identifier after it was rotated away."""
    sessions.rotate(sessions.load(session.identifier))
    clock.advance(timedelta(seconds=11))
    assert sessions.load(session.identifier) is None


WRITES = {
    "change": change,
    "compartment": fill_the_cart,
    "activity": note,
    "timeouts": set_timeouts,
    "touch": lambda sessions, session: sessions.touch(session),
    "rotate": lambda sessions, session: sessions.rotate(session),
    "step up": lambda sessions, session: sessions.bind(session, "ada", assurance=2),
    "sign somebody else in": lambda sessions, session: sessions.bind(session, "bob"),
    "sign out": lambda sessions, session: sessions.unbind(session),
}
ENDS = {
    "revoked": lambda sessions, session, _: sessions.revoke(session.handle),
    "all revoked": lambda sessions, session, _: sessions.revoke_all("ada"),
    "everybody's revoked": lambda sessions, session, _: sessions.revoke_everyone(),
    "expired": lambda sessions, session, clock: clock.advance(timedelta(minutes=31)),
    "expired and swept": lambda sessions, session, clock: (clock.advance(timedelta(minutes=31)), sessions.sweep()),
    "evicted": lambda sessions, *_: [sessions.bind(sessions.new(), "ada") for _ in range(3)],
    "signed out": lambda sessions, session, _: sessions.unbind(sessions.find(session.handle)),
    "replayed": replay,
}


@pytest.mark.requirement("R20", "R14")
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("write", WRITES)
def test_nothing_comes_back(victim, open_sessions, server, clock, write, end):
    """A write that comes too late raises, or does nothing; nothing of the session is there afterwards."""
    late = victim.load()
    ENDS[end](open_sessions(policy=POLICY), victim.session, clock)

    try:
        WRITES[write](victim.sessions, late)
    except SessionRevoked:
        assert late.identifier == victim.identifier
    else:
        assert write == "touch"

    assert victim.load() is None
    assert victim.sessions.find(victim.handle) is None
    assert victim.handle not in [info.handle for info in victim.sessions.list_for("ada")]
    assert server.keys_without_ttl() == []
    victim.sessions.sweep()
    if end != "everybody's revoked":  # whose records go as they expire
        assert server.keys(victim.handle.name) == []
