"""A process of a newer version, in a deployment that is under way: it writes what the present version does not know.

What is newer about it is its first argument. Tasks come as lines of JSON, and so do the answers.
"""

import json
import sys

from msgspec.structs import replace

import coatcheck
from coatcheck.model import activity, codec, header, record
from coatcheck.model.errors import RecordCorrupted
from coatcheck.model.keyring import Key, Keyring
from coatcheck.model.ticket import Handle

ENTRY = {"newer": [1, {"deep": None}]}


def a_format():
    """Write records and activity of the next format; read the present one, too."""
    pack, unpack, former = header.pack, header.unpack, bytes([record.RECORD_FORMAT])
    following = bytes([record.RECORD_FORMAT + 1])
    header.pack = lambda *given: following + pack(*given)[1:]
    header.unpack = lambda sealed, further: unpack(former + sealed[1:] if sealed[:1] == following else sealed, further)
    activity.ACTIVITY_FORMAT += 1


def a_flag():
    """Set a flag of the header that the present version does not know, the highest one."""
    pack, unpack = header.pack, header.unpack
    flag = max(bit for bit in (1 << shift for shift in range(8)) if not _is_known(bit))
    header.pack = lambda plain, key_id, flags, dictionary_id: pack(plain, key_id, flags | flag, dictionary_id)
    header.unpack = lambda sealed, further: unpack(sealed[:1] + bytes([sealed[1] & ~flag]) + sealed[2:], further)


def a_type():
    """Keep values of a further type."""
    codec._SCALARS = (*codec._SCALARS, (100, complex, lambda value: str(value).encode()))
    codec._FROM_EXT[100] = lambda data: complex(str(data, "ascii"))


def _is_known(flag):
    """Say whether the present version has a use for *flag*: it opens a record with it, or misses what belongs to it."""
    plain = record.Header(
        revision=1, created_at=1, absolute_deadline=2, seen_at=1, idle_timeout=1, persistent=False, digest=bytes(32)
    )
    sealed = record.Records(Keyring([Key(bytes(32))]), "cc").seal(Handle(0, bytes(12)), plain, record.Payload())
    try:
        header.unpack(sealed[:1] + bytes([sealed[1] | flag]) + sealed[2:], 28)
    except RecordCorrupted as error:
        return "unknown to this version" not in str(error)
    return True


class Tasks:
    """What it can be told to do."""

    def __init__(self, sessions, knows):
        self.sessions = sessions
        self.knows = knows

    def create(self):
        """Sign ada in, on a session that holds what only a newer version knows."""
        session = self.sessions.create({"a": 1})
        self.sessions.bind(session, "ada")
        return {"identifier": session.identifier, **self.change(session.identifier)}

    def change(self, identifier):
        """Write to a session what only a newer version knows."""
        session = self.sessions.load(identifier)
        session["z"] = 1 + 2j if self.knows == "type" else "new"
        session.record("seen")
        if self.knows == "entry":
            session.payload = replace(session.payload, further=ENTRY)
        self.sessions.save(session)
        return self.show(identifier)

    def show(self, identifier):
        """Show what a session holds."""
        session = self.sessions.load(identifier)
        recorded = [entry.name for entry in self.sessions.activity(session)]
        attributes = {name: str(value) for name, value in session.items()}
        return {"attributes": attributes, "further": dict(session.payload.further), "activity": recorded}


KNOWS = {"format": a_format, "flag": a_flag, "type": a_type, "entry": lambda: None}


if __name__ == "__main__":
    _, knows, url, key = sys.argv
    KNOWS[knows]()
    with coatcheck.Sessions(url, keys=key) as opened:
        tasks = Tasks(opened, knows)
        for line in sys.stdin:
            name, *arguments = json.loads(line)
            print(json.dumps(getattr(tasks, name)(*arguments)), flush=True)
