"""One run of a cell: a fresh topology, the workload on it, a fault, and what the checker makes of it all."""

import secrets
import shutil
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import coatcheck
from coatcheck import SessionError
from coatcheck.engine.keys import Keys
from coatcheck.model.ticket import Handle
from coatcheck.runtime.local import cluster, sentinel
from coatcheck.runtime.local.settings import Kind as TopologyKind
from coatcheck.runtime.local.settings import TopologySettings
from coatcheck.runtime.local.status import Role
from coatcheck.runtime.local.topology import LocalTopology
from coatcheck.runtime.topology import slot_of
from faults.checker import LOSSES, Finding, Flaw, check, find_short
from faults.ledger import WRITES, Operation, Outcome, to_line
from faults.ledger import Kind as Did
from faults.levels import DEADLINES, NO_LEVEL, WORKERS, Level, policy_at
from faults.ports import free_row
from faults.proxy import Namespace, Proxy
from faults.workload import Workload, read_all

_POLL: Final = 0.005
_PATIENCE: Final = 30.0
_WORK_SECONDS: Final = 1.0
_BRIEF_SECONDS: Final = 0.2
_WRITES_BEFORE: Final = 40


class NotBegun(Exception):
    """The fault could not begin, since the servers were not what it wants; the text says in which way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A fault on a topology.

    act: does it. levels: those at which it is run unless others are asked for. losing: the levels at which acknowledged
    writes may be lost: flaws in *may_lose* are only counted then. excused: flaws that are only counted at every level.
    settings: of the servers. near: the staleness of the applications' near caches; None: they have none. prepare: sets
    up what must be there before the servers, and gives further settings.
    """

    name: str
    kind: TopologyKind
    about: str
    act: "Callable[[Stage], None]"
    levels: Sequence[Level] = (Level.D0,)
    losing: frozenset[Level] = NO_LEVEL
    may_lose: frozenset[Flaw] = LOSSES
    excused: frozenset[Flaw] = frozenset()
    settings: Mapping[str, Any] = field(default_factory=dict)
    near: timedelta | None = None
    prepare: "Callable[[Stage], Mapping[str, Any]] | None" = None
    has_workload: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What came of one run.

    recovery, detection: seconds from the fault to the first success, and to the servers'. late: seconds to that success
    from when somebody first tried after the servers'. seconds: it took in all.
    replays: how often it was played before, and the fault could not begin.
    """

    entries: Sequence[Operation]
    findings: Sequence[Finding]
    recovery: float | None
    detection: float | None
    late: float | None
    waits: Sequence[float]
    numbers: Mapping[str, float]
    seconds: float
    replays: int = 0


class Stage:
    """Where a cell acts."""

    def __init__(self, cell: Cell, level: Level, *, is_quick: bool, keep: Path | None = None) -> None:
        """Prepare nothing yet.

        is_quick: the shortest form of the fault. keep: the folder that gets the history and the servers' logs, should
        anything be found.
        """
        self._keep = keep
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
        self.heirs: list[str] = []
        self.proxy: Proxy
        self.island: Namespace
        self._began = time.monotonic()
        self._struck: float | None = None
        self._felt = float("inf")
        self._short: list[float] = []
        self._served: float | None = None
        self._calmed: float | None = None
        self._slots: frozenset[int] | None = None

    def run(self) -> Run:
        """Do all of it. Whatever goes wrong on the way is a finding.

        Raises Skipped, and NotBegun, unless what was done until then has shown something.
        """
        with self.stack:
            try:
                more = self.cell.prepare(self) if self.cell.prepare else {}
                settings = TopologySettings(**{"port": free_row(), **self.cell.settings, **more})
                self.topology = self.stack.enter_context(LocalTopology(self.cell.kind, settings))
            except (SessionError, OSError) as error:  # another process has taken the port in between, mostly
                raise NotBegun(f"the servers cannot be started: {error}") from error
            self.url = self.url or self.topology.url
            not_begun: NotBegun | None = None
            try:
                self._play()
            except NotBegun as error:
                not_begun = error
            except Exception as error:  # noqa: BLE001  a run that breaks off is a finding, and the others go on
                text = " ".join("".join(traceback.format_exception(error)[-3:]).split())
                self.findings.append(Finding(Flaw.BROKEN_OFF, "", None, text))
            run = self._judged()
            if not_begun is not None and not violations(run, self.cell, self.level):
                raise not_begun
            if self._keep is not None and run.findings:
                keep_history(self._keep / f"{self.cell.name}-{self.level}-{secrets.token_hex(4)}", run, self.topology)
        return run

    def _play(self) -> None:
        if not self.cell.has_workload:
            self.cell.act(self)
            return
        self.workload = self.open(self.url, "w")
        try:
            with self.workload:
                self.cell.act(self)
            read_all(self.topology.url, self.keys, self.workload.people, self.workload.ledger)
        finally:
            self.further.extend(self.workload.ledger.entries)

    def open(self, url: str, seed: str, **options: Any) -> Workload:
        """Make a workload at *url*; the caller enters it."""
        deadline, policy = timedelta(seconds=DEADLINES[self.level]), policy_at(self.level, self.cell.kind)
        if self.cell.near is not None:
            policy = replace(policy, near_cache=coatcheck.NearCache(staleness=self.cell.near))
        own = {"deadline": deadline, "policy": policy, "workers": WORKERS[self.level]}
        return Workload(url, self.keys, seed=seed, **own, **options)

    # What happens

    def settle(
        self, count: int = 60, limit: float = _PATIENCE, *, seconds: float | None = None, writes: int = 0
    ) -> None:
        """Let it work for a moment, until *count* more operations have been acknowledged that began from now on.

        seconds: how long at least. writes: how many of the operations must be writes. Where no write can be
        acknowledged any more, for a replica is missing, a third of *count* will do.
        """
        count = count // 3 if self._short and self.level.needs_replicas else count
        now, ledger = time.monotonic(), self.workload.ledger
        first = len(ledger.entries)
        time.sleep((_BRIEF_SECONDS if self.is_quick else _WORK_SECONDS) if seconds is None else seconds)

        def has_done() -> bool:
            done = [e for e in ledger.entries[first:] if e.outcome is Outcome.DONE and e.began >= now]
            return len(done) >= count and sum(entry.kind in WRITES for entry in done) >= writes

        self.wait(has_done, f"{count} operations more, {writes} of them writes", limit)

    def warm_up(self) -> None:
        """Let there be sessions, and writes of each kind at the level of the run, before anything happens to them."""
        self.settle(writes=_WRITES_BEFORE)
        wanted, entries = WRITES - {Did.REVOKE_ALL}, self.workload.ledger.entries
        self.wait(lambda: wanted <= {e.kind for e in entries if e.outcome is Outcome.DONE}, "writes of each kind")

    def strike(self, act: Callable[[], object], *, slots: frozenset[int] | None = None) -> None:
        """Let the fault happen. slots: those whose operations show the recovery, if not all."""
        self._slots = slots
        self._struck = time.monotonic()
        act()
        self._felt = time.monotonic()

    def lack_replica(self) -> None:
        """Say that a replica is missing as of now: at a level that wants all, nothing may be acknowledged."""
        self._short = [time.monotonic(), float("inf")]

    def have_replicas(self) -> None:
        """Say that it may be back as of now."""
        self._short[1] = time.monotonic()

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
            heirs = [nodes[name] for name in self.heirs]
            self.wait(lambda: any(cluster.own_slots(heir) for heir in heirs), "another primary")
        self.served()

    def await_service(self, name: str) -> None:
        """Wait until *name* itself says that it serves: a node of a Cluster does not for two seconds from its start."""
        if self.cell.kind is TopologyKind.CLUSTER:
            with self.topology.client(name) as client:
                self.wait(lambda: client.cluster("INFO")["cluster_state"] == "ok", "it serves again")
        self.served()

    def choose_victim(self) -> tuple[str, frozenset[int] | None]:
        """Name a primary, and in a cluster its slots; its replicas are in `heirs` then."""
        name = self.topology.primary()
        status = {one.name: one for one in self.topology.status()}
        self.heirs = [one.name for one in status.values() if one.follows == name and one.role is Role.REPLICA]
        if self.cell.kind is not TopologyKind.CLUSTER:
            return name, None
        self._slots = frozenset(_slots(status[name].slots or ""))
        return name, self._slots

    def is_on_victim(self, handle: str) -> bool:
        """Say whether the session with *handle* is, or was, on the primary that was chosen."""
        return self._slots is None or slot_of(("GET", _record(handle))) in self._slots

    # What came of it

    def _judged(self) -> Run:
        entries = self.further
        recovery, late = self._recovery()
        duration = (self._calmed or float("inf")) if self._struck else 0.0
        waits = [e.ended - e.began for e in entries if self._struck and self._struck <= e.began < duration]
        return Run(
            entries=entries,
            findings=[*self.findings, *check(entries), *self._short_of_replicas()],
            recovery=recovery,
            detection=None if self._served is None or self._struck is None else self._served - self._struck,
            late=late,
            waits=waits,
            numbers=self.numbers,
            seconds=time.monotonic() - self._began,
        )

    def _short_of_replicas(self) -> list[Finding]:
        if not self._short or not self.level.needs_replicas:
            return []
        return find_short(filter(self._is_concerned, self.further), *self._short)

    def _recovery(self) -> tuple[float | None, float | None]:
        """Give `Run.recovery` and `Run.late`; None where by chance nobody has wanted what was lost."""
        if self._served is None or self._struck is None:
            return None, None
        served, entries = self._served, self.workload.ledger.entries
        concerned = [e for e in entries if e.began >= self._felt and self._is_concerned(e) and not e.is_apart]
        first = min((e for e in concerned if e.outcome is Outcome.DONE), key=lambda e: e.ended, default=None)
        is_short = self.level.needs_replicas and self._short  # then a write that fails says nothing of who serves
        tried = [e.began for e in concerned if e.began >= served and (e.kind is Did.READ or not is_short or e is first)]
        if not tried:
            return None, None
        if first is None:
            return float("inf"), float("inf")
        since = served if first.began < served else min(tried)
        return first.ended - self._struck, first.ended - since

    def _is_concerned(self, entry: Operation) -> bool:
        return self._slots is None or (bool(entry.handle) and self.is_on_victim(entry.handle))


def keep_history(folder: Path, run: Run, topology: LocalTopology) -> None:
    """Write what was found in *run*, its entries and the logs of its servers into *folder*."""
    folder.mkdir(parents=True)
    (folder / "findings").write_text("".join(f"{finding}\n" for finding in run.findings))
    (folder / "history").write_text("".join(f"{to_line(entry)}\n" for entry in run.entries))
    for log in topology.folder.glob("*/*.log"):
        shutil.copy(log, folder / f"{log.parent.name}.log")


def _record(handle: str) -> str:
    return Keys("cc").record(Handle.parse(handle))


def _slots(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split():
        first, _, last = part.partition("-")
        if first.isdigit():
            found += range(int(first), int(last or first) + 1)
    return found


def violations(run: Run, cell: Cell, level: Level) -> list[Finding]:
    """Give the findings that break what is promised."""
    counted = cell.excused | (cell.may_lose if level in cell.losing else frozenset())
    return [finding for finding in run.findings if finding.flaw not in counted]


def losses(run: Run, cell: Cell, level: Level) -> list[Finding]:
    """Give the findings that are only counted: nobody has promised otherwise."""
    broken = {id(finding) for finding in violations(run, cell, level)}
    return [finding for finding in run.findings if id(finding) not in broken]
