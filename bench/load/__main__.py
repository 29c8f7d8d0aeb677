"""Run the load. `python -m bench.load --help` says how."""

import argparse
import asyncio
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Final

from bench.load.contenders import CONTENDERS, Contender
from bench.load.stage import Measure, Store, load, serving

PATHS: Final = ("/read", "/write")
Measures = dict[tuple[Contender, str], list[Measure]]


async def run(groups: list[str], *, rounds: int, seconds: float, connections: int) -> Measures:
    """Load the contenders of each group in turn, *rounds* times."""
    found: Measures = defaultdict(list)
    for group in groups:
        contenders = [contender for contender in CONTENDERS if contender.group == group]
        with tempfile.TemporaryDirectory() as folder:
            async with Store(Path(folder)).running() as store, serving(contenders, store) as serving_now:
                for turn in range(-1, rounds):  # the first warms up, and is not counted
                    for path in PATHS:
                        for running in serving_now:
                            lasting = 1 if turn < 0 else seconds
                            measure = await load(running, path, store, seconds=lasting, connections=connections)
                            if turn >= 0:
                                found[running.contender, path].append(measure)
        print(*table(found, group), sep="\n", flush=True)
    return found


def table(found: Measures, group: str) -> list[str]:
    """Make a group's table, in Markdown."""
    lines = [f"\n### {group}\n", "| | share of bare | requests/s | failed | p50 ms | p99 ms | store us | commands |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for path in PATHS:
        bare = next(
            measures for (one, on), measures in found.items() if (one.group, on) == (group, path) and one.is_bare
        )
        for (one, on), measures in found.items():
            if (one.group, on) != (group, path):
                continue
            share = statistics.median(mine.rate / theirs.rate for mine, theirs in zip(measures, bare, strict=True))
            figures = [statistics.median(getattr(m, name) for m in measures) for name in Measure.__slots__]
            _, rate, failed, p50, p99, cpu, commands = figures
            lines.append(
                f"| {path[1:]}, {one.title} | {share:.2f} | {rate:.0f} | {failed:.1%} | {p50:.1f} | {p99:.1f} "
                f"| {cpu:.1f} | {commands:.2f} |"
            )
    return lines


def main() -> None:
    """Read the command line."""
    names = list(dict.fromkeys(contender.group for contender in CONTENDERS))
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("groups", nargs="*", choices=[*names, []], default=names)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    given = parser.parse_args()
    asyncio.run(run(given.groups, rounds=given.rounds, seconds=given.seconds, connections=given.connections))


if __name__ == "__main__":
    main()
