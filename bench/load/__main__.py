"""Run the load. `python -m bench.load --help` says how."""

import argparse
import asyncio
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from bench.load import record
from bench.load.contenders import CONTENDERS, Contender
from bench.load.database import Database
from bench.load.record import Result, Row, Trial
from bench.load.stage import STORE_CORE, Measure, Running, Store, load, one_session, serving

_CONNECTIONS: Final = 32
_CROWD: Final = 256
_MAIN: Final = frozenset({Trial.READ, Trial.WRITE})
_FEWER: Final = 3
"""Rounds of the other trials at most: contenders differ there by more than the noise."""
_TOLERANCE: Final = 0.8
"""Of the share that was recorded: the medians of short runs on a machine that does other work differ by up to that."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure of each framework, how often, and for how many seconds at a time. with_peers: beside others."""

    trials: tuple[Trial, ...]
    rounds: int
    seconds: int
    with_peers: bool = True

    async def carry_out(self, group: str) -> Result:
        """Load the contenders of *group* in turn."""
        contenders = [
            contender
            for contender in CONTENDERS
            if contender.group == group and (self.with_peers or contender.is_bare or contender.is_ours)
        ]
        async with _store(contenders) as store, serving(contenders, store) as serving_now:
            about = _about(store, contenders)
            rows = [row for trial in self.trials for row in await self._try(trial, serving_now, store)]
        return Result(group=group, about=about, rows=rows)

    async def _try(self, trial: Trial, serving_now: list[Running], store: Store) -> list[Row]:
        taking_part = [running for running in serving_now if _takes_part(running.contender, trial)]
        found: dict[Contender, list[Measure]] = defaultdict(list)
        rounds = self.rounds if trial in _MAIN else min(self.rounds, _FEWER)
        for turn in range(-1, rounds):  # the first warms up, and is not counted
            for running in taking_part:
                measure = await _measure(trial, running, store, 1 if turn < 0 else self.seconds)
                if turn >= 0:
                    found[running.contender].append(measure)
        bare = next((measures for contender, measures in found.items() if contender.is_bare), [])
        return [Row.of(trial, contender, measures, bare) for contender, measures in found.items()]


def _takes_part(contender: Contender, trial: Trial) -> bool:
    if trial is Trial.CROWD:  # what serves with threads answers as many at once as it has threads
        return contender.is_asynchronous
    return trial is not Trial.ONE_SESSION or not contender.is_bare


async def _measure(trial: Trial, running: Running, store: Store, seconds: int) -> Measure:
    match trial:
        case Trial.READ:
            return await load(running, "/read", store, seconds=seconds, connections=_CONNECTIONS)
        case Trial.WRITE:
            return await load(running, "/write", store, seconds=seconds, connections=_CONNECTIONS)
        case Trial.CROWD:
            return await load(running, "/read", store, seconds=seconds, connections=_CROWD)
        case Trial.ONE_SESSION:
            return await one_session(running, store, seconds=seconds, connections=_CONNECTIONS)


@asynccontextmanager
async def _store(contenders: list[Contender]) -> AsyncIterator[Store]:
    """Run a store for *contenders*, and a database if one of them needs it."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as database_folder:
        if any(contender.needs_database for contender in contenders):
            async with (
                Database(Path(database_folder), STORE_CORE).running() as database,
                Store(Path(folder), database).running() as store,
            ):
                yield store
        else:
            async with Store(Path(folder)).running() as store:
                yield store


def _about(store: Store, contenders: list[Contender]) -> str:
    """Say when this is, and with what."""
    versions = [store.version]
    if store.database:
        versions.append(store.database.version)
    if any(contender.lock == "express" for contender in contenders):
        said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
        versions.append(f"Node {said.stdout.strip().removeprefix('v')}")
    versions += [f"CPython {platform.python_version()}", f"coatcheck {version('coatcheck')}"]
    words = " ".join(f'"{word}"' if " " in word else word for word in sys.argv[1:])
    command = f"make bench ARGS='{words}'" if words else "make bench"
    return f"{time.strftime('%Y-%m-%d')}, {', '.join(versions)}; {_machine()}; `{command}`."


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores ({names[0] if names else platform.machine()})"


async def run(groups: list[str], plan: Plan, *, is_recorded: bool) -> list[Result]:
    """Measure, and print the tables of a framework as soon as they are there."""
    found = []
    for group in groups:
        result = await plan.carry_out(group)
        found.append(result)
        print(result.about, "", *result.table(), sep="\n", flush=True)
        if is_recorded:
            record.save([result], _GROUPS)
    return found


_GROUPS: Final = list(dict.fromkeys(contender.group for contender in CONTENDERS))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="FRAMEWORK", help=f"of {', '.join(_GROUPS)} (all)")
    parser.add_argument("--rounds", type=int, default=5, help="that are counted (5)")
    parser.add_argument("--seconds", type=int, default=2, help="of load in a round (2)")
    parser.add_argument("--trial", choices=list(Trial), action="append", help="only this one; may be given again")
    parser.add_argument("--record", action="store_true", help="write docs/performance.md, its data and its plots")
    parser.add_argument(
        "--guard", action="store_true", help="without the peers: fail where coatcheck's share is far below the recorded"
    )
    given = parser.parse_args()
    if unknown := set(given.groups) - set(_GROUPS):
        parser.error(f"no such framework: {', '.join(sorted(unknown))}")
    if given.guard and given.record:
        parser.error("--guard plays without the peers: there is nothing to --record")
    plan = Plan(tuple(map(Trial, given.trial or Trial)), given.rounds, given.seconds, with_peers=not given.guard)
    found = asyncio.run(run(given.groups or _GROUPS, plan, is_recorded=given.record))
    if given.guard and (said := record.regressions(found, _TOLERANCE)):
        sys.exit("\n".join(said))


if __name__ == "__main__":
    main()
