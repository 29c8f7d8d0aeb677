"""``python -m faults``: run cells, show a table, and with --record write it into the documentation."""

import argparse
import sys
import time

from coatcheck.runtime.local.settings import Kind
from coatcheck.runtime.local.topology import LocalTopology
from faults import record
from faults.cells import CELLS
from faults.stage import Level, Skipped, Stage


def main() -> int:
    """Run what the arguments ask for; 1 where a promise was broken."""
    arguments = _parse()
    with LocalTopology(Kind.SINGLE) as topology, topology.client("node1") as client:
        server = record.describe(client.info("server"))
    recorded, broken = record.load() if arguments.record else {}, False
    print(f"{server}, {arguments.runs} runs each, {'short' if arguments.quick else 'full'} form")
    for name in arguments.cell or CELLS:
        level = Level(arguments.level)
        key, tally = (
            f"{name} {level}",
            record.Tally(cell=name, level=level, date=time.strftime("%Y-%m-%d"), server=server),
        )
        try:
            _run(tally, level, arguments)
        except Skipped as reason:
            print(f"{name} is NOT run: {reason}", flush=True)
            continue
        broken |= bool(tally.broken)
        print(tally.row(), flush=True)
        if arguments.record:
            recorded[key] = tally
            record.save(recorded)
    return int(broken)


def _run(tally: record.Tally, level: Level, arguments: argparse.Namespace) -> None:
    for number in range(arguments.runs):
        began = time.monotonic()
        found = tally.add(Stage(CELLS[tally.cell], level, is_quick=arguments.quick).run())
        for line in found:
            print(f"  {line}", file=sys.stderr)
        if arguments.verbose:
            print(f"  {tally.cell} {number + 1}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults ARGS=...", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each cell (3; 50 for the record)")
    parser.add_argument("--cell", action="append", choices=list(CELLS), help="this one only; may be given again")
    parser.add_argument("--level", default=Level.D0, choices=list(Level), help="durability (D0)")
    parser.add_argument("--quick", action="store_true", help="the short form that `make test` runs")
    parser.add_argument("--record", action="store_true", help="write docs/faults.json and docs/reliability.md")
    parser.add_argument("--verbose", action="store_true", help="tell of each run")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
