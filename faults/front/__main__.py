"""The command: see the package."""

import argparse
import sys
from typing import Final

from coatcheck.runtime.local.settings import Kind
from faults.front.trial import Outcome, play
from tests.frameworks.fix_apps import FRAMEWORKS

_HEAD: Final = (
    "| framework | servers | failovers | requests | 200 | 503 | new primary after | last 503 after | 99 % of 503 within"
    " | acknowledged writes / lost | sign-ins meanwhile / lost | logged out |"
)


def main() -> None:
    """Do the runs, print a line of a table for each; exit with 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m faults.front")
    parser.add_argument("frameworks", nargs="*", choices=[*FRAMEWORKS, []], metavar="FRAMEWORK", default=[])
    parser.add_argument("--kind", choices=[Kind.SENTINEL, Kind.CLUSTER], type=Kind)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=100, help="of each user, before the kill and after it")
    asked = parser.parse_args()
    cells = [
        (framework, kind)
        for kind in ([asked.kind] if asked.kind else [Kind.SENTINEL, Kind.CLUSTER])
        for framework in asked.frameworks or FRAMEWORKS
    ]
    print(_HEAD, "|---" * _HEAD.count(" |") + "|", sep="\n")
    problems = 0
    for framework, kind in cells:
        for _ in range(asked.runs):
            outcome = play(framework, kind, users=asked.users, rounds=asked.rounds)
            print(_line(outcome), flush=True)
            for problem in outcome.problems():
                problems += 1
                print(f"{framework} on {kind}: {problem}", file=sys.stderr)
    sys.exit(problems > 0)


def _line(outcome: Outcome) -> str:
    tally = outcome.tally
    cells = (
        outcome.framework,
        str(outcome.kind),
        str(len(outcome.failovers)),
        str(len(tally.answers)),
        str(tally.good),
        str(len(tally.refused)),
        f"{outcome.promoted:.2f} s",
        f"{outcome.last_refusal:.2f} s",
        f"{outcome.refusal:.2f} s",
        f"{tally.writes} / {len(tally.lost_writes)}",
        f"{outcome.sign_ins} / {outcome.lost_sign_ins}",
        str(len(tally.logouts) + len(outcome.unknown)),
    )
    return f"| {' | '.join(cells)} |"


main()
