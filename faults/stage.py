"""One run of a cell: a fresh topology, the workload on it, a fault, and what the checker makes of it all."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import coatcheck
from coatcheck.engine.keys import Keys
from coatcheck.model.ticket import Handle
from coatcheck.runtime.local import cluster, sentinel
from coatcheck.runtime.local.settings import Kind as TopologyKind
from coatcheck.runtime.local.settings import TopologySettings
from coatcheck.runtime.local.topology import LocalTopology
from coatcheck.runtime.topology import slot_of
from faults.checker import LOSSES, Finding, Flaw, check
from faults.ledger import Operation, Outcome
from faults.proxy import Namespace, Proxy
from faults.workload import POLICY, Workload, read_all

DEADLINE: Final = 0.25
"""Seconds; the default of `coatcheck.Sessions`."""

_POLL: Final = 0.005
_PATIENCE: Final = 30.0
_WORK_SECONDS: Final = 1.0
_BRIEF_SECONDS: Final = 0.2


class Level(StrEnum):
    """When a write is acknowledged: when it is in the memory of the primary, on replicas, on its disk, on all."""

    D0 = "D0"
    D1 = "D1"
    D2 = "D2"
    D3 = "D3"


NO_LEVEL: Final[frozenset[Level]] = frozenset()
UNTIL_DISK: Final = frozenset({Level.D0, Level.D1})
UNTIL_REPLICATED: Final = frozenset({Level.D0, Level.D2})
"""The levels at which a fault may undo what was acknowledged: a lost process, a lost server."""


class Skipped(Exception):
    """A cell cannot be run here; the text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A fault on a topology.

    act: does it. losing: the levels at which acknowledged writes may be lost, which are counted then. settings: of the
    servers. prepare: sets up what must be there before the servers, and gives further settings.
    """

    name: str
    kind: TopologyKind
    about: str
    act: "Callable[[Stage], None]"
    losing: frozenset[Level] = NO_LEVEL
    settings: Mapping[str, Any] = field(default_factory=dict)
    prepare: "Callable[[Stage], Mapping[str, Any]] | None" = None
    has_workload: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What came of one run. recovery, detection: seconds from the fault to the first success, and to the servers'."""

    entries: Sequence[Operation]
    findings: Sequence[Finding]
    recovery: float | None
    detection: float | None
    waits: Sequence[float]
    numbers: Mapping[str, float]


class Stage:
    """Where a cell acts."""

    def __init__(self, cell: Cell, level: Level, *, is_quick: bool) -> None:
        """Prepare nothing yet. is_quick: the shortest form of the fault."""
        self.cell: Final = cell
        self.level: Final = level
        self.is_quick: Final = is_quick
        self.keys: Final = coatcheck.new_key()
        self.stack: Final = ExitStack()
        self.further: Final[list[Operation]] = []
        """Entries of others than the workload."""
        self.findings: Final[list[Finding]] = []
        """What the cell itself has found."""
        self.numbers: Final[dict[str, float]] = {}
        """What the cell has measured, under a name with its unit."""
        self.url = ""
        """Where the workload goes, if not straight to the topology."""
        self.folder: Path
        self.proxy: Proxy
        self.island: Namespace
        self._struck: float | None = None
        self._served: float | None = None
        self._calmed: float | None = None
        self._slots: frozenset[int] | None = None

    def run(self) -> Run:
        """Do all of it. Raises Skipped."""
        with self.stack:
            more = self.cell.prepare(self) if self.cell.prepare else {}
            settings = TopologySettings(**{**self.cell.settings, **more})
            self.topology = self.stack.enter_context(LocalTopology(self.cell.kind, settings))
            self.url = self.url or self.topology.url
            if self.cell.has_workload:
                self.workload = self.open(self.url, "w")
                with self.workload:
                    self.cell.act(self)
                read_all(self.topology.url, self.keys, self.workload.people, self.workload.ledger)
                self.further.extend(self.workload.ledger.entries)
            else:
                self.cell.act(self)
        return self._judged()

    def open(self, url: str, seed: str, **options: Any) -> Workload:
        """Make a workload at *url*; the caller enters it."""
        more = {"deadline": timedelta(seconds=DEADLINE), "policy": policy_at(self.level, self.cell.kind), **options}
        return Workload(url, self.keys, seed=seed, **more)

    # What happens

    def settle(self, count: int = 60, limit: float = _PATIENCE) -> None:
        """Let it work for a moment, until *count* more operations have been acknowledged that began from now on."""
        now, wanted = time.monotonic(), count
        time.sleep(_BRIEF_SECONDS if self.is_quick else _WORK_SECONDS)

        def has_done() -> bool:
            recent = self.workload.ledger.entries[-20 * wanted :]
            return sum(entry.outcome is Outcome.DONE and entry.began >= now for entry in recent) >= wanted

        self.wait(has_done, f"{count} operations more", limit)

    def strike(self, act: Callable[[], object], *, slots: frozenset[int] | None = None) -> None:
        """Let the fault happen. slots: those whose operations show the recovery, if not all."""
        self._slots = slots
        self._struck = time.monotonic()
        act()

    def served(self) -> None:
        """Say that the servers have dealt with the fault by themselves as of now."""
        self._served = time.monotonic()

    def calm(self) -> None:
        """Say that the fault is over as of now; what is in between is what operations are timed in."""
        self._calmed = time.monotonic()

    def wait(self, condition: Callable[[], object], what: str, limit: float = _PATIENCE) -> None:
        """Wait until *condition*. Raises TimeoutError."""
        deadline = time.monotonic() + limit
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.cell.name}: not in {limit:.0f} s: {what}")
            time.sleep(_POLL)

    def await_takeover(self, former: str) -> None:
        """Wait until the servers have another primary in the place of *former*."""
        nodes = self.topology._nodes
        port = nodes[former].port
        if self.cell.kind is TopologyKind.SENTINEL:
            sentinels = self.topology._sentinels()
            self.wait(
                lambda: any((sentinel.named_primary(one) or port) != port for one in sentinels), "another primary"
            )
        else:
            heirs = [nodes[name] for name in self._heirs]
            self.wait(lambda: any(cluster.own_slots(heir) for heir in heirs), "another primary")
        self.served()

    def choose_victim(self) -> tuple[str, frozenset[int] | None]:
        """Name a primary, and in a cluster its slots."""
        name = self.topology.primary()
        if self.cell.kind is not TopologyKind.CLUSTER:
            return name, None
        status = {one.name: one for one in self.topology.status()}
        self._heirs = [one.name for one in status.values() if one.follows == name]
        self._slots = frozenset(_slots(status[name].slots or ""))
        return name, self._slots

    def is_on_victim(self, handle: str) -> bool:
        """Say whether the session with *handle* is, or was, on the primary that was chosen."""
        return self._slots is None or slot_of(("GET", _record(handle))) in self._slots

    # What came of it

    def _judged(self) -> Run:
        entries = self.further
        duration = (self._calmed or float("inf")) if self._struck else 0.0
        waits = [e.ended - e.began for e in entries if self._struck and self._struck <= e.began < duration]
        return Run(
            entries=entries,
            findings=[*self.findings, *check(entries)],
            recovery=self._recovery(),
            detection=None if self._served is None or self._struck is None else self._served - self._struck,
            waits=waits,
            numbers=self.numbers,
        )

    def _recovery(self) -> float | None:
        struck, entries = self._struck, self.workload.ledger.entries if self._served else ()
        if self._served is None or struck is None:
            return None
        worked = (e.ended for e in entries if e.began >= struck and e.outcome is Outcome.DONE and self._shows(e))
        return min(worked, default=float("inf")) - struck

    def _shows(self, entry: Operation) -> bool:
        return self._slots is None or (bool(entry.handle) and self.is_on_victim(entry.handle))


def _record(handle: str) -> str:
    return Keys("cc").record(Handle.parse(handle))


def _slots(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split():
        first, _, last = part.partition("-")
        if first.isdigit():
            found += range(int(first), int(last or first) + 1)
    return found


def policy_at(level: Level, kind: TopologyKind) -> coatcheck.SessionPolicy:
    """Give the policy of the workload at *level*: all writes wait, for all replicas. Raises Skipped."""
    if level is Level.D0:
        return POLICY
    if not hasattr(coatcheck, "Durability"):
        raise Skipped("this coatcheck has no durability: only D0 can be run")
    if kind is TopologyKind.SINGLE and level in {Level.D1, Level.D3}:
        raise Skipped(f"{level} is about replicas, of which one server has none")
    wanted = {Level.D1: "REPLICAS", Level.D2: "DISK", Level.D3: "DISK_AND_REPLICAS"}[level]
    writes = dict.fromkeys(("save", "sign_in", "rotation", "revocation"), coatcheck.Level[wanted])
    replicas = 2 if kind is TopologyKind.SENTINEL else 1
    return replace(POLICY, durability=coatcheck.Durability(**writes, replicas=replicas))


def violations(run: Run, cell: Cell, level: Level) -> list[Finding]:
    """Give the findings that break what is promised."""
    counted = LOSSES if level in cell.losing else frozenset[Flaw]()
    return [finding for finding in run.findings if finding.flaw not in counted]


def losses(run: Run, cell: Cell, level: Level) -> list[Finding]:
    """Give the findings that are only counted: nobody has promised otherwise."""
    return [finding for finding in run.findings if finding not in violations(run, cell, level)]
