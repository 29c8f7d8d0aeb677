"""The checker: what a history proves to have gone wrong. Jepsen's way, on the histories of single sessions.

Every answer is held against what had been acknowledged when its question began, and against what may have been done
when it came back. What is unknown may have happened or not, at any time from its beginning on.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Final

from faults.ledger import WRITES, Kind, Operation, Outcome

GRACE: Final = 10.0
"""Seconds for which a former secret is honoured (`SessionPolicy.rotation_grace`)."""

_NEVER: Final = float("inf")
_IN_DOUBT: Final = 1.0
"""Seconds within which a session may end that began after all of its subject were to, if that was not acknowledged: so
badly may a process know the server's time (docs/decisions/0023)."""


class Flaw(StrEnum):
    """What can be wrong."""

    SIGN_IN_MISSING = "acknowledged sign-in missing"
    REVOCATION_UNDONE = "acknowledged revocation undone"
    UPDATE_LOST = "acknowledged update lost"
    ROTATION_LOST = "acknowledged rotation lost"
    UPDATE_INVENTED = "update that nobody made"
    RECORD_MIXED = "record mixed"
    HANDLE_SHARED = "handle with two owners"
    FALSE_LOGOUT = "false logout"
    STALE_READ = "ended session read where its end was not known yet"
    SHORT_WRITE = "write acknowledged without its replicas"
    DANGER_UNNAMED = "danger that the check of the servers does not name"
    FOREIGN_ERROR = "error that no application expects"
    BROKEN_OFF = "run that broke off: servers or workers did not come back"
    KEY_WITHOUT_TTL = "key that lives for ever"


LOSSES: Final = frozenset({Flaw.SIGN_IN_MISSING, Flaw.REVOCATION_UNDONE, Flaw.UPDATE_LOST, Flaw.ROTATION_LOST})
"""What a store may do that acknowledges before a write is safe. All else is wrong whatever it promises."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A flaw of one session, with the operation that shows it; each is found once a session."""

    flaw: Flaw
    session: str
    shown_by: Operation | None
    text: str = ""

    def __str__(self) -> str:
        """Tell it."""
        return f"{self.flaw}: session {self.session}{': ' if self.text else ''}{self.text} [{self.shown_by}]"


def check(history: Iterable[Operation], *, grace: float = GRACE) -> list[Finding]:
    """Find the flaws of *history*. grace: seconds for which a former secret is honoured."""
    by_session: dict[str, list[Operation]] = defaultdict(list)
    mass: dict[str, list[Operation]] = defaultdict(list)
    findings: list[Finding] = []
    for entry in history:
        if entry.is_foreign:
            findings.append(Finding(Flaw.FOREIGN_ERROR, entry.session, entry))
        if entry.kind is Kind.REVOKE_ALL:
            mass[entry.subject].append(entry)
        else:
            by_session[entry.session].append(entry)
    owners: dict[str, str] = {}
    for name, entries in by_session.items():
        sign_in = next((e for e in entries if e.kind is Kind.SIGN_IN and e.outcome is Outcome.DONE), None)
        if sign_in is None:
            continue  # nobody knows an identifier of it
        if owners.setdefault(sign_in.handle, name) != name:
            findings.append(Finding(Flaw.HANDLE_SHARED, name, sign_in, f"shared with {owners[sign_in.handle]}"))
        findings += _Session(name, sign_in, entries, mass[sign_in.subject], grace).findings()
    return findings


def find_short(history: Iterable[Operation], began: float, ended: float) -> list[Finding]:
    """Find the writes of *history* that were acknowledged although a replica that they wait for was missing.

    It was from *began* to *ended*: a write that lay wholly within that can have been confirmed by nobody.
    """
    return [
        Finding(Flaw.SHORT_WRITE, entry.session, entry)
        for entry in history
        if entry.kind in WRITES and entry.outcome is Outcome.DONE and began <= entry.began and entry.ended <= ended
    ]


def _may_mean(end: Operation, sign_in: Operation) -> bool:
    """Say whether an end of all sessions of a subject may end the one that began with *sign_in*."""
    return sign_in.began < end.ended + (_IN_DOUBT if end.outcome is Outcome.UNKNOWN else 0)


class _Session:
    """The history of one session."""

    def __init__(
        self, name: str, sign_in: Operation, entries: Sequence[Operation], mass: Sequence[Operation], grace: float
    ) -> None:
        self._name = name
        self._sign_in = sign_in
        self._grace = grace
        self._reads = sorted((e for e in entries if e.kind is Kind.READ), key=lambda e: e.began)
        self._ends = [e for e in entries if e.kind is Kind.REVOKE and e.outcome is not Outcome.FAILED]
        self._ends += [e for e in mass if e.outcome is not Outcome.FAILED and _may_mean(e, sign_in)]
        self._rotations = [e for e in entries if e.kind is Kind.ROTATE and e.outcome is not Outcome.FAILED]
        self._totals = _Totals([e for e in entries if e.kind is Kind.ADD and e.outcome is not Outcome.FAILED])
        self._sets: dict[str, list[Operation]] = defaultdict(list)
        for entry in entries:
            if entry.kind is Kind.SET:
                self._sets[entry.writer].append(entry)
        self._found: dict[Flaw, Finding] = {}

    def findings(self) -> list[Finding]:
        """Find the flaws."""
        ended = min((e.ended for e in self._ends if self._is_certain(e)), default=_NEVER)
        for read in self._reads:
            if read.is_corrupted:
                self._note(Flaw.RECORD_MIXED, read, "the record does not open")
            elif read.outcome is not Outcome.DONE:
                continue
            elif read.found is None:
                self._judge_absence(read)
            else:
                if ended <= read.began - read.staleness:
                    # Where nobody could tell of it, it is not undone: that would show in the end, and elsewhere.
                    self._note(Flaw.STALE_READ if read.is_apart else Flaw.REVOCATION_UNDONE, read)
                self._judge_content(read)
        for end in self._ends:
            others = min((other.began for other in self._ends if other is not end), default=_NEVER)
            is_explained = others <= end.ended or self._is_replay_before(end.ended)
            if end.kind is Kind.REVOKE and end.outcome is Outcome.DONE and not end.value and not is_explained:
                self._note(Flaw.SIGN_IN_MISSING, end, "there was nothing to revoke")
        return list(self._found.values())

    def _is_certain(self, end: Operation) -> bool:
        """Say whether *end* was acknowledged, and for a session that had been there before it began."""
        return end.outcome is Outcome.DONE and (end.kind is Kind.REVOKE or end.began >= self._sign_in.ended)

    def _judge_absence(self, read: Operation) -> None:
        """Judge the answer that there is no such session."""
        if min((end.began for end in self._ends), default=_NEVER) <= read.ended or self._is_replay_before(read.ended):
            return
        # What was found last decides: in between, a primary that has been replaced may still have shown what is lost.
        last = [r for r in self._reads if r.is_last and r.outcome is Outcome.DONE and r.found is not None]
        if any(r.secret == read.secret for r in last):
            self._note(Flaw.FALSE_LOGOUT, read, "it was there again later")
        elif last and read.secret > 0:
            self._note(Flaw.ROTATION_LOST, read)
        elif last:
            self._note(Flaw.FALSE_LOGOUT, read, "it is still there")
        else:
            self._note(Flaw.SIGN_IN_MISSING, read)

    def _is_replay_before(self, moment: float) -> bool:
        """Say whether a secret was used too long after its rotation, which ends a session on purpose."""
        return any(
            0 <= read.secret < rotation.secret and rotation.began + self._grace <= read.ended
            for read in self._reads
            if read.began <= moment
            for rotation in self._rotations
        )

    def _judge_content(self, read: Operation) -> None:
        """Judge what a read has found."""
        found, own = read.found, self._sign_in
        if found is None or (found.handle, found.subject, found.session) != (own.handle, own.subject, self._name):
            self._note(Flaw.RECORD_MIXED, read)
            return
        least, most = self._totals.bounds(read)
        if found.total < least:
            self._note(Flaw.UPDATE_LOST, read, f"{found.total} counted, {least} acknowledged")
        elif found.total > most:
            self._note(Flaw.UPDATE_INVENTED, read, f"{found.total} counted, at most {most} asked for")
        for writer in {*self._sets, *found.marks}:
            self._judge_mark(read, writer, found.marks.get(writer, 0))

    def _judge_mark(self, read: Operation, writer: str, mark: int) -> None:
        """Judge what one writer, who does one thing after the other, is seen to have written last."""
        least, possible = 0, {0}
        for entry in self._sets[writer]:
            if entry.outcome is Outcome.FAILED or entry.began > read.ended:
                continue
            if entry.outcome is Outcome.DONE and entry.ended <= read.began - read.staleness:
                least, possible = entry.value, set()
            possible.add(entry.value)
        if mark < least:
            self._note(Flaw.UPDATE_LOST, read, f"{writer} is at {mark}, {least} acknowledged")
        elif mark not in possible:
            self._note(Flaw.UPDATE_INVENTED, read, f"{writer} is at {mark}, possible were {sorted(possible)}")

    def _note(self, flaw: Flaw, shown_by: Operation, text: str = "") -> None:
        self._found.setdefault(flaw, Finding(flaw, self._name, shown_by, text))


class _Totals:
    """What had been added to a counter for certain, and at most, at any time."""

    def __init__(self, adds: Sequence[Operation]) -> None:
        done = sorted((e.ended, e.value) for e in adds if e.outcome is Outcome.DONE)
        begun = sorted((e.began, e.value) for e in adds)
        self._ended = [moment for moment, _ in done]
        self._least = [0, *accumulate(value for _, value in done)]
        self._began = [moment for moment, _ in begun]
        self._most = [0, *accumulate(value for _, value in begun)]

    def bounds(self, read: Operation) -> tuple[int, int]:
        """Give the least and the most that *read* may find."""
        return (
            self._least[bisect_left(self._ended, read.began - read.staleness)],
            self._most[bisect_right(self._began, read.ended)],
        )
