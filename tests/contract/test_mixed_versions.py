"""A deployment that is under way: processes of two versions use one store.

The older one is this process; the newer one is tests/contract/newer_version.py.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from coatcheck import RecordCorrupted, new_key
from coatcheck.model.ticket import Ticket

ROOT = Path(__file__).parents[2]
UNKNOWN = "unknown to this version"


@pytest.fixture
def newer(server, key):
    """Give a function that starts a process of a newer version; that gives a function that has a task carried out."""
    started = []

    def start(knows):
        command = [sys.executable, "-m", "tests.contract.newer_version", knows, server.url, key]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)

        def carry_out(*task):
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        return carry_out

    yield start
    for process in started:
        process.communicate(timeout=30)


def stored(server, handle):
    """Give what the store holds of a session, byte for byte."""
    return {name: server.client.get(name) for name in server.keys(handle.name) if ":a:" not in name}


@pytest.mark.requirement("R37")
@pytest.mark.parametrize("knows", ["format", "flag"])
def test_newer_record_fails_closed_and_is_kept(open_sessions, sessions, server, key, newer, knows):
    """The older version opens no newer record, does everything else, and leaves it byte for byte to the newer one."""
    do = newer(knows)
    made = do("create")
    identifier, own = made.pop("identifier"), sessions.create({"b": 2})
    sessions.bind(own, "ada")
    handle = Ticket.parse(identifier).handle
    before = stored(server, handle)

    for look, known in ((sessions.load, identifier), (sessions.find, handle)):
        with pytest.raises(RecordCorrupted, match=UNKNOWN):
            look(known)
    assert [info.handle for info in sessions.list_for("ada")] == [own.handle]
    assert sessions.activity(handle) == [] or knows == "flag"
    assert sessions.sweep() == 0
    assert open_sessions(keys=[new_key(), key]).reseal().unreadable == 1
    assert sessions.revoke(handle, subject="bob") is False

    assert stored(server, handle) == before
    assert server.keys_without_ttl() == []
    assert do("show", identifier) == made
    assert sessions.revoke_all("ada") == 2


@pytest.mark.requirement("R37")
@pytest.mark.parametrize("knows", ["format", "flag"])
@pytest.mark.parametrize("operation", ["save", "rotate"])
def test_write_over_a_newer_record(sessions, server, newer, knows, operation):
    """A request of the older version that loaded a session before the newer one wrote it cannot write over that."""
    session = sessions.create({"a": 1})
    mine = sessions.load(session.identifier)
    do = newer(knows)
    changed = do("change", session.identifier)
    before = stored(server, session.handle)
    mine["b"] = 2

    with pytest.raises(RecordCorrupted, match=UNKNOWN):
        getattr(sessions, operation)(mine)

    assert stored(server, session.handle) == before
    assert do("show", session.identifier) == changed


@pytest.mark.requirement("R28", "R37")
@pytest.mark.parametrize("knows", ["format", "flag"])
def test_authenticating_again_over_a_newer_record(sessions, newer, knows):
    """Who authenticates again on a session that the newer version wrote meanwhile stays signed in, once."""
    session = sessions.create({"a": 1})
    sessions.bind(session, "ada")
    mine = sessions.load(session.identifier)
    newer(knows)("change", session.identifier)

    sessions.bind(mine, "ada", assurance=2)

    assert sessions.load(mine.identifier).assurance == 2
    assert [info.handle for info in sessions.list_for("ada")] == [mine.handle]


@pytest.mark.requirement("R37")
def test_unknown_entries_survive(sessions, newer):
    """What a newer version keeps in the sealed part, beside the attributes, goes along with saves and rotations."""
    do = newer("entry")
    made = do("create")
    assert made["further"]
    session = sessions.load(made["identifier"])

    session["b"] = 2
    sessions.save(session)
    sessions.rotate(session)

    after = do("show", session.identifier)
    assert after["further"] == made["further"]
    assert after["attributes"] == {"a": "1", "z": "new", "b": "2"}


@pytest.mark.requirement("R37")
def test_unknown_type_of_a_value(sessions, newer):
    """An attribute of a type that only the newer version knows cannot be read, and survives a save of others."""
    do = newer("type")
    made = do("create")
    session = sessions.load(made["identifier"])
    with pytest.raises(RecordCorrupted, match="written by a newer version"):
        session["z"]

    session["b"] = 2
    sessions.save(session)

    assert do("show", made["identifier"])["attributes"] == {"a": "1", "z": "(1+2j)", "b": "2"}
