"""``python -m faults``: run cells, show a table, and with --record write it into the documentation."""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from coatcheck.runtime.local.settings import Kind
from coatcheck.runtime.local.topology import LocalTopology
from faults import record
from faults.cells import CELLS
from faults.levels import Level, Skipped
from faults.runs import Runs
from faults.stage import Run


def main() -> int:
    """Run what the arguments ask for; 1 where a promise was broken."""
    arguments = _parse()
    with LocalTopology(Kind.SINGLE) as topology, topology.client("node1") as client:
        server = record.describe(client.info("server"))
    broken = False
    print(f"{server}, {arguments.runs} runs each, {'short' if arguments.quick else 'full'} form")
    rows = [(name, Level(level)) for name in arguments.cell or CELLS for level in arguments.level or CELLS[name].levels]
    with Runs(arguments.jobs, arguments.keep) as runs:
        played = [runs.play(*row, arguments.runs, is_quick=arguments.quick) for row in rows]
        for (name, level), these in zip(rows, played, strict=True):
            tally = record.Tally(cell=name, level=level, date=time.strftime("%Y-%m-%d"), server=server)
            try:
                _add(tally, these, arguments)
            except Skipped as reason:
                print(f"{name} at {level} is NOT run: {reason}", flush=True)
                continue
            broken |= bool(tally.broken)
            if arguments.record and not record.save(tally):
                print(f"{name} at {level} is not recorded: there are more runs of it", flush=True)
    return int(broken)


def _add(tally: record.Tally, runs: Iterator[Run], arguments: argparse.Namespace) -> None:
    began, seconds = time.monotonic(), []
    for run in runs:
        for line in tally.add(run):
            print(f"  {line}", file=sys.stderr)
        seconds.append(run.seconds)
        if arguments.verbose:
            print(f"  {tally.cell} {tally.runs}: {run.seconds:.1f} s", file=sys.stderr, flush=True)
    each = f"{sum(seconds) / tally.runs:.1f} s each, {time.monotonic() - began:.0f} s in all"
    print(f"{tally.row()} {each}", flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults ARGS=...", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each cell (3; 50 for the record)")
    parser.add_argument("--cell", action="append", choices=list(CELLS), help="this one only; may be given again")
    parser.add_argument(
        "--level",
        action="append",
        choices=list(Level),
        help="this durability only; may be given again (each cell's own)",
    )
    parser.add_argument("--jobs", type=int, default=1, help="so many runs at once, each on servers of its own (1)")
    parser.add_argument("--keep", type=Path, help="folder for the history and the logs of runs with findings")
    parser.add_argument("--quick", action="store_true", help="the short form that `make test` runs")
    parser.add_argument("--record", action="store_true", help="write docs/faults.json and docs/reliability.md")
    parser.add_argument("--verbose", action="store_true", help="tell of each run")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
