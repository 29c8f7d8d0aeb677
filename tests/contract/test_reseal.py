"""Sealing keys change while sessions are used: nobody is signed out, and at last the former key can go."""

from contextlib import contextmanager
from datetime import timedelta

import pytest

from coatcheck import Sessions, new_key
from coatcheck.engine.keys import Keys
from coatcheck.engine.resealing import Resealed
from coatcheck.model.keyring import Keyring
from coatcheck.model.record import Header, Payload, Records
from coatcheck.model.ticket import Handle

OLD, NEW = new_key(), new_key()


@pytest.fixture
def former(server, clock):
    """Give the sessions of a process that knows the old key only."""
    with Sessions(server.url, keys=OLD, clock=clock) as sessions:
        yield sessions


@pytest.fixture
def latter(open_sessions):
    """Give the sessions of a process that seals with the new key and opens with both."""
    return open_sessions(keys=[NEW, OLD])


def records(server):
    """Give the records that are stored."""
    return {name: server.client.get(name) for name in server.keys(":s:")}


@pytest.mark.requirement("R36")
def test_rotation_logs_nobody_out(open_sessions, former):
    """A ring grows, turns and shrinks again; sessions from before are there at every step, and can be written."""
    anonymous, signed_in = former.create({"cart": 1}), former.create({"cart": 2})
    former.bind(signed_in, "ada")

    grown = open_sessions(keys=[OLD, NEW])
    for session in (anonymous, signed_in):
        again = grown.load(session.identifier)
        again["seen"] = True
        grown.save(again)
    turned = open_sessions(keys=[NEW, OLD])
    assert turned.load(anonymous.identifier)["seen"]
    assert turned.load(signed_in.identifier)["seen"]
    assert turned.reseal() == Resealed(seen=2, resealed=2)

    sessions = open_sessions(keys=NEW)
    assert sessions.load(anonymous.identifier)["cart"] == 1
    assert sessions.load(signed_in.identifier)["cart"] == 2
    assert sessions.load(signed_in.identifier).subject == "ada"


def test_reseal_changes_the_seal_only(server, former, latter):
    """Revision, deadlines, secret and TTL of a resealed record stay; it is its seal that is another."""
    session = former.create({"text": "long " * 100})
    (name,) = server.keys(":s:")
    before, left = records(server)[name], server.client.pttl(name)

    assert latter.reseal() == Resealed(seen=1, resealed=1)

    after = records(server)[name]
    old_id, new_id = (Keyring.parse(key).keys[0].key_id for key in (OLD, NEW))
    assert (before[2:4], after[2:4]) == (old_id, new_id)
    assert after[:2] + after[4:64] == before[:2] + before[4:64]
    assert len(after) == len(before)
    assert left - 5000 < server.client.pttl(name) <= left
    assert latter.load(session.identifier)["text"] == "long " * 100


def test_reseal_of_a_rotated_session(former, latter, open_sessions):
    """A session whose former secret is in its grace is resealed with it."""
    session = former.create({"a": 1})
    identifier = session.identifier
    former.rotate(session)

    assert latter.reseal().resealed == 1

    sessions = open_sessions(keys=NEW)
    assert sessions.load(identifier)["a"] == 1
    assert sessions.load(session.identifier)["a"] == 1


def test_compartments_are_resealed(server, latter, clock):
    """A compartment, sealed as one, is resealed as one."""
    handle = Handle.new()
    header = Header(
        revision=3, created_at=1, absolute_deadline=2**40, seen_at=1, idle_timeout=9, persistent=True, digest=bytes(32)
    )
    before = Records(Keyring.parse(OLD), "cc").seal(handle, header, Payload(None, {"n": b"\x01"}), "cart")
    name = Keys("cc").compartment(handle, "cart")
    server.client.set(name, before, px=60_000)

    assert latter.reseal() == Resealed(seen=1, resealed=1)

    resealed = Records(Keyring.parse(NEW), "cc")
    assert resealed.open(handle, server.client.get(name), "cart") == (header, Payload(None, {"n": b"\x01"}))


def test_second_run_finds_nothing(server, former, latter):
    """What is sealed with the first key is left alone."""
    for number in range(30):
        former.create({"n": number})
    latter.reseal()
    before = records(server)

    assert latter.reseal(batch=7) == Resealed(seen=30)
    assert records(server) == before


def test_small_batches_reach_everything(former, latter):
    """However small the batches, every record is looked at."""
    for number in range(50):
        former.create({"n": number})

    result = latter.reseal(batch=1)

    assert result.resealed == 50


def test_batch_must_be_positive(latter):
    """A batch of nothing is refused."""
    with pytest.raises(ValueError, match="batch must be at least 1"):
        latter.reseal(batch=0)


def test_other_prefixes_are_not_touched(server, open_sessions, latter):
    """Only the records of the own prefix are looked at, whatever else is in the database."""
    open_sessions(keys=OLD, prefix="cc:x").create({"a": 1})
    server.client.set("cc:{zzz}:s:not-a-handle", "x", px=60_000)
    server.client.set("cc:{06S}:s:neither", "x", px=60_000)

    assert latter.reseal() == Resealed()


@pytest.mark.requirement("R36")
def test_record_of_an_unknown_key_is_left(server, open_sessions, latter, caplog):
    """A record that no key of the ring opens is counted, and stays as it is."""
    stranger = open_sessions(keys=new_key())
    session = stranger.create({"a": 1})
    before = records(server)

    assert latter.reseal() == Resealed(seen=1, unreadable=1)

    assert [record.getMessage() for record in caplog.records] == ["session_record_corrupted"]
    assert records(server) == before
    assert stranger.load(session.identifier)["a"] == 1


def test_a_write_in_between_wins(former, latter):
    """A session that is saved between the look and the replacement keeps what was saved; the next run reseals it."""
    session = former.create({"n": 1})
    with between(latter, lambda: change(former, session)):
        assert latter.reseal() == Resealed(seen=1, changed=1)

    assert latter.load(session.identifier)["n"] == 2
    assert latter.reseal() == Resealed(seen=1, resealed=1)
    assert latter.load(session.identifier)["n"] == 2


def test_an_end_in_between_is_final(server, former, latter):
    """A session that ends between the look and the replacement does not come back."""
    session = former.create({"n": 1})
    with between(latter, lambda: former.revoke(session)):
        assert latter.reseal() == Resealed(seen=1, changed=1)

    assert records(server) == {}


def test_a_save_over_a_reseal(former, latter):
    """A request that had read a session before it was resealed saves it without a conflict."""
    session = former.load(former.create({"n": 1}).identifier)
    latter.reseal()

    session.strict = True
    change(former, session)

    assert latter.load(session.identifier)["n"] == 2


def test_a_repeated_replacement_is_done(former, latter):
    """The script that is sent twice, since its reply was lost, says twice that it is done."""
    session = former.create({"n": 1})
    with between(latter, lambda: None, twice=True):
        assert latter.reseal() == Resealed(seen=1, resealed=1)

    assert latter.load(session.identifier)["n"] == 1


@pytest.mark.requirement("R36")
def test_sessions_of_a_subject_until_they_end(open_sessions, former, latter):
    """Resealed sessions are found by their subject while the ring has the former key, without it no more."""
    session = former.create({"a": 1})
    former.bind(session, "ada")
    latter.reseal()

    assert len(latter.list_for("ada")) == 1
    assert open_sessions(keys=NEW).list_for("ada") == []
    assert open_sessions(keys=NEW).load(session.identifier)["a"] == 1
    assert latter.revoke_all("ada") == 1
    assert open_sessions(keys=NEW).load(session.identifier) is None


def test_idle_timeout_is_not_extended(clock, former, latter):
    """To reseal a session is not to use it."""
    session = former.create({"a": 1})
    clock.advance(timedelta(minutes=20))
    latter.reseal()
    clock.advance(timedelta(minutes=11))

    assert latter.load(session.identifier) is None


def test_without_reseal_the_former_key_is_needed(former, latter, open_sessions):
    """A record sealed with a key that has left the ring counts as none."""
    session = former.create({"a": 1})

    assert open_sessions(keys=NEW).load(session.identifier) is None


def change(sessions, session):
    """Save a change."""
    session["n"] = 2
    sessions.save(session)


@contextmanager
def between(sessions, action, *, twice=False):
    """Do something right before *sessions* run a script; send that twice, if wanted."""
    core = getattr(sessions, "core", None) or sessions._sessions
    transport = core._store.transport
    sound = transport.call

    async def call(*commands):
        if commands[0][0] == "EVALSHA":
            action()
            if twice:
                await sound(*commands)
        return await sound(*commands)

    transport.call = call
    yield
    transport.call = sound
