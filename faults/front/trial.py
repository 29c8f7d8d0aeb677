"""One run: servers, workers, nginx and users are started, and the primary is killed."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx

import coatcheck
from coatcheck.runtime.local.settings import Kind, TopologySettings
from coatcheck.runtime.local.status import Role
from coatcheck.runtime.local.topology import LocalTopology
from faults.front.crowd import Tally, User, sign_in_others
from tests.fix_nginx import nginx
from tests.fix_store import Server
from tests.frameworks.fix_apps import FRAMEWORKS, Running

WORKERS: Final = 3
_PATIENCE: Final = 300.0
_LAG: Final = 2.0  # seconds around a kill: what is acknowledged then may be lost with it
# Two seconds, for machines that are busy: one that is down for a moment is not to be replaced. A primary that has been
# replaced behind its back refuses writes then, as `coatcheck check` advises; in a cluster it does so anyway.
_SETTINGS: Final = {
    Kind.SENTINEL: TopologySettings(
        detection=timedelta(seconds=2), config=("min-replicas-to-write 1", "min-replicas-max-lag 2")
    ),
    Kind.CLUSTER: TopologySettings(detection=timedelta(seconds=2)),
}
_SLOTS: Final = (0, 6_000, 12_000)  # one of each primary of a cluster

# What a worker answers is passed on as it is, and no other is asked instead.
_UPSTREAM: Final = "upstream workers {{ {servers} keepalive 16; }}"
_LOCATION: Final = """
proxy_pass http://workers;
proxy_http_version 1.1;
proxy_set_header Connection "";
proxy_next_upstream off;
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of a run; durations are seconds, counted from the kill."""

    framework: str
    kind: Kind
    tally: Tally
    promoted: float
    """Until the servers had a new primary: a sentinel named it, or the slots of the killed one were served."""
    last_refusal: float
    """Until the last 503; 0 where there was none."""
    sign_ins: int
    lost_sign_ins: int
    """Of those, the ones that were acknowledged close to the kill and are not there; any, after further failovers."""
    unknown: list[str]
    """Who had signed in, and was not known in the end."""
    failovers: list[str]
    """What the servers logged of each failover; more than one is more than was asked of them."""

    @property
    def refusal(self) -> float:
        """How long 99 of 100 users waited for a 503 at most."""
        refused = set(self.tally.refused)
        waits = sorted(seconds for instant, seconds in self.tally.answers if instant in refused)
        return waits[len(waits) * 99 // 100] if waits else 0.0

    def problems(self) -> list[str]:
        """List what was wrong."""
        found = [*self.tally.logouts, *self.tally.wrong, *(f"{name} is not known in the end" for name in self.unknown)]
        if len(self.tally.workers) != WORKERS:
            found.append(f"{len(self.tally.workers)} workers have answered")
        return found


def play(framework: str, kind: Kind, *, users: int = 16, rounds: int = 100) -> Outcome:
    """Do one run. Each of *users* reads and writes *rounds* times before the kill, and as often after it.

    Raises TimeoutError when not all can do so within five minutes each.
    """
    with LocalTopology(kind, _SETTINGS[kind]) as topology, _served(framework, topology.url) as url:
        return asyncio.run(_Run(framework, topology, url).play(users, rounds))


@contextmanager
def _served(framework: str, store: str) -> Iterator[str]:
    """Serve the app of *framework* by three processes behind nginx; give nginx's URL."""
    with tempfile.TemporaryDirectory(prefix="front-") as folder:
        running, key, server = Running(Path(folder)), coatcheck.new_key(), Server(store, None)
        try:
            apps = [running.start(FRAMEWORKS[framework], server, key, workers=1) for _ in range(WORKERS)]
            servers = " ".join(f"server {app.url.removeprefix('http://')} max_fails=0;" for app in apps)
            with nginx(Path(folder), http=_UPSTREAM.format(servers=servers), location=_LOCATION) as url:
                yield url
        finally:
            running.end()


class _Run:
    def __init__(self, framework: str, topology: LocalTopology, url: str) -> None:
        self._framework = framework
        self._topology = topology
        self._url = url
        self._tally = Tally()
        self._transport = httpx.AsyncHTTPTransport(verify=False, trust_env=False)

    async def play(self, count: int, rounds: int) -> Outcome:
        users = [self._user(f"user {number}") for number in range(count)]
        stop = asyncio.Event()
        async with self._transport:
            for user in users:
                await _until(user.sign_in)
            await _until(self._has_replicated)
            async with asyncio.TaskGroup() as tasks:
                for user in users:
                    tasks.create_task(user.browse(stop))
                others = tasks.create_task(sign_in_others(self._user, stop))
                try:
                    await _until(lambda: min(user.rounds for user in users) >= rounds)
                    former = await asyncio.to_thread(self._topology.kill, Role.PRIMARY)
                    killed = time.monotonic()
                    await _until(lambda: self._has_successor(former))
                    promoted = time.monotonic()
                    before = {user: user.rounds for user in users}
                    await _until(lambda: all(user.rounds >= before[user] + rounds for user in users))
                finally:
                    stop.set()
            return await self._outcome(users, others.result(), killed, promoted)

    async def _outcome(self, users: list[User], others: list[User], killed: float, promoted: float) -> Outcome:
        failovers = self._failovers()

        def may_be_lost(acknowledged: float | None) -> bool:
            is_near = acknowledged is not None and abs(acknowledged - killed) < _LAG
            return is_near or len(failovers) > 1  # the servers have thrown away what they had taken, at any time

        gone = [user for user in [*users, *others] if not await user.is_known()]
        lost = [user for user in gone if user in others and may_be_lost(user.signed_in_at)]
        self._tally.wrong += [
            f"a write of {instant - killed:.1f} s after the kill is lost"
            for instant in self._tally.lost_writes
            if not may_be_lost(instant)
        ]
        return Outcome(
            framework=self._framework,
            kind=self._topology.kind,
            tally=self._tally,
            promoted=promoted - killed,
            last_refusal=max([*self._tally.refused, killed]) - killed,
            sign_ins=len(others),
            lost_sign_ins=len(lost),
            unknown=[user.name for user in gone if user not in lost],
            failovers=failovers,
        )

    def _failovers(self) -> list[str]:
        """Look into the logs of a sentinel, and of the nodes of a cluster."""
        sentinel = self._topology.kind is Kind.SENTINEL
        logs = self._topology.folder.glob("sentinel1/server.log" if sentinel else "node*/server.log")
        mark = "+switch-master" if sentinel else "Failover election won"
        return [line for log in logs for line in log.read_text().splitlines() if mark in line]

    def _user(self, name: str) -> User:
        return User(name, self._url, self._transport, self._tally)

    async def _has_replicated(self) -> bool:
        found = await asyncio.to_thread(self._topology.status)
        return all(status.lag == 0 for status in found if status.role is Role.REPLICA)

    async def _has_successor(self, former: str) -> bool:
        """Say whether a sentinel names another primary than *former*; whether every slot of a cluster has one."""
        if self._topology.kind is Kind.SENTINEL:
            found = await asyncio.to_thread(self._topology.status)
            return any(status.role is Role.SENTINEL and status.follows != former for status in found)
        try:
            for slot in _SLOTS:
                await asyncio.to_thread(self._topology.primary, slot)
        except coatcheck.StoreUnavailable:
            return False
        return True


async def _until(condition: Callable[[], object]) -> None:
    """Wait until *condition*, which may be awaited, holds. Raises TimeoutError."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            holds = condition()
            if await holds if asyncio.iscoroutine(holds) else holds:
                return
            await asyncio.sleep(0.02)
