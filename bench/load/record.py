"""What was measured, kept in docs/performance.json, and the section and plots of docs/performance.md made of it."""

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from bench.field.stage import ROOT
from bench.load.contenders import Contender
from bench.load.plot import Bar, bars
from bench.load.stage import Measure

DOCUMENT: Final = ROOT / "docs" / "performance.md"
DATA: Final = ROOT / "docs" / "performance.json"
IMAGES: Final = ROOT / "docs" / "images"
BEGIN: Final = "<!-- load: begin (make bench ARGS=--record writes this) -->"
END: Final = "<!-- load: end -->"


class Trial(StrEnum):
    """What the load does."""

    READ = "read"
    WRITE = "write"
    CROWD = "256 connections"
    ONE_SESSION = "one session"


_ABOUT: Final = {
    Trial.READ: "Reading: one attribute of the session; 32 connections over 1,000 sessions",
    Trial.WRITE: "Writing: 1 is added to an attribute; 32 connections over 1,000 sessions",
    Trial.CROWD: "256 connections at once, reading",
    Trial.ONE_SESSION: "One session, 32 connections that add 1 to an attribute of it",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """The medians of a contender's rounds in one trial, as `Measure` has them.

    share, least, most: of the bare framework's requests a second, the median and the extremes of the rounds; None where
    there is no bare one to compare with.
    """

    trial: str
    title: str
    is_bare: bool
    is_ours: bool
    share: float | None
    least: float | None
    most: float | None
    rate: float
    failed: float
    p50: float
    p99: float
    store_cpu: float
    commands: float
    kept: float

    @classmethod
    def of(cls, trial: Trial, contender: Contender, measures: Sequence[Measure], bare: Sequence[Measure]) -> "Row":
        """Sum up the rounds. bare: those of the bare framework, none where it has no part in the trial."""
        shares = (
            [mine.rate / max(1.0, theirs.rate) for mine, theirs in zip(measures, bare, strict=True)] if bare else []
        )
        names = ("rate", "failed", "p50", "p99", "store_cpu", "commands", "kept")
        return cls(
            trial=trial.value,
            title=contender.title,
            is_bare=contender.is_bare,
            is_ours=contender.is_ours,
            share=round(statistics.median(shares), 3) if shares else None,
            least=round(min(shares), 3) if shares else None,
            most=round(max(shares), 3) if shares else None,
            **{name: round(statistics.median(getattr(one, name) for one in measures), 4) for name in names},
        )


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was found for a framework. about: when, with which versions, and by which command."""

    group: str
    about: str
    rows: list[Row]

    def table(self) -> Iterator[str]:
        """Give its tables in Markdown, one for each trial."""
        yield f"### {self.group}"
        for trial in Trial:
            rows = [row for row in self.rows if row.trial == trial]
            if rows:
                lines = _of_one(rows) if trial is Trial.ONE_SESSION else _of_many(rows)
                yield from ("", f"{_ABOUT[trial]}:", "", *lines)
        yield ""


def _of_many(rows: Sequence[Row]) -> Iterator[str]:
    yield "| | share of bare | requests/s | failed | p50 ms | p99 ms | store us | commands |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in rows:
        share = "1" if row.is_bare else f"{row.share:.2f} ({row.least:.2f} to {row.most:.2f})"
        store = "| |" if row.is_bare else f"{row.store_cpu:.1f} | {row.commands:.2f} |"
        waits = f"{row.p50:.1f} | {row.p99:.1f}"
        yield f"| {_named(row)} | {share} | {row.rate:,.0f} | {_percent(row.failed)} | {waits} | {store}"


def _of_one(rows: Sequence[Row]) -> Iterator[str]:
    yield "| | increments kept | requests/s | failed | p50 ms | p99 ms |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for row in rows:
        yield (
            f"| {_named(row)} | {_percent(row.kept)} | {row.rate:,.0f} | {_percent(row.failed)} | {row.p50:.1f} "
            f"| {row.p99:.1f} |"
        )


def _named(row: Row) -> str:
    return f"**{row.title}**" if row.is_ours else row.title


def _percent(share: float) -> str:
    return f"{share:.0%}" if share in {0, 1} else f"{share:.1%}"


def load() -> dict[str, Result]:
    """Read what was recorded, by framework."""
    found = json.loads(DATA.read_text()) if DATA.exists() else {}
    return {
        name: Result(group=name, about=fields["about"], rows=[Row(**row) for row in fields["rows"]])
        for name, fields in found.items()
    }


def save(found: Iterable[Result], order: Sequence[str]) -> None:
    """Record what was *found* beside what was found of other frameworks; rewrite section and plots."""
    known = load() | {result.group: result for result in found}
    known = {name: known[name] for name in order if name in known}
    DATA.write_text(json.dumps({name: _plain(result) for name, result in known.items()}, indent=1) + "\n")
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(before + "\n".join((BEGIN, "", *section(known), END)) + after)
    for name, text in plots(known).items():
        (IMAGES / name).write_text(text)


def section(known: Mapping[str, Result]) -> Iterator[str]:
    """Give the lines of the section."""
    for about in dict.fromkeys(result.about for result in known.values()):
        names = ", ".join(name for name, result in known.items() if result.about == about)
        yield from (f"{names}: {about}", "")
    for name in plots(known):
        yield from (f"![{name}](images/{name})", "")
    for result in known.values():
        yield from result.table()


def plots(known: Mapping[str, Result]) -> dict[str, str]:
    """Draw the shares of reading and of writing; give SVG by file name."""
    drawn = {}
    for trial in (Trial.READ, Trial.WRITE):
        groups = {
            name: [
                Bar(row.title, row.share, is_ours=row.is_ours)
                for row in result.rows
                if row.trial == trial and row.share is not None and not row.is_bare
            ]
            for name, result in known.items()
        }
        title = f"Share of the bare framework's requests per second, {'reading' if trial is Trial.READ else 'writing'}"
        drawn[f"performance-{trial.value}.svg"] = bars(title, {name: found for name, found in groups.items() if found})
    return drawn


def regressions(found: Iterable[Result], tolerance: float) -> list[str]:
    """Say where coatcheck's share is less than *tolerance* of what was recorded."""
    known = load()
    said = []
    for result in found:
        recorded = {(row.trial, row.title): row for row in known[result.group].rows} if result.group in known else {}
        for row in result.rows:
            former = recorded.get((row.trial, row.title))
            if row.is_ours and row.share and former and former.share and row.share < tolerance * former.share:
                said.append(f"{result.group}, {row.trial}: {row.title} has {row.share} of bare, it was {former.share}")
    return said


def _plain(result: Result) -> dict[str, object]:
    return {"about": result.about, "rows": [asdict(row) for row in result.rows]}
