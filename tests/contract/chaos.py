"""Operations at random, and what the indexes hold after them."""

from datetime import timedelta
from random import Random
from typing import ClassVar

MINUTE = timedelta(minutes=1)


def signed_in(sessions, subject="ada", **timeouts):
    """Sign *subject* in on a session of its own."""
    session = sessions.new()
    if timeouts:
        session.set_timeouts(**timeouts)
    sessions.bind(session, subject)
    return session


def live(sessions, *candidates):
    """Say which of *candidates* (positions) can still be loaded."""
    return [i for i, session in enumerate(candidates) if sessions.load(session.identifier) is not None]


def indexed(server):
    """List what the subjects' indexes hold, and what the expiry indexes hold, as names of handles."""
    subjects = server.keys(":u:")
    expiry = server.keys("}:x")
    by_subject = [entry.decode() for name in subjects for entry in server.client.zrange(name, 0, -1)]
    by_expiry = [entry.decode()[:16] for name in expiry for entry in server.client.zrange(name, 0, -1)]
    return sorted(by_subject), sorted(by_expiry)


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

    def __init__(self, sessions, server=None, clock=None, seed=None):
        """Use *sessions*. Without *server* and *clock* nothing is lost and no time passes. seed: for the same again."""
        self.sessions = sessions
        self.server = server
        self.clock = clock
        self.chance = Random(seed)  # noqa: S311  it chooses what is tested
        self.known = []

    def run(self, count):
        """Let *count* things happen."""
        weights = self.weights if self.server else self.weights | {"lose_record": 0, "wait": 0}
        for action in self.chance.choices(list(weights), list(weights.values()), k=count):
            self.step(action)

    def step(self, action):
        """Let one thing happen."""
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
