"""Applications that are killed in the middle of what they do: the indexes are right after one sweep all the same."""

import os
import secrets
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from random import Random

import pytest

import coatcheck
from coatcheck.model.partition import TAGS
from tests.contract.chaos import MINUTE, indexed, signed_in

ROOT = Path(__file__).parents[2]
OPERATIONS = 10_000
KILLS = 16
AT_ONCE = 3
LIMIT = 6


class Apps:
    """A few processes that do anything at random; each is killed again and again, and another one takes its place."""

    def __init__(self, server, key, seed):
        self._command = [sys.executable, "-m", "tests.contract.chaos_worker", server.url, key, str(LIMIT)]
        self._chance = Random(seed)  # noqa: S311  it chooses when to kill
        self._running = []
        self.done = self.kills = 0

    def run(self):
        """Let OPERATIONS things happen, and KILLS kills among them."""
        while self.kills < KILLS:
            while len(self._running) < AT_ONCE:
                self._start()
            share = 2 * (OPERATIONS - self.done) // (KILLS - self.kills)
            self._await(self._running[0], self._chance.randrange(1, max(2, share)))
            self.end_one()
        while self._running:
            self._await(self._running[0], (OPERATIONS - self.done) // len(self._running))
            self.end_one()

    def end_one(self):
        """Kill the one that has run for longest."""
        process = self._running.pop(0)
        process.kill()
        self.done += len(process.communicate()[0])
        self.kills += 1

    def end(self):
        """Kill all."""
        while self._running:
            self.end_one()

    def _start(self):
        kind, seed = self._chance.choice(["sync", "async"]), str(self._chance.random())
        self._running.append(subprocess.Popen([*self._command, kind, seed], cwd=ROOT, stdout=subprocess.PIPE))

    def _await(self, process, count):
        while count > 0:
            told = len(os.read(process.stdout.fileno(), 4096))
            assert told, "an application has ended by itself"
            self.done += told
            count -= told


def live_sessions(sessions, server):
    """Give the handles of the signed-in sessions that have a record, by subject."""
    found = defaultdict(list)
    for name in server.keys(":s:"):
        tag, _, handle = name.partition("{")[2].partition("}:s:")
        session = sessions.find(f"{TAGS.index(tag):02x}.{handle}")
        if session is not None and session.subject is not None:
            found[session.subject].append(handle)
    return found


@pytest.fixture
def apps(server, key):
    """Give the applications; none is left at the end."""
    seed = os.environ.get("COATCHECK_TEST_SEED") or secrets.token_hex(8)
    print("COATCHECK_TEST_SEED", seed)
    apps = Apps(server, key, seed)
    yield apps
    apps.end()


@pytest.mark.timeout(600)
@pytest.mark.requirement("R24")
@pytest.mark.requirement("R13")
def test_10000_operations_and_kills(apps, server, clock, key):
    """After 10,000 operations of processes that were killed at random moments, one sweep makes the indexes right.

    They hold the live sessions and no others, each under its subject, and the limit holds; no key lives for ever.
    """
    apps.run()
    policy = coatcheck.SessionPolicy(limit=LIMIT)
    with coatcheck.Sessions(server.url, keys=key, clock=clock, policy=policy) as sessions:
        signed_in(sessions, idle=120 * MINUTE)  # of the others, by chance, not one may live that long
        unswept = sum(map(len, live_sessions(sessions, server).values()))
        assert server.keys_without_ttl() == []
        clock.advance(45 * MINUTE)

        sessions.sweep()

        live = live_sessions(sessions, server)
        expected = sorted(handle for handles in live.values() for handle in handles)
        assert indexed(server) == (expected, expected)
        for subject, handles in live.items():
            assert sorted(info.handle.name for info in sessions.list_for(subject)) == sorted(handles)
        assert max(map(len, live.values())) <= LIMIT
        assert 0 < len(expected) < unswept
    assert (apps.done >= OPERATIONS, apps.kills) == (True, KILLS + AT_ONCE - 1)
