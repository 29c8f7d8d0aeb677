"""Sweeping: the indexes hold the live sessions and nothing else."""

import secrets
from datetime import timedelta
from typing import ClassVar

import pytest

from coatcheck import SessionPolicy
from coatcheck.model.ticket import Handle

MINUTE = timedelta(minutes=1)


def signed_in(sessions, subject="ada", **timeouts):
    """Sign *subject* in on a session of its own."""
    session = sessions.new()
    if timeouts:
        session.set_timeouts(**timeouts)
    sessions.bind(session, subject)
    return session


def indexed(server):
    """List what the subjects' indexes hold, and what the expiry indexes hold, as names of handles."""
    subjects = server.keys(":u:")
    expiry = server.keys("}:x")
    by_subject = [entry.decode() for name in subjects for entry in server.client.zrange(name, 0, -1)]
    by_expiry = [entry.decode()[:16] for name in expiry for entry in server.client.zrange(name, 0, -1)]
    return sorted(by_subject), sorted(by_expiry)


def records(server):
    """List the names of the handles that have a record."""
    return sorted(name.rpartition(":")[2] for name in server.keys(":s:"))


def test_nothing_to_sweep(sessions, server):
    """An empty store is swept in one go, to nothing."""
    assert sessions.sweep() == 0
    assert server.left() == []


@pytest.mark.requirement("R24")
def test_expired_sessions_are_settled(sessions, server, clock):
    """Sessions that have expired leave both indexes; the count says how many."""
    for _ in range(3):
        signed_in(sessions)
    alive = signed_in(sessions, idle=timedelta(hours=2))
    clock.advance(31 * MINUTE)

    assert sessions.sweep() == 3

    assert indexed(server) == ([alive.handle.name], [alive.handle.name])
    assert sessions.sweep() == 0


@pytest.mark.requirement("R24")
def test_touched_sessions_stay(sessions, server, clock):
    """A session that was used since it was listed is put off, not dropped."""
    session = signed_in(sessions)
    clock.advance(20 * MINUTE)
    sessions.save(sessions.load(session.identifier))
    clock.advance(20 * MINUTE)

    assert sessions.sweep() == 0
    assert indexed(server) == ([session.handle.name], [session.handle.name])

    clock.advance(11 * MINUTE)
    assert sessions.sweep() == 1
    assert server.left() == []


@pytest.mark.requirement("R24")
def test_very_much_to_settle(sessions, server, clock):
    """More than one page of expired sessions is settled by one sweep."""
    for _ in range(450):
        signed_in(sessions)
    alive = signed_in(sessions, idle=timedelta(hours=2))
    clock.advance(31 * MINUTE)

    assert sessions.sweep() == 450
    assert indexed(server) == ([alive.handle.name], [alive.handle.name])


@pytest.mark.requirement("R24")
def test_sweeps_in_parallel(sessions, server, clock, at_once):
    """Several sweeps at once settle each ended session exactly once."""
    for number in range(300):
        signed_in(sessions, f"user{number % 7}")
    clock.advance(31 * MINUTE)

    counts = at_once(*((sessions, "sweep") for _ in range(4)))

    assert sum(counts) == 300
    assert server.left() == []


class Chaos:
    """Does anything at random; each method is one thing that can happen, and gives the session that is left."""

    weights: ClassVar = {
        "sign_in": 6,
        "sign_in_again": 1,
        "sign_out": 1,
        "revoke": 2,
        "write": 4,
        "read": 4,
        "change_timeouts": 1,
        "revoke_others": 0.1,
        "lose_record": 0.1,
        "wait": 0.1,
        "sweep": 0.02,
    }

    def __init__(self, sessions, server, clock):
        self.sessions = sessions
        self.server = server
        self.clock = clock
        self.chance = secrets.SystemRandom()
        self.known = []

    def run(self, count):
        """Let *count* things happen."""
        for action in self.chance.choices(list(self.weights), list(self.weights.values()), k=count):
            session = self.sign_in() if action == "sign_in" or not self.known else self.pick()
            if session is not None and action != "sign_in":
                session = getattr(self, action)(session)
            if session is not None and session.identifier and not session.ended:
                self.known.append(session.identifier)

    def sign_in(self):
        """Sign somebody in on a new session."""
        return signed_in(self.sessions, self.subject())

    def pick(self):
        """Load a known session."""
        return self.sessions.load(self.known.pop(self.chance.randrange(len(self.known))))

    def subject(self):
        """Name somebody."""
        return f"user{self.chance.randrange(20)}"

    def sign_in_again(self, session):
        """Sign in on a session, as the same or somebody else."""
        self.sessions.bind(session, self.chance.choice([session.subject or "x", self.subject()]))
        return session

    def sign_out(self, session):
        """Sign out."""
        self.sessions.unbind(session)
        return session

    def revoke(self, session):
        """End a session by its handle."""
        self.sessions.revoke(session.handle, subject=session.subject)

    def write(self, session):
        """Change a session."""
        session["n"] = self.chance.random()
        self.sessions.save(session)
        return session

    def read(self, session):
        """Use a session."""
        self.sessions.save(session)
        return session

    def change_timeouts(self, session):
        """Give a session an idle timeout of its own."""
        session.set_timeouts(idle=self.chance.choice([5, 60, 120]) * MINUTE)
        self.sessions.save(session)
        return session

    def revoke_others(self, session):
        """End the subject's other sessions."""
        if session.subject:
            self.sessions.revoke_all(session.subject, keep=session.handle)
        return session

    def lose_record(self, session):
        """Stands for a store that lost a key: the indexes still have it."""
        self.server.client.delete(*self.server.keys(f":s:{session.handle.name}"))

    def wait(self, session):
        """Let some minutes pass."""
        self.clock.advance(self.chance.randrange(10) * MINUTE)
        return session

    def sweep(self, session):
        """Sweep."""
        self.sessions.sweep()
        return session


@pytest.mark.requirement("R24")
@pytest.mark.requirement("R13")
def test_10000_operations_at_random(open_sessions, server, clock):
    """After 10,000 operations of any kind, lost records and expiry, one sweep makes the indexes the live set."""
    sessions = open_sessions(policy=SessionPolicy(limit=6))
    Chaos(sessions, server, clock).run(10_000)
    survivor = signed_in(sessions, "survivor", idle=timedelta(hours=11))
    clock.advance(timedelta(hours=3))
    late = [signed_in(sessions, f"user{number}") for number in range(20)]

    sessions.sweep()

    expected = sorted(session.handle.name for session in (survivor, *late))
    assert indexed(server) == (expected, expected)
    assert [name for name in records(server) if name in expected] == expected
    assert server.keys_without_ttl() == []


@pytest.mark.requirement("R13")
def test_short_session_never_shortens_an_index(sessions, server, clock):
    """An index lives as long as its longest session, whatever is bound beside it or shortened."""
    long = signed_in(sessions, idle=timedelta(days=30), absolute=timedelta(days=30))
    short = signed_in(sessions, idle=MINUTE, absolute=MINUTE)
    short["a"] = 1
    short.set_timeouts(idle=MINUTE / 2)
    sessions.save(short)
    sessions.revoke(short.handle)
    sessions.sweep()
    clock.advance(timedelta(days=29))

    assert sessions.load(long.identifier) is not None
    assert [info.handle for info in sessions.list_for("ada")] == [long.handle]
    assert indexed(server) == ([long.handle.name], [long.handle.name])


@pytest.mark.requirement("R13")
def test_index_follows_a_session_made_longer(sessions, server, clock):
    """A session whose absolute timeout is made longer stays listed to its new end."""
    session = signed_in(sessions)
    session.set_timeouts(idle=timedelta(days=20), absolute=timedelta(days=30))
    sessions.save(session)
    clock.advance(timedelta(days=19))

    sessions.sweep()

    assert [info.handle for info in sessions.list_for("ada")] == [session.handle]
    assert indexed(server) == ([session.handle.name], [session.handle.name])


@pytest.mark.requirement("R13")
def test_indexes_end_with_their_sessions(sessions, server, clock):
    """Without any sweep nothing is left a day after the last session could have ended."""
    signed_in(sessions)
    clock.advance(timedelta(hours=36))

    assert server.left() == []


def test_index_of_unknown_handles_is_not_touched(sessions, server):
    """Ending a handle that never was leaves the indexes as they are."""
    session = signed_in(sessions)
    sessions.revoke(Handle.new(session.handle.partition), subject="ada")

    assert indexed(server) == ([session.handle.name], [session.handle.name])
