"""Processes that are cut off with a primary, or from news of its successor, on real servers."""

import time
from datetime import timedelta

import pytest

import coatcheck
from coatcheck import EventType, RevocationPending, StoreUnavailable
from coatcheck.engine.keys import Keys
from tests.waiting import wait_until

SENTINELS = ("sentinel1", "sentinel2", "sentinel3")


@pytest.fixture
def topology(start_topology):
    """Start servers that are not replaced by themselves."""
    return start_topology("sentinel", detection=timedelta(seconds=60))


def answer(sessions, session):
    """Load *session*; give the text of the error if it is unavailable."""
    try:
        return sessions.load(session.identifier)
    except StoreUnavailable as error:
        return str(error)


@pytest.mark.requirement("R48")
@pytest.mark.requirement("R41")
def test_cut_off_from_the_sentinels(topology, open_at):
    """Who hears nothing of two sentinels of three stops using the primary, though it answers, until it hears again."""
    deadline = timedelta(milliseconds=500)
    sessions = open_at(topology.url, sentinel_lease=timedelta(seconds=1), deadline=deadline)
    session = sessions.create({"a": 1})
    for name in SENTINELS[1:]:
        topology.pause(name)
    try:
        began = time.monotonic()
        wait_until(lambda: isinstance(answer(sessions, session), str), "it is not read any more")
        assert time.monotonic() - began < 3
        assert all(isinstance(answer(sessions, session), str) for _ in range(5))
        why = "of 3 sentinels 1 say who is the primary, and no majority: another may have"
        wait_until(lambda: why in str(answer(sessions, session)), "it is said why")
        with pytest.raises(StoreUnavailable):
            sessions.create({"a": 2})
        with pytest.raises(StoreUnavailable):
            open_at(topology.url, deadline=deadline).load(session.identifier)
    finally:
        topology.resume()

    wait_until(lambda: not isinstance(answer(sessions, session), str), "it is read again")


def test_left_alone_after_looking_in_vain(topology, open_at):
    """When it was looked for the primary five times in vain, calls fail at once for a moment."""
    sessions = open_at(topology.url, deadline=timedelta(milliseconds=250))
    for name in SENTINELS:
        topology.pause(name)
    try:
        wait_until(
            lambda: " times in a row in vain, and is left alone for a moment: of 3 sentinels 0 " in _created(sessions),
            "it is left alone",
        )
    finally:
        topology.resume()

    wait_until(lambda: _created(sessions) == "", "it is tried again")


def _created(sessions):
    try:
        sessions.create({"a": 1})
    except StoreUnavailable as error:
        return str(error)
    return ""


def test_sentinels_that_were_killed(topology, open_at, caplog):
    """Sentinels that do not run elect nobody: without a majority of them the primary is used on, and that is logged."""
    sessions = open_at(topology.url, sentinel_lease=0.5)
    session = sessions.create({"a": 1})
    for name in SENTINELS[1:]:
        topology.kill(name)
    ends = time.monotonic() + 1.5  # of the sentinels' time
    while time.monotonic() < ends:
        assert sessions.load(session.identifier)["a"] == 1
    assert open_at(topology.url).load(session.identifier)["a"] == 1

    missing = [record.sentinel for record in caplog.records if record.message == "session_sentinel_missing"]
    assert len(missing) == 4
    assert len(set(missing)) == 2


def test_without_a_lease(topology, open_at):
    """sentinel_lease=0: the primary is used until it fails, whoever is silent."""
    sessions = open_at(topology.url + "?sentinel_lease=0")
    session = sessions.create({"a": 1})
    for name in SENTINELS:
        topology.pause(name)
    try:
        assert sessions.load(session.identifier)["a"] == 1
        assert sessions.load(open_at(topology.url).new().identifier or "00" * 40) is None
    finally:
        topology.resume()


def replace(topology):
    """Let node2 take the place of node1, which goes on answering as a primary."""
    with topology.client("node2") as client:
        client.replicaof("NO", "ONE")
        port = client.connection_pool.connection_kwargs["port"]
    for name in SENTINELS:
        with topology.client(name) as sentinel:
            sentinel.execute_command("SENTINEL", "REMOVE", "coatcheck")
            sentinel.execute_command("SENTINEL", "MONITOR", "coatcheck", "127.0.0.1", port, 2)


@pytest.mark.requirement("R45")
def test_session_of_the_successor(topology, open_at):
    """Who still uses a former primary finds a session that is only on its successor: nobody is logged out."""
    behind = open_at(topology.url, sentinel_lease=60)
    behind.create({"a": 1})
    replace(topology)
    session = open_at(topology.url).create({"a": 2})
    with topology.client("node1") as former:
        assert not former.exists(Keys("cc").record(session.handle))

    assert behind.load(session.identifier)["a"] == 2
    assert behind.find(session.handle)["a"] == 2


@pytest.mark.requirement("R45")
def test_secret_of_the_successor(topology, open_at):
    """Who still uses a former primary, which has a former secret, accepts the one that its successor has given."""
    behind = open_at(topology.url, sentinel_lease=60)
    session = behind.create({"a": 1})
    with topology.client("node2") as client:
        wait_until(lambda: client.exists(Keys("cc").record(session.handle)), "the replica has it")
    replace(topology)
    other = open_at(topology.url)
    rotated = other.load(session.identifier)
    other.rotate(rotated)

    assert behind.load(rotated.identifier)["a"] == 1


@pytest.mark.parametrize("how", ["handle", "sign-out", "all"])
@pytest.mark.requirement("R25")
def test_end_at_a_former_primary(topology, open_at, how):
    """An end that a former primary has carried out is carried out on its successor too, before it is confirmed."""
    behind = open_at(topology.url, sentinel_lease=60)
    session = behind.create({"a": 1})
    behind.bind(session, "ada")
    record = Keys("cc").record(session.handle)
    with topology.client("node1") as former, topology.client("node2") as successor:
        wait_until(lambda: successor.exists(record), "the replica has it")
        replace(topology)
        if how == "handle":
            assert behind.revoke(session.handle)
        elif how == "all":
            assert behind.revoke_all("ada") == 1
        else:
            behind.unbind(session)

        assert (former.exists(record), successor.exists(record)) == (0, 0)


@pytest.mark.requirement("R48")
def test_former_primary_that_answers(topology, open_at):
    """A former primary that goes on answering is left within a third of the lease."""
    sessions, other = open_at(topology.url, sentinel_lease=0.9), open_at(topology.url)
    session = sessions.create({"a": 1})
    sessions.bind(session, "ada")
    with topology.client("node2") as client:
        wait_until(lambda: client.exists(Keys("cc").record(session.handle)), "the replica has it")
    replace(topology)
    assert other.revoke(session.handle, subject="ada")
    began = time.monotonic()

    wait_until(lambda: sessions.load(session.identifier) is None, "it is seen to have ended")
    assert time.monotonic() - began < 2  # on a machine that does other things too


@pytest.mark.requirement("R45")
def test_nothing_found_and_nobody_to_confirm_it(topology, open_at):
    """That a session is unknown is no answer while the sentinels cannot be asked."""
    sessions = open_at(topology.url, sentinel_lease=60, deadline=timedelta(seconds=1))
    known, unknown = sessions.create({"a": 1}), sessions.create({"a": 2})
    sessions.revoke(unknown)
    for name in SENTINELS:
        topology.pause(name)
    try:
        assert sessions.load(known.identifier)["a"] == 1
        with pytest.raises(StoreUnavailable, match="of 3 sentinels 0 say who is the primary"):
            sessions.load(unknown.identifier)
    finally:
        topology.resume()


@pytest.mark.requirement("R45")
@pytest.mark.requirement("R25")
def test_primary_that_is_being_replaced(topology, open_at):
    """While sentinels replace a primary it is used on; that a session is unknown, or has ended, is no answer yet."""
    sessions = open_at(topology.url, deadline=timedelta(seconds=1))
    known, unknown, ended = sessions.create({"a": 1}), sessions.create({"a": 2}), sessions.create({"a": 3})
    sessions.bind(ended, "ada")
    sessions.revoke(unknown)
    for name in ("node2", "node3"):
        topology.pause(name)
    try:
        with topology.client("sentinel1") as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", "coatcheck")
            wait_until(lambda: "failover_in_progress" in sentinel.sentinel_master("coatcheck")["flags"], "it has begun")
        assert sessions.load(known.identifier)["a"] == 1
        with pytest.raises(StoreUnavailable, match="the sentinels are about to replace 127"):
            sessions.load(unknown.identifier)
        with pytest.raises(RevocationPending):
            sessions.revoke(ended.handle)
    finally:
        topology.resume()

    wait_until(lambda: answer(sessions, unknown) is None, "another is the primary")
    assert sessions.load(ended.identifier) is None


def test_listening_to_a_former_primary(topology, key):
    """Who listens to a former primary that goes on answering is told by its successor once the process knows that."""
    with (
        coatcheck.Sessions(topology.url, keys=key, sentinel_lease=0.9) as sessions,
        coatcheck.Sessions(topology.url, keys=key) as other,
    ):
        told = []
        sessions.on(EventType.REVOKED)(told.append)
        session = sessions.create({"a": 1})
        with sessions.listening():
            replace(topology)

            def is_told():
                sessions.load(session.identifier)
                ended = other.create({"a": 2})
                other.bind(ended, "ada")
                other.revoke(ended)
                return told

            wait_until(is_told, "an end is told")
