"""Dictionaries: trained on live sessions, used by every process, opened for as long as a record needs them."""

from contextlib import contextmanager
from datetime import timedelta

import pytest

from coatcheck import NotEnoughSessions, RecordCorrupted, SessionPolicy, Sessions, StoreUnavailable, new_key
from coatcheck.engine.dictionaries import ASKED_EVERY, SETTLED, Dropped
from coatcheck.engine.keys import Keys
from coatcheck.model.header import dictionary_of
from coatcheck.model.ticket import Handle
from tests.fix_store import Stepped

NAMES = Keys("cc")
ASKED_EVERY, SETTLED = (timedelta(milliseconds=time) for time in (ASKED_EVERY, SETTLED))
BACKEND = "django.contrib.auth.backends.ModelBackend"


def content(number=0):
    """Make the attributes of a session."""
    return {"user_id": number, "backend": BACKEND, "theme": "dark", "cart": [{"title": "Notes on the Engine", "n": 1}]}


def fill(sessions, count=220):
    """Store sessions that resemble each other."""
    return [sessions.create(content(number)) for number in range(count)]


@pytest.fixture(scope="module")
def trained(shared_server):
    """Train a dictionary once: give the key that it is sealed with, what it says of itself, and its keys' contents."""
    key, client = new_key(), shared_server.client
    client.flushall()
    with Sessions(shared_server.url, keys=key) as sessions:
        fill(sessions)
        done = sessions.train_dictionary()
    name = NAMES.dictionary(done.dictionary.id)
    return key, done, {key: client.dump(key) for key in (name, NAMES.dictionaries)}


@pytest.fixture
def key(trained):
    """Give the sealing key of the tests."""
    return trained[0]


@pytest.fixture
def dictionary(server, trained):
    """Have the trained dictionary in the store; give its id."""
    _, done, dumps = trained
    for name, dump in dumps.items():
        server.client.restore(name, 7 * 24 * 3600 * 1000, dump)
    return done.dictionary.id


def named_by(server, session):
    """Give the id of the dictionary that the record of *session* names, 0 for none."""
    return dictionary_of(server.client.get(NAMES.record(session.handle)))


def test_training(server, open_sessions):
    """A dictionary is trained on live sessions and used at once by the process that did it, and by new ones."""
    sessions = open_sessions()
    before = fill(sessions)

    done = sessions.train_dictionary()

    assert done.pays
    assert done.record_after < 0.75 * done.record_before
    after = sessions.create(content())
    assert [named_by(server, session) for session in (before[0], after)] == [0, done.dictionary.id]
    other = open_sessions()
    for session in (before[0], after):
        loaded = other.load(session.identifier)
        assert dict(loaded) == content()
        loaded["theme"] = "light"
        other.save(loaded)
        assert named_by(server, session) == done.dictionary.id
    assert server.keys_without_ttl() == []


@pytest.mark.requirement("R60")
def test_dictionary_is_sealed(server, open_sessions, dictionary):
    """What the store holds of a dictionary is not readable."""
    assert BACKEND.encode()[:12] not in server.client.get(NAMES.dictionary(dictionary))


def test_processes_that_run(server, open_sessions, trained, clock):
    """A process that runs reads what another has compressed at once, and compresses so itself within five minutes."""
    running = open_sessions()
    running.create(content())
    for name, dump in trained[2].items():
        server.client.restore(name, 3_600_000, dump)
    session = open_sessions().create(content())

    assert dict(running.load(session.identifier)) == content()
    assert named_by(server, session) == trained[1].dictionary.id
    assert named_by(server, running.create(content())) == 0
    clock.advance(ASKED_EVERY)
    assert named_by(server, running.create(content())) == trained[1].dictionary.id


def test_round_trips(server, open_sessions, dictionary):
    """An unknown dictionary is one more command, once in a process; a write asks every five minutes which is in use."""
    session, reader = open_sessions().create(content()), open_sessions(clock=None)
    reader.find(Handle.new())  # connects, and learns the time
    with server.commands() as commands:
        reader.load(session.identifier)
        reader.load(session.identifier)
    assert sorted(command.split()[0] for command in commands) == ["GET", "MGET", "MGET"]

    with server.commands() as commands:
        reader.create(content())
        reader.create(content())
    assert sorted(command.split()[0] for command in commands) == ["EVALSHA", "EVALSHA", "EVALSHA", "ZRANGE"]


def test_training_that_does_not_pay(server, open_sessions):
    """A dictionary that would save less than a tenth of the records is not stored."""
    sessions = open_sessions()
    for _ in range(210):
        sessions.create({"a": 1})

    done = sessions.train_dictionary()

    assert not done.pays
    assert sessions.dictionaries() == []
    assert server.keys("}:d") == []


def test_too_few_sessions(open_sessions):
    """With too few sessions nothing is trained."""
    sessions = open_sessions()
    fill(sessions, 5)

    with pytest.raises(NotEnoughSessions, match="it takes 200 sessions to train a dictionary, and 5 live"):
        sessions.train_dictionary()


def test_samples_are_bounded(open_sessions):
    """No more sessions are used than were asked for."""
    sessions = open_sessions()
    fill(sessions, 260)

    done = sessions.train_dictionary(samples=210, batch=50)

    assert done.samples + done.measured == 210
    with pytest.raises(ValueError, match="samples must be at least 1"):
        sessions.train_dictionary(samples=0)


def test_next_dictionary(server, open_sessions, dictionary, clock):
    """A newer dictionary takes the place of the one in use; what that has compressed still opens, and is listed."""
    sessions = open_sessions()
    first = sessions.create(content())
    for number in range(220):
        sessions.create({"order": f"no {number}", "delivery": "by the evening of the next working day", "paid": True})

    done = sessions.train_dictionary()

    assert done.pays
    assert [(one.id, one.in_use) for one in sessions.dictionaries()] == [
        (f"{done.dictionary.id:08x}", True),
        (f"{dictionary:08x}", False),
    ]
    assert dict(open_sessions().load(first.identifier)) == content()
    assert named_by(server, first) == dictionary


# How long a dictionary lives


@pytest.mark.requirement("R13")
def test_dictionary_outlives_its_records(server, open_sessions, dictionary):
    """Before a record is sealed that would outlive its dictionary, the dictionary's life is lengthened."""
    sessions, name = open_sessions(), NAMES.dictionary(dictionary)
    server.client.pexpire(name, 60_000)

    session = sessions.create(content())
    record = NAMES.record(session.handle)
    assert server.client.pttl(name) > timedelta(days=7) / timedelta(milliseconds=1)

    session.set_timeouts(idle=timedelta(days=90), absolute=timedelta(days=90))
    sessions.save(session)
    assert named_by(server, session) == dictionary
    assert min(server.client.pttl(key) for key in (name, NAMES.dictionaries)) > server.client.pttl(record)
    assert server.keys_without_ttl() == []


def test_dictionary_goes_by_itself(server, open_sessions, dictionary, clock):
    """A dictionary that nothing was compressed with for long is gone, and nobody misses it."""
    sessions = open_sessions()
    sessions.create(content())
    clock.advance(timedelta(days=10))

    assert server.keys("}:d") == []
    assert named_by(server, sessions.create(content())) == 0
    assert sessions.dictionaries() == []


def test_drop(server, open_sessions, dictionary, clock):
    """A dictionary in use goes in steps: no more is compressed with it, then no record needs it, then it is gone."""
    sessions, name = open_sessions(), f"{dictionary:08x}"
    session = sessions.create(content())

    assert sessions.drop_dictionary(name) == Dropped(deleted=False, wait=SETTLED)
    assert [(one.id, one.in_use) for one in sessions.dictionaries()] == [(name, False)]
    assert named_by(server, open_sessions().create(content())) == 0
    clock.advance(SETTLED - timedelta(minutes=1))
    assert sessions.drop_dictionary(name).wait <= timedelta(minutes=1)
    clock.advance(timedelta(minutes=1))
    assert sessions.drop_dictionary(name) == Dropped(deleted=False, records=1)
    assert dict(open_sessions().load(session.identifier)) == content()

    assert named_by(server, sessions.create(content())) == 0
    sessions.revoke(session)
    assert sessions.drop_dictionary(name) == Dropped(deleted=True)
    assert server.keys("}:d") == []
    assert sessions.drop_dictionary(name) is None


def test_drop_of_what_is_no_dictionary(open_sessions):
    """What is no id is refused; an id that there is not gives None."""
    sessions = open_sessions()

    assert sessions.drop_dictionary("0000abcd") is None
    for name in ("", "abcd", "0000ABCD", "0000abcd0"):
        with pytest.raises(ValueError, match="the id of a dictionary is 8 hexadecimal digits"):
            sessions.drop_dictionary(name)


# What can go wrong


@pytest.mark.requirement("R37")
def test_missing_dictionary(server, open_sessions, dictionary):
    """Without its dictionary a record is refused, says why, and is left alone; it opens when that is back."""
    session, name = open_sessions().create(content()), NAMES.dictionary(dictionary)
    record, dump = server.client.get(NAMES.record(session.handle)), server.client.dump(name)
    server.client.delete(name)

    sessions = open_sessions()
    with pytest.raises(RecordCorrupted, match=f"was compressed with dictionary {dictionary:08x}, which the store does"):
        sessions.load(session.identifier)

    assert server.client.get(NAMES.record(session.handle)) == record
    server.client.restore(name, 60_000, dump)
    assert dict(sessions.load(session.identifier)) == content()


@pytest.mark.parametrize("planted", [b"nonsense", b"\xff\xff", b"0000abcd", b""])
def test_planted_list(server, open_sessions, dictionary, planted):
    """What somebody else has put into the list of dictionaries hinders nobody: at most nothing is compressed by it."""
    sessions = open_sessions()
    server.client.zadd(NAMES.dictionaries, {planted: 2**46, b"00000001": float("inf")})

    session = sessions.create(content())

    assert dict(open_sessions().load(session.identifier)) == content()
    assert named_by(server, session) == (0 if planted == b"0000abcd" else dictionary)
    assert sessions.dictionaries()


@pytest.mark.requirement("R35")
def test_forged_dictionary(server, open_sessions, dictionary, logged):
    """A dictionary that somebody without the key has put there is not used: it would decide what records open to."""
    session, name = open_sessions().create(content()), NAMES.dictionary(dictionary)
    forged = bytearray(server.client.get(name))
    forged[100] ^= 1
    server.client.set(name, bytes(forged), keepttl=True)

    sessions = open_sessions()
    with pytest.raises(RecordCorrupted, match="or no key of the ring opens"):
        sessions.load(session.identifier)

    assert logged("session_dictionary_corrupted")
    assert named_by(server, sessions.create(content())) == 0


def test_lost_in_a_failover(server, open_sessions, dictionary, clock, logged):
    """A dictionary that the store has lost is put back by a process that compresses with it."""
    sessions = open_sessions()
    session = sessions.create(content())
    server.client.delete(NAMES.dictionary(dictionary), NAMES.dictionaries)

    clock.advance(ASKED_EVERY)
    sessions.create(content())

    assert logged("session_dictionary_lost")
    assert dict(open_sessions().load(session.identifier)) == content()
    assert server.keys_without_ttl() == []


def test_key_lost_alone(server, open_sessions, dictionary, clock):
    """The same where the list is left."""
    sessions = open_sessions()
    session = sessions.create(content())
    server.client.delete(NAMES.dictionary(dictionary))

    clock.advance(ASKED_EVERY)
    sessions.create(content())

    assert dict(open_sessions().load(session.identifier)) == content()


def test_dropped_while_a_process_slept(server, open_sessions, dictionary, clock):
    """A process that has not written for long does not bring back what was dropped meanwhile."""
    sessions = open_sessions()
    sessions.create(content())
    clock.advance(SETTLED)
    server.client.delete(NAMES.dictionary(dictionary), NAMES.dictionaries)

    assert named_by(server, sessions.create(content())) == 0
    assert server.keys("}:d") == []


@pytest.mark.requirement("R45")
def test_no_answer_about_dictionaries(server, open_sessions, dictionary, logged):
    """Where it cannot be learnt which dictionary is in use, sessions are written without one."""
    sessions = open_sessions()
    with failing(sessions, "ZRANGE"):
        session = sessions.create(content())

    assert logged("session_dictionary_unavailable")
    assert named_by(server, session) == 0


@pytest.mark.requirement("R45")
def test_no_answer_for_a_reader(open_sessions, dictionary):
    """Where the dictionary cannot be asked for, that is an outage, and no sign that the record is damaged."""
    session, sessions = open_sessions().create(content()), open_sessions()

    with failing(sessions, "GET"), pytest.raises(StoreUnavailable):
        sessions.load(session.identifier)

    assert dict(sessions.load(session.identifier)) == content()


@pytest.mark.requirement("R36")
def test_keys_rotate(server, open_sessions, dictionary, key):
    """A dictionary is sealed anew with the first key, so that a former one can go; resealing looks at all of them."""
    session, new = open_sessions().create(content()), new_key()
    turned = open_sessions(keys=[new, key])

    assert turned.reseal().resealed == 1

    sessions = open_sessions(keys=new)
    assert dict(sessions.load(session.identifier)) == content()
    assert named_by(server, sessions.create(content())) == dictionary


@pytest.mark.requirement("R36")
def test_keys_rotate_without_resealing(server, open_sessions, dictionary, key):
    """The first process that uses a dictionary under the new key seals it anew, before it seals a record with it."""
    new = new_key()
    session = open_sessions(keys=[new, key]).create(content())

    sessions = open_sessions(keys=new)
    assert named_by(server, session) == dictionary
    assert dict(sessions.load(session.identifier)) == content()


@pytest.mark.requirement("R36")
def test_unknown_key(server, open_sessions, dictionary):
    """A process without the dictionary's key writes without it."""
    session = open_sessions(keys=new_key()).create(content())

    assert named_by(server, session) == 0


# Every way in which a record comes


def test_what_another_process_has_compressed(open_sessions, dictionary):
    """Lists, sign-ins, sign-outs, merges and compartments open what another process has compressed."""
    policy = SessionPolicy(compartments={"cart": timedelta(minutes=10)}, listed=("theme",), carried=None)
    writer = open_sessions(policy=policy)

    def fresh():
        return open_sessions(policy=policy)

    session = writer.create(content())
    session.compartment("cart")["items"] = [content()] * 2
    writer.save(session)
    assert fresh().load(session.identifier).compartment("cart")["items"] == [content()] * 2

    writer.bind(session, "ada")
    (info,) = fresh().list_for("ada")
    assert info.metadata == {"theme": "dark"}
    assert fresh().find(info.handle)["theme"] == "dark"

    mine = session
    theirs = writer.load(session.identifier)
    theirs["theme"] = "light"
    theirs.compartment("cart")["items"] = [content()] * 3
    writer.save(theirs)
    other = fresh()
    mine["seen"] = 1
    mine.compartment("cart")["more"] = 2
    other.save(mine)
    merged = fresh().load(session.identifier)
    assert (merged["theme"], merged["seen"], merged.compartment("cart")["more"]) == ("light", 1, 2)

    again = fresh()
    again.bind(merged, "ada")
    fresh().unbind(merged)
    assert merged["theme"] == "light"
    assert merged.subject is None


@contextmanager
def failing(sessions, command):
    """Have *command* of these sessions fail as if the store could not be reached."""
    core = sessions._sessions if isinstance(sessions, Stepped) else sessions.core
    transport, sound = core._store.transport, core._store.transport.call

    async def call(*commands):
        if commands and commands[0][0] == command:
            raise StoreUnavailable("the line broke")
        return await sound(*commands)

    transport.call = call
    yield
    transport.call = sound
