"""Revocation under load: worker processes serve requests while sessions are revoked, one by one and all at once."""

import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from time import monotonic_ns

import pytest

from tests import near_mode
from tests.contract.loading_worker import policy_of
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
REQUESTS = 10_000
WORKERS = 4
USERS = 40
DEVICES = 5


@dataclass(frozen=True)
class Request:
    """What became of a request; see loading_worker. Instants in ns."""

    which: int
    began: int
    accepted: int
    is_near: int
    save_began: int
    saved: int
    over: int


class Load:
    """The workers, and what they say."""

    def __init__(self, stack, server, key, identifiers, staleness):
        self.requests = []
        self._readers = []
        self._workers = []
        for number in range(WORKERS):
            task = {"url": server.url, "key": key, "identifiers": identifiers, "requests": REQUESTS // WORKERS}
            task["staleness"] = staleness
            command = [sys.executable, "-m", "tests.contract.loading_worker"]
            command.append(json.dumps({**task, "is_async": number % 2 == 1}))
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            worker = stack.enter_context(subprocess.Popen(command, cwd=ROOT, **pipes))
            stack.callback(worker.kill)
            self._workers.append(worker)

    def start(self):
        """Let them begin at once."""
        for worker in self._workers:
            assert worker.stdout.readline() == "ready\n"
        for worker in self._workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
            self._readers.append(Thread(target=self._read, args=(worker.stdout,)))
            self._readers[-1].start()

    def reach(self, count):
        """Wait until *count* requests have been served."""
        wait_until(lambda: len(self.requests) >= count, "the workers get on")

    def end(self):
        """Wait for the end of all."""
        for reader, worker in zip(self._readers, self._workers, strict=True):
            reader.join()
            assert worker.wait(30) == 0

    def _read(self, lines):
        self.requests += (Request(*map(int, line.split())) for line in lines)


def revocations(sessions, devices):
    """List revocations of every kind: what to call, and the handles that it ends."""
    planned, kept_ones = [], []
    for number, (user, (one, other, *rest, kept)) in enumerate(devices.items()):
        planned.append((partial(sessions.revoke, one), [one]))
        planned.append((partial(sessions.revoke, str(other), subject=user), [other]))
        planned.append((partial(sessions.revoke_all, user, keep=kept), rest))
        if number % 2:
            planned.append((partial(sessions.revoke_all, user), [kept]))
        else:
            kept_ones.append(kept)
    return [*planned, (sessions.revoke_everyone, kept_ones)]


@pytest.mark.requirement("R19")
@pytest.mark.requirement("R41")
@pytest.mark.parametrize(
    "staleness",
    [
        pytest.param(0, id="store"),
        pytest.param(20, id="near cache", marks=pytest.mark.access(near_cache=True)),
    ],
)
def test_no_worker_accepts_what_was_revoked(open_sessions, server, key, staleness):
    """Of 10,000 requests to 4 processes, none that began after a revocation was acknowledged is accepted or saved.

    With a near cache too, where ends wait (staleness: ms); most of the sessions were answered from memory then.
    """
    sessions, devices, identifiers = open_sessions(policy=policy_of({"staleness": staleness})), {}, {}
    for number in range(USERS * DEVICES):
        session, user = sessions.create({"n": 0}), f"user{number % USERS}"
        sessions.bind(session, user)
        devices.setdefault(user, []).append(session.handle)
        identifiers[session.handle] = session.identifier
    asked, acknowledged, planned = {}, {}, revocations(sessions, devices)
    with ExitStack() as stack:
        load = Load(stack, server, key, list(identifiers.values()), staleness)
        load.start()
        for number, (revoke, ended) in enumerate(planned, 1):
            load.reach(number * REQUESTS // (len(planned) + 5))
            began = monotonic_ns()
            revoke()
            asked |= dict.fromkeys(ended, began)
            acknowledged |= dict.fromkeys(ended, monotonic_ns())
        load.end()

    handles = list(identifiers)
    late = [request for request in load.requests if request.began > acknowledged[handles[request.which]]]
    early = [request for request in load.requests if request.over < asked[handles[request.which]]]
    saves = [request for request in load.requests if request.save_began > acknowledged[handles[request.which]]]
    assert len(load.requests) == REQUESTS
    assert [request for request in late if request.accepted] == []
    assert [request for request in saves if request.saved] == []
    assert [request for request in early if not request.accepted or (request.save_began and not request.saved)] == []
    assert min(len(late), len(early)) > REQUESTS // 5
    held = {request.which for request in load.requests if request.is_near}
    assert len(held) > len(handles) // 2 if staleness or near_mode.IS_ON else not held
