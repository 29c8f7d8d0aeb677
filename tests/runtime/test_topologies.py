"""Sentinel and Cluster: the same operations, while servers are killed, frozen, moved and promoted."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event

import pytest

import coatcheck
from coatcheck import ConfigurationError, EventType, StoreUnavailable
from coatcheck.engine.keys import Keys
from coatcheck.engine.operations import Operations
from coatcheck.runtime.address import Address
from coatcheck.runtime.blocking import BlockingTransport
from coatcheck.runtime.sync import run
from coatcheck.runtime.topology import slot_of
from tests.fix_topology import loads
from tests.waiting import SLACK, wait_until

DEADLINE = 0.25
SEVERAL = pytest.mark.parametrize("kind", ["sentinel", "cluster"])


class Load:
    """Requests of many users at once: each loads the own session, counts in it and saves it."""

    def __init__(self, sessions, users=8, patient=None):
        """Store a session for each user, by way of *patient*, where *sessions* have a short deadline."""
        self.sessions = sessions
        self.stored = [(patient or sessions).create({"who": number, "n": 0}) for number in range(users)]
        self.done = 0
        self.errors: list[Exception] = []
        self.wrong: list[object] = []
        self.waits: list[float] = []
        self._ends = False

    def run(self, meanwhile: Callable[[], None]):
        """Work while *meanwhile* does what it does."""
        with ThreadPoolExecutor(len(self.stored)) as threads:
            working = [threads.submit(self._work, number) for number in range(len(self.stored))]
            try:
                meanwhile()
            finally:
                self._ends = True
            for work in working:
                work.result()

    def _work(self, number):
        if isinstance(self.sessions, coatcheck.Sessions):
            while not self._ends:
                run(self._request(self.sessions.core, number))
        else:
            asyncio.run(self._work_on_a_loop(number))

    async def _work_on_a_loop(self, number):
        while not self._ends:
            await self._request(self.sessions._sessions, number)

    async def _request(self, sessions, number):
        began = time.monotonic()
        try:
            session = await sessions.load(self.stored[number].identifier)
            if session is None or session["who"] != number:
                self.wrong.append(session)
                return
            session.increment("n")
            await sessions.save(session)
            self.done += 1
        except coatcheck.SessionError as error:
            self.errors.append(error)
            await sessions._store.transport.pause(0.01)
        finally:
            self.waits.append(time.monotonic() - began)


def works_again(load):
    """Wait until requests succeed again."""
    wait_until(lambda seen=load.done: load.done > seen + 20, "requests succeed again")


@SEVERAL
def test_everything_works(start_topology, open_at, kind):
    """Signing in, lists, limits, events, sweeping and resealing work, over all partitions, on several servers."""
    sessions = open_at(start_topology(kind).url, policy=coatcheck.SessionPolicy(limit=3))
    stored = [sessions.create({"n": number}) for number in range(60)]
    for number, session in enumerate(stored):
        sessions.bind(session, f"user {number % 15}")

    assert {len(sessions.list_for(f"user {number}")) for number in range(15)} == {3}
    assert sessions.reseal(batch=7).seen == 45
    events = sessions.read_events("audit", "one")
    assert [event.type for event in events].count(EventType.EVICTED) == 15
    assert sessions.acknowledge_events("audit", events) == len(events)
    assert sessions.revoke_all("user 1") == 3
    sessions.revoke_everyone()
    assert [sessions.load(session.identifier) for session in stored] == [None] * 60


def test_replies_of_several_nodes(start_topology):
    """Commands for several nodes come back in their order; those without a key go along."""
    transport = BlockingTransport(Address(start_topology("cluster").url), {})
    names = [Keys("cc").epoch(partition) for partition in range(256)]
    try:
        set_, *_ = zip(*[iter(run(transport.call(*(("SET", name, name, "EX", 60) for name in names))))], strict=True)
        *found, clock = run(transport.call(*(("GET", name) for name in names), ("TIME",)))
    finally:
        transport.close()

    assert len({transport.topology.route(("GET", name)) for name in names}) == 3
    assert set(set_) == {b"OK"}
    assert found == [name.encode() for name in names]
    assert len(clock) == 2


@SEVERAL
def test_server(start_topology, open_at, kind):
    """What the server is, is asked."""
    server = open_at(start_topology(kind).url).server()

    assert (server.kind, server.version > (9, 0), server.is_cluster) == ("valkey", True, kind == "cluster")


@SEVERAL
@pytest.mark.requirement("R49")
def test_primary_killed_under_load(start_topology, open_at, kind):
    """When a primary is killed, requests fail in time, as unavailable; nothing is mixed up, and all goes on."""
    topology = start_topology(kind)
    sessions = open_at(topology.url, deadline=timedelta(seconds=DEADLINE))
    load = Load(sessions, patient=open_at(topology.url))

    def kill():
        works_again(load)
        topology.kill("primary")
        wait_until(lambda: load.errors or kind == "cluster", "a request fails")
        wait_until(lambda: _serves_all(topology), "a replica takes over")
        works_again(load)

    load.run(kill)

    assert {type(error) for error in load.errors} <= {StoreUnavailable}
    assert load.wrong == []
    assert sorted(load.waits)[len(load.waits) * 99 // 100] < 2 * (DEADLINE + SLACK)  # a load and a save


def _serves_all(topology):
    try:
        return all(topology.primary(None if topology.kind == "sentinel" else slot) for slot in (0, 6000, 12000))
    except StoreUnavailable:
        return False


@SEVERAL
@pytest.mark.requirement("R51")
def test_planned_failover_under_load(start_topology, open_at, kind):
    """A planned failover loses nothing that was acknowledged, and mixes up nothing."""
    topology = start_topology(kind)
    load = Load(open_at(topology.url))

    def fail_over():
        works_again(load)
        topology.failover()
        works_again(load)

    load.run(fail_over)

    assert {type(error) for error in load.errors} <= {StoreUnavailable}
    assert load.wrong == []
    if kind == "cluster":
        counted = sum(load.sessions.load(session.identifier)["n"] for session in load.stored)
        assert load.done <= counted <= load.done + len(load.errors)


@pytest.mark.requirement("R40")
def test_slot_moves_under_load(start_topology, open_at):
    """While slots move to another node and back, key by key, no request fails."""
    topology = start_topology("cluster")
    load = Load(open_at(topology.url))
    slots = sorted({slot_of(("GET", Keys("cc").record(session.handle))) for session in load.stored})

    def move():
        works_again(load)
        for slot in slots:
            home = topology.primary(slot)
            away = next(name for name in ("node1", "node2", "node3") if name != home)
            topology.move_slot(slot, home, away)
            topology.move_slot(slot, away, home)
        works_again(load)

    load.run(move)

    assert load.errors == []
    assert load.wrong == []


@pytest.mark.requirement("R40")
def test_load_while_a_slot_is_open(start_topology, open_at):
    """Half-way through a move a session can be loaded, be its record still here or already there."""
    topology = start_topology("cluster")
    sessions = open_at(topology.url, deadline=timedelta(seconds=1))
    session = sessions.create({"a": 1})
    slot = slot_of(("GET", Keys("cc").record(session.handle)))
    home = topology.primary(slot)
    move = topology.begin_move(slot, home, next(name for name in ("node1", "node2", "node3") if name != home))

    assert sessions.load(session.identifier)["a"] == 1
    move.move_keys()
    assert sessions.load(session.identifier)["a"] == 1
    move.finish()
    assert sessions.load(session.identifier)["a"] == 1


@SEVERAL
def test_scripts_forgotten_under_load(start_topology, open_at, kind):
    """Servers that forget the scripts are given them again; no request fails."""
    topology = start_topology(kind)
    load = Load(open_at(topology.url))

    def forget():
        works_again(load)
        for _ in range(20):
            for name in ("node1", "node2", "node3"):
                with topology.client(name) as client:
                    client.script_flush()
        works_again(load)

    load.run(forget)

    assert load.errors == []
    assert load.wrong == []


@pytest.mark.parametrize("kind", ["single", "sentinel", "cluster"])
@pytest.mark.requirement("R50")
def test_frozen_primary(start_topology, open_at, kind):
    """A call to a frozen server ends within its deadline, be it the first one or one of many; soon none is sent."""
    topology = start_topology(kind, detection=timedelta(seconds=60))
    warm, cold = (open_at(topology.url, deadline=timedelta(seconds=DEADLINE)) for _ in range(2))
    patient, home = open_at(topology.url), topology.primary()
    with topology.client(home) as client:
        sessions = [patient.create({"n": number}) for number in range(40)]
        stuck = (
            [session for session in sessions if client.exists(Keys("cc").record(session.handle))]
            if (kind != "cluster")
            else [session for session in sessions if topology.primary(_slot(session)) == home]
        )
    wait_until(lambda: loads(warm, stuck[0]), "it is in time once")
    topology.pause(home)
    waits, texts = [], []
    try:
        for session in stuck[:6] * 5:
            for opened in (warm, cold):
                began = time.monotonic()
                with pytest.raises(StoreUnavailable) as failed:
                    opened.load(session.identifier)
                waits.append(time.monotonic() - began)
                texts.append(str(failed.value))
    finally:
        topology.resume()

    assert sorted(waits)[len(waits) * 99 // 100] < DEADLINE + SLACK
    assert "no answer within the deadline of 250 ms: " in texts[0]
    assert any("not tried: " in text and " in a row and is left alone for a moment" in text for text in texts)
    wait_until(lambda: loads(warm, stuck[0]) and loads(cold, stuck[0]), "it is tried again")


def _slot(session):
    return slot_of(("GET", Keys("cc").record(session.handle)))


def test_frozen_sentinel(start_topology, open_at):
    """A sentinel that does not answer does not keep a new process from finding the primary in time."""
    topology = start_topology("sentinel", detection=timedelta(seconds=60))
    topology.pause("sentinel1")
    try:
        for _ in range(3):
            sessions = open_at(topology.url, deadline=timedelta(seconds=1))
            assert sessions.load(sessions.create({"a": 1}).identifier)["a"] == 1
    finally:
        topology.resume()


def test_replica_named_by_sentinel(start_topology, open_at, monkeypatch):
    """A server that says it is a replica is not used, whoever names it: it might serve sessions that have ended."""
    topology = start_topology("sentinel", detection=timedelta(seconds=60))
    sessions = open_at(topology.url, deadline=timedelta(seconds=1))
    session = sessions.create({"a": 1})
    with topology.client(topology.primary()) as client, topology.client("node2") as other:
        wait_until(lambda: other.get(Keys("cc").record(session.handle)), "the replica has it")
        client.replicaof("127.0.0.1", other.connection_pool.connection_kwargs["port"])
        client.client_kill_filter(_type="normal", skipme=True)
        fresh = open_at(topology.url, deadline=timedelta(seconds=1))

        with pytest.raises(StoreUnavailable, match="Sentinel names a server that is a replica: a failover may be"):
            fresh.load(session.identifier)

        client.replicaof("NO", "ONE")
    wait_until(lambda: loads(fresh, session), "it is the primary again")


@pytest.mark.requirement("R49")
def test_primary_that_refuses_writes(start_topology, open_at):
    """A primary that refuses writes, having lost its replicas, may have been replaced: Sentinel is asked again."""
    topology = start_topology("sentinel", detection=timedelta(seconds=60))
    sessions = open_at(topology.url, deadline=timedelta(seconds=1))
    session = sessions.create({"a": 1})
    with topology.client("node1") as former, topology.client("node2") as other:
        wait_until(lambda: other.get(Keys("cc").record(session.handle)), "the replica has it")
        former.config_set("min-replicas-to-write", 3)
        other.replicaof("NO", "ONE")
        for name in ("sentinel1", "sentinel2", "sentinel3"):
            with topology.client(name) as sentinel:
                sentinel.execute_command("SENTINEL", "REMOVE", "coatcheck")
                port = other.connection_pool.connection_kwargs["port"]
                sentinel.execute_command("SENTINEL", "MONITOR", "coatcheck", "127.0.0.1", port, 2)
        session["a"] = 2
        with pytest.raises(StoreUnavailable, match="too few replicas follow it"):
            sessions.save(session)

        def is_saved():  # Sentinel is not asked twice within 50 ms
            try:
                sessions.save(session)
            except StoreUnavailable:
                return False
            return True

        wait_until(is_saved, "the other is found")
        assert other.get(Keys("cc").record(session.handle)) != former.get(Keys("cc").record(session.handle))
    assert sessions.load(session.identifier)["a"] == 2


def test_unknown_service(start_topology, open_at):
    """A name that no sentinel knows is said to be that."""
    url = start_topology("sentinel").url.rpartition("/")[0] + "/other"

    with pytest.raises(StoreUnavailable, match="cannot be reached: no sentinel knows a primary called 'other'"):
        open_at(url).create({"a": 1})


def test_passwords(start_topology, open_at):
    """Servers and sentinels have users of their own; a wrong password is a mistake in the configuration."""
    topology = start_topology("sentinel", password="pw", sentinel_user="watch", sentinel_password="spw")
    url = topology.url + "?sentinel_username=watch&sentinel_password="

    sessions = open_at(url + "spw")
    assert sessions.load(sessions.create({"a": 1}).identifier)["a"] == 1
    for wrong in (url + "other", (url + "spw").replace(":pw@", ":other@"), topology.url):
        with pytest.raises(ConfigurationError, match="refuses the user or the password: "):
            open_at(wrong).create({"a": 1})


def test_wrong_kind_of_address(start_topology, open_at):
    """A Cluster that is addressed as one server, and the reverse, is said to be the other."""
    cluster, single = start_topology("cluster"), start_topology("single")
    sessions = open_at(cluster.url.replace("cluster://", "redis://").partition(",")[0])

    with pytest.raises(ConfigurationError, match="is a node of a Cluster: write cluster:// instead"):
        sessions.revoke_everyone()
    with pytest.raises(ConfigurationError, match="is no node of a Cluster: write redis://127"):
        open_at(single.url.replace("redis://", "cluster://")).create({"a": 1})


@SEVERAL
def test_listening_over_a_failover(start_topology, kind, key):
    """Events are heard from whichever server there is, also after the one that told them has been killed."""
    topology = start_topology(kind)
    with coatcheck.Sessions(topology.url, keys=key, deadline=timedelta(seconds=2)) as sessions:
        told = Event()
        sessions.on(EventType.REVOKED)(lambda _: told.set())

        def revoke_one():
            told.clear()
            try:
                session = sessions.create({"a": 1})
                sessions.bind(session, "ada")
                sessions.revoke(session)
            except StoreUnavailable:
                return False
            return told.wait(0.1)

        with sessions.listening():
            wait_until(revoke_one, "an event is told")
            topology.kill("node1")
            wait_until(lambda: _serves_all(topology), "a replica takes over")
            wait_until(lambda: all(revoke_one() for _ in range(3)), "events are told again")


def test_operations_over_either_transport(start_topology, key):
    """The engine knows nothing of topologies: it works over a transport made by hand."""
    transport = BlockingTransport(Address(start_topology("cluster").url), {})
    stored = run(Operations(transport, keyring=coatcheck.Keyring.parse(key)).create({"a": 1}))
    transport.close()

    assert stored.handle is not None
