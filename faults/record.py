"""What the runs of a cell add up to, kept in docs/faults.json, and the section of docs/reliability.md made of it."""

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from faults.cells import CELLS
from faults.checker import Flaw
from faults.ledger import Outcome
from faults.levels import Level
from faults.stage import Run, losses, violations

ROOT: Final = Path(__file__).parents[1]
DATA: Final = ROOT / "docs" / "faults.json"
DOCUMENT: Final = ROOT / "docs" / "reliability.md"
_BEGIN: Final = "<!-- faults: begin (make faults ARGS=--record writes this) -->"
_END: Final = "<!-- faults: end -->"
_HEAD: Final = (
    "| cell | level | runs | operations | done / failed / unknown | violations | lost, as that level may "
    "| recovery p50 / p99 / max (s) |"
)
_STEPS: Final = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0, float("inf"))
_TOLD: Final = 3
_SHORT: Final = {
    Flaw.SIGN_IN_MISSING: "sign-ins",
    Flaw.REVOCATION_UNDONE: "revocations",
    Flaw.UPDATE_LOST: "sessions with updates",
    Flaw.ROTATION_LOST: "rotations",
    Flaw.STALE_READ: "stale reads",
}


@dataclass(kw_only=True)
class Tally:
    """The sums of the runs of a cell at a level. Durations in seconds."""

    cell: str
    level: str
    date: str
    server: str
    runs: int = 0
    replays: int = 0
    """How many others were played in which the fault could not begin."""
    outcomes: dict[str, int] = field(default_factory=dict)
    broken: int = 0
    """How many violations there were; *violations* tells of the first of each run."""
    violations: list[str] = field(default_factory=list)
    losses: dict[str, int] = field(default_factory=dict)
    lossy_runs: int = 0
    recovery: list[float] = field(default_factory=list)
    detection: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    """The 50th and 99th percentile and the maximum of the times of operations during the fault, of the worst run."""
    numbers: dict[str, float] = field(default_factory=dict)
    """What the cell measured, the highest of all runs."""

    def add(self, run: Run) -> list[str]:
        """Add a run; give its violations, each as a line."""
        cell, level = CELLS[self.cell], Level(self.level)
        self.runs += 1
        self.replays += run.replays
        outcomes = Counter(str(entry.outcome) for entry in run.entries)
        self.outcomes = dict(Counter(self.outcomes) + outcomes)
        found = [str(finding) for finding in violations(run, cell, level)]
        self.broken += len(found)
        self.violations += found[:_TOLD]
        lost = Counter(_SHORT[finding.flaw] for finding in losses(run, cell, level))
        self.losses = dict(Counter(self.losses) + lost)
        self.lossy_runs += bool(lost)
        if run.recovery is not None and run.detection is not None and run.late is not None:
            self.recovery.append(round(run.recovery, 3))
            self.detection.append(round(run.detection, 3))
            self.late.append(round(run.late, 3))
        if run.waits:
            self.waits = max(self.waits, [round(percentile(run.waits, share), 4) for share in (0.5, 0.99, 1)], key=_p99)
        for name, value in run.numbers.items():
            self.numbers[name] = round(max(value, self.numbers.get(name, 0)), 2)
        return found

    def row(self) -> str:
        """Give its row of the table."""
        counts = " / ".join(f"{self.outcomes.get(outcome, 0):,}" for outcome in Outcome)
        lost = ", ".join(f"{count} {what}" for what, count in sorted(self.losses.items())) or "-"
        lost += f" (in {self.lossy_runs} runs)" if self.losses else ""
        recovery = " / ".join(f"{percentile(self.recovery, share):.2f}" for share in (0.5, 0.99, 1)) or "-"
        cells = (self.cell, self.level, self.runs, f"{sum(self.outcomes.values()):,}", counts, self.broken)
        return " | ".join(("", *map(str, cells), lost, recovery if self.recovery else "-", "")).strip()


def _p99(waits: Sequence[float]) -> float:
    return waits[1] if waits else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """Give the least of *values* that *share* of them do not exceed; 0 of none."""
    ordered = sorted(values) or [0.0]
    return ordered[min(len(ordered) - 1, max(0, -(-int(len(ordered) * share * 1000) // 1000) - 1))]


def load() -> dict[str, Tally]:
    """Read what was recorded, by cell and level."""
    found = json.loads(DATA.read_text()) if DATA.exists() else {}
    return {name: Tally(**fields) for name, fields in found.items()}


def save(tally: Tally) -> bool:
    """Record *tally* in its row, unless there are more runs of it, and rewrite the section; say whether it was."""
    tallies, place = load(), f"{tally.cell} {tally.level}"
    if place in tallies and tallies[place].runs > tally.runs:
        return False
    tallies[place] = tally
    order = [f"{name} {level}" for name in CELLS for level in Level]
    kept = {name: tallies[name] for name in order if name in tallies}
    DATA.write_text(json.dumps({name: asdict(tally) for name, tally in kept.items()}, indent=1) + "\n")
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    DOCUMENT.write_text(before + "\n".join((_BEGIN, "", *section(list(kept.values())), _END)) + after)
    return True


def section(tallies: Sequence[Tally]) -> list[str]:
    """Give the lines of the section."""
    lines = [
        _HEAD,
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(tally.row() for tally in tallies),
        "",
    ]
    servers = sorted({f"{tally.server} on {tally.date}" for tally in tallies})
    lines += [f"Measured with {', '.join(servers)}; two cores that did other work too.", "", "The cells:", ""]
    shown = {tally.cell for tally in tallies}
    lines += [f"- **{cell.name}**: {cell.about}." for cell in CELLS.values() if cell.name in shown]
    lines += ["", "What else was measured (the highest of all runs):", ""]
    for tally in tallies:
        numbers = [f"{name}: {value:g}" for name, value in tally.numbers.items()]
        if tally.replays:
            numbers.insert(0, f"{tally.replays} more runs were broken off before the fault")
        if tally.waits:
            p50, p99, most = (f"{wait * 1000:.0f}" for wait in tally.waits)
            numbers.append(f"an operation during the fault took {p50} / {p99} / {most} ms (p50 / p99 / max)")
        if numbers:
            lines.append(f"- {tally.cell} ({tally.level}): {'; '.join(numbers)}.")
    return [*lines, "", *histogram(tallies)]


def histogram(tallies: Sequence[Tally]) -> list[str]:
    """Give the histogram of how much later than the servers an application was back."""
    rows = []
    for tally in tallies:
        over = tally.late or [mine - theirs for mine, theirs in zip(tally.recovery, tally.detection, strict=True)]
        if over:
            counts = Counter(min(len(_STEPS) - 1, bisect_left(_STEPS, late)) for late in over)
            detection = f"{percentile(tally.detection, 0.5):.2f} / {max(tally.detection):.2f}"
            cells = (
                tally.cell,
                tally.level,
                len(over),
                detection,
                *(counts[step] or "" for step in range(len(_STEPS))),
            )
            rows.append(f"| {' | '.join(map(str, (*cells, f'{max(over):.2f}')))} |")
    if not rows:
        return []
    names = [f"<= {step:g} s" for step in _STEPS[:-1]]
    head = ("cell", "level", "runs", "servers' own time p50 / max (s)", *names, "later", "latest (s)")
    return [
        "When the servers had dealt with it and somebody tried: how long until the first operation succeeded, in runs:",
        "",
        f"| {' | '.join(head)} |",
        f"|{' --- |' * len(head)}",
        *rows,
        "",
    ]


def describe(fields: Mapping[str, Any]) -> str:
    """Name a server as INFO does."""
    name = fields.get("server_name", "redis")
    return f"{name} {fields.get('valkey_version') or fields.get('redis_version')}"
