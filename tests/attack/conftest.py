"""What the attacks have in common: somebody's session with everything beside it, and bombs."""

import pickle
from datetime import timedelta

import pytest

from coatcheck import SessionPolicy
from tests.model.test_codec import Bomb

POLICY = SessionPolicy(limit=3, listed=("device",), compartments={"cart": timedelta(minutes=10)}, rotating=("roles",))


class Victim:
    """A session with attributes, a cart and an activity, and the names of the keys that hold them."""

    def __init__(self, sessions, server, subject="ada"):
        """Sign *subject* in."""
        self.sessions, self.server = sessions, server
        self.session = sessions.create({"a": 1, "device": "laptop"})
        sessions.bind(self.session, subject)
        self.session.compartment("cart")["items"] = ["hat"]
        self.session.record("view", price=3)
        sessions.save(self.session)
        self.handle, self.identifier = self.session.handle, self.session.identifier
        self.record, self.cart, self.activity = (
            server.keys(f":{kind}:{self.handle.name}")[0] for kind in ("s", "c", "a")
        )
        stem = self.record.partition(":s:")[0]
        self.epoch, self.events, self.expiry = (f"{stem}:{kind}" for kind in "gex")
        self.index = next(name for name in server.keys(":u:") if name.startswith(stem))

    def load(self):
        """Load the session with the identifier that its owner has."""
        return self.sessions.load(self.identifier)

    def forget_ends(self):
        """Have the process forget what it was asked to end and could not: it goes on refusing that."""
        core = getattr(self.sessions, "core", None) or self.sessions._sessions
        core._endings.open.clear()

    def keys(self):
        """Name every kind of key."""
        return {
            "record": self.record,
            "compartment": self.cart,
            "activity": self.activity,
            "index": self.index,
            "expiry index": self.expiry,
            "epoch": self.epoch,
            "events": self.events,
        }


@pytest.fixture
def victim(open_sessions, server):
    """Give a session of ada's with everything beside it."""
    return Victim(open_sessions(policy=POLICY), server)


class Snapshot:
    """What the store held at one moment, to be put back by whoever can write to it."""

    def __init__(self, server):
        """Copy everything."""
        self._server = server
        self._kept = {name: (content, server.client.pttl(name)) for name, content in server.contents().items()}

    def put_back(self, *names):
        """Write copies over what is there now: of *names*, or of everything, and then nothing else is left."""
        if not names:
            self._server.client.flushall()
        for name in names or self._kept:
            content, ttl = self._kept[name]
            self._server.client.restore(name, max(ttl, 1), content, replace=True)


@pytest.fixture
def snapshot(server):
    """Give a function that copies what the store holds."""
    return lambda: Snapshot(server)


@pytest.fixture
def bombs(tmp_path):
    """Give pickles that write a file when they are loaded, of each protocol; none of them may have gone off."""
    trace = tmp_path / "exploded"
    made = [pickle.dumps(Bomb(str(trace)), protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    yield made
    assert not trace.exists()
    pickle.loads(made[-1])  # noqa: S301  they are live
    assert trace.exists()
