"""What operations cost a server: its CPU, the time of its scripts, and how long a lone caller waits."""

import statistics
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from bench.fill import Filler
from coatcheck.engine.keys import Keys
from coatcheck.engine.scripts import TOUCH
from coatcheck.model.session import Session

ALONE: Final = 500
"""Calls of which the latency is measured."""

Operation = Callable[[Any], Coroutine[Any, Any, Any]]


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of one operation.

    script: inside its command, as the server counts it. cpu: of the server's process in all, where 500 operations
    come in one pipeline. p50, p99: how long a caller waits who sends one at a time, Python and network included.
    """

    name: str
    script: float
    cpu: float
    p50: float
    p99: float


class Bench:
    """Some thousand sessions that were made through the library, among many others."""

    def __init__(self, url: str, filler: Filler, count: int = 1000) -> None:
        """Make *count* bound sessions on the one server at *url*."""
        self._client = redis.Redis.from_url(url)
        self._filler = filler
        self._keys = Keys("cc")
        self._sign_ins = 0
        self._subjects = self._new_subjects(count)
        self.sessions: Final[list[Session]] = filler.bound(self._subjects)

    def measure(self) -> list[Cost]:
        """Measure the operations of a request, and those of a user's own pages."""
        count, operations = len(self.sessions), self._filler.operations
        return [
            self._cost("load", "mget", self._load, [session.identifier for session in self.sessions]),
            self._cost("save", "evalsha", self._save, self.sessions),
            self._cost("touch", "evalsha", self._touch, self.sessions),
            self._cost("sign-in", "evalsha", self._filler.sign_in, self._new_subjects(2 * count)),
            self._cost("list_for", "evalsha", operations.list_for, self._subjects),
        ]

    def _cost(self, name: str, command: str, operation: Operation, items: Sequence[Any]) -> Cost:
        run, together = self._filler.transport.run, items[: len(self.sessions)]
        run(operation(item) for item in together[:100])
        self._client.config_resetstat()
        before = cpu_of(self._client)
        run(operation(item) for item in together[100:])
        count = len(together) - 100
        cpu = (cpu_of(self._client) - before) / count
        found = info(self._client, "commandstats")
        waits = []
        for item in items[-ALONE:]:
            begin = time.perf_counter()
            run([operation(item)])
            waits.append((time.perf_counter() - begin) * 1e6)
        waits.sort()
        script = found[f"cmdstat_{command}"]["usec"] / count
        return Cost(name, script, cpu, statistics.median(waits), waits[len(waits) * 99 // 100])

    async def _load(self, identifier: str) -> None:
        if await self._filler.operations.load(identifier) is None:
            raise RuntimeError("a session that was made a moment ago is gone")

    async def _save(self, session: Session) -> None:
        session["hits"] = session["hits"] + 1
        await self._filler.operations.save(session)

    async def _touch(self, session: Session) -> None:
        """Send what a touch sends, though the last one was less than a tenth of the idle timeout ago."""
        if session.handle is None or session.header is None:
            raise RuntimeError("only a stored session can be touched")
        keys = (self._keys.record(session.handle), self._keys.epoch(session.handle.partition))
        await self._filler.transport.call(TOUCH.command(keys, session.header.seen_at))

    def _new_subjects(self, count: int) -> list[str]:
        self._sign_ins += count
        return [f"subject-{self._sign_ins - number}" for number in range(count)]


def cpu_of(client: redis.Redis) -> float:
    """Give the CPU time that the server has used, in microseconds."""
    found = info(client, "cpu")
    return float(found["used_cpu_user"] + found["used_cpu_sys"]) * 1e6


def info(client: redis.Redis, section: str) -> dict[str, Any]:
    """Give a section of INFO."""
    found: Any = client.info(section)
    return dict(found)
