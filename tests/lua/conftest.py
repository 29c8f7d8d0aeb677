"""The scripts, run as the engine runs them, on records and indexes that a test puts in place."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from coatcheck import Keyring
from coatcheck.engine import scripts
from coatcheck.engine.keys import Keys
from coatcheck.model.device import class_of
from coatcheck.model.keyring import Key, Place
from coatcheck.model.record import Header, Payload, Records
from coatcheck.model.ticket import Handle
from tests.fix_store import Server

PARTITION = 0xA7
IDLE, ABSOLUTE = 1_800_000, 43_200_000


@dataclass
class Listed:
    """A session as a test has put it into the store: its handle's name and its record."""

    name: str
    record: bytes


class Bench:
    """One partition of a store, one subject's place in it, and the scripts."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = server.client
        self.place = Place(PARTITION, "subject-digest-1")
        self._keys = Keys("cc")
        self._records = Records(Keyring([Key(bytes(32))]), "cc")
        self.u = self._keys.subject(self.place)
        self.x = self._keys.expiry(PARTITION)
        self.g = self._keys.epoch(PARTITION)
        self.e = self._keys.events(PARTITION)
        self.stem = self._keys.stem(PARTITION)
        self.subjects = self._keys.subject(Place(PARTITION, ""))
        seconds, microseconds = self.client.time()
        self.now = seconds * 1000 + microseconds // 1000
        for script in scripts.BY_SHA.values():
            assert self.client.script_load(script.source) == script.sha

    def run(self, script, keys, *arguments):
        """Run a script as the engine would send it."""
        return self.client.execute_command(*script.command(tuple(keys), *arguments))

    def key(self, name):
        """Name the record of a handle."""
        return self.stem + name

    def record(self, name, *, revision=1, created=0, seen=None, idle=IDLE, absolute=ABSOLUTE, device=None, former=None):
        """Make a record; created, seen: ms from now. former: the digest of a former secret."""
        created += self.now
        header = Header(
            revision=revision,
            created_at=created,
            absolute_deadline=created + absolute,
            seen_at=created if seen is None else self.now + seen,
            idle_timeout=idle,
            persistent=True,
            digest=hashlib.sha256(name.encode()).digest(),
            former_digest=former,
            device_class=class_of(device),
        )
        payload = Payload("ada", device=device)
        return self._records.seal(Handle.parse(f"{PARTITION:02x}.{name}"), header, payload)

    def bind(
        self,
        name,
        *,
        limit=0,
        order="oldest",
        elsewhere=0,
        replacing="",
        of_class=(0, 0),
        ttl=IDLE,
        record=None,
        **options,
    ):
        """Bind a session to the subject; give the record and the reply. of_class: its limit, those elsewhere."""
        record = record or self.record(name, **options)
        deadline = self.now + options.get("created", 0) + options.get("absolute", ABSOLUTE)
        keys = (self.key(name), self.u, self.x, self.g, self.e)
        reply = self.run(
            scripts.BIND,
            keys,
            *(record, ttl, name, self.place.digest, self.now, deadline, self.stem, limit, order, elsewhere, replacing),
            *("", *of_class),
        )
        return record, reply

    def bound(self, *names, **options):
        """Bind sessions one after the other, without limit."""
        return [Listed(name, self.bind(name, **options)[0]) for name in names]

    def names(self):
        """List the names of all keys but that of the events."""
        return self.server.left()

    def told(self, *names):
        """List the events told so far, as type, handle and why; those of the given handles if any are given."""
        entries = [fields for _, fields in self.client.xrange(self.e)]
        found = [(entry[b"t"].decode(), entry[b"h"].decode(), entry[b"why"].decode()) for entry in entries]
        return [event for event in found if not names or event[1] in names]

    def live(self):
        """List the handles whose records are there."""
        return {key.removeprefix(self.stem) for key in self.names() if key.startswith(self.stem)}

    def listed(self):
        """List the subject's index: handles and scores."""
        return {name.decode(): int(score) for name, score in self.client.zrange(self.u, 0, -1, withscores=True)}

    def due(self):
        """List the expiry index: handles and scores."""
        entries = self.client.zrange(self.x, 0, -1, withscores=True)
        return {entry.decode().removesuffix(self.place.digest): int(score) for entry, score in entries}

    def state(self):
        """Everything that is stored, but for the time that is left."""
        return {key: self.client.dump(key) for key in self.names()}


@pytest.fixture
def bench(server: Server) -> Iterator[Bench]:
    """Give the bench; at the end of every test no key is without a TTL (R13)."""
    yield Bench(server)
    assert server.keys_without_ttl() == []


def name(number):
    """Make the name of a handle."""
    return f"handle{number:010d}"
