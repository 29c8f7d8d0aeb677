"""What a session has beside its record, its compartments and its activity, and how that gets into the store.

It goes along with the session's own write or touch, in the same round trip and behind it: the scripts write nothing
for a session whose record is not there. Session and compartments are compared and set each for itself; what another
request has written meanwhile is merged with, and only that part is sent again.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from coatcheck.engine import scripts
from coatcheck.engine.keys import Keys
from coatcheck.engine.transport import Command
from coatcheck.model.activity import Activities, Activity
from coatcheck.model.compartment import Compartment, Compartments, Opened
from coatcheck.model.delta import Increment, Operation, apply
from coatcheck.model.errors import RecordCorrupted, SessionConflict, SessionError, SessionRevoked
from coatcheck.model.header import last_write
from coatcheck.model.policy import SessionPolicy
from coatcheck.model.record import Header, Payload, Records, pack_revision
from coatcheck.model.session import Session, instant
from coatcheck.model.ticket import Handle

log = logging.getLogger("coatcheck")

_REMEMBERED_USES: Final = 10_000
_NO_DIGEST: Final = bytes(32)  # a compartment has no secret of its own


class Companions:
    """The compartments and the activity of all sessions, and which of them this process has extended lately."""

    __slots__ = ("_activities", "_keys", "_records", "_used", "names", "policy")

    def __init__(self, keys: Keys, records: Records, activities: Activities, policy: SessionPolicy) -> None:
        """Name keys with *keys*, seal with *records* and *activities*."""
        self._keys = keys
        self._records = records
        self._activities = activities
        self._used: dict[tuple[Handle, str], int] = {}
        self.policy = policy
        self.names = tuple(name for name, _ in policy.declared_compartments)

    @property
    def listed(self) -> str:
        """The declared compartments as the scripts that end sessions take them."""
        return " ".join(self.names)

    def compartment_keys(self, handle: Handle) -> tuple[str, ...]:
        """Name the keys of the declared compartments of *handle*."""
        return tuple(self._keys.compartment(handle, name) for name in self.names)

    def named(self, found: Iterable[bytes | None]) -> Mapping[str, bytes]:
        """Give what the keys of the compartments hold by their names, without those that hold nothing."""
        return {name: record for name, record in zip(self.names, found, strict=True) if record is not None}

    def present(self, handle: Handle, raw: Mapping[str, bytes]) -> Compartments:
        """Give the compartments of *handle* from their records, by name; each is opened when it is asked for."""
        return Compartments(self.policy, raw, lambda name, record: self._records.open(handle, record, name))

    def known_end(self, handle: Handle, raw: Mapping[str, bytes]) -> float:
        """Say when the first of the compartments ends (ms) that nobody uses, as far as this process knows."""
        return min((self._known_end(handle, name, record) for name, record in raw.items()), default=inf)

    def _known_end(self, handle: Handle, name: str, record: bytes) -> float:
        seen_at, idle = last_write(record)
        return max(seen_at, self._used.get((handle, name), 0)) + idle

    def staying(self, session: Session, now: int) -> "Along":
        """Give what *session* has to send along: changed compartments, used ones that are due, activity."""
        errands = []
        for part in session.parts.known.values():
            if part.is_changed:
                errands.append(_Errand(part, part.delta(), part.header, part.payload))
            elif part.accessed and part.header and session.handle and self._is_due(session.handle, part, now):
                errands.append(_Errand(part, [], part.header, part.payload, extends=True))
        return Along(self, session, errands)

    def moving(self, session: Session, carried: tuple[str, ...] | None) -> "Along":
        """Give what *session* takes along to a new handle: the *carried* compartments (None: all), its own changes."""
        errands = []
        for name in {*session.parts.unopened, *session.parts.known}:
            crosses = carried is None or name in carried
            if not crosses and name not in session.parts.known:
                continue
            try:
                part = session.parts[name]
            except RecordCorrupted:
                log.exception("session_compartment_corrupted", extra={"handle": str(session.handle)})
                continue
            former = part.payload if crosses else Payload()
            errands.append(_Errand(part, part.delta(), None, Payload(attributes=former.attributes)))
        return Along(self, session, errands, moves=True)

    def note_use(self, handle: Handle, part: Compartment, now: int) -> None:
        """Remember that a compartment's idle deadline was extended."""
        if len(self._used) >= _REMEMBERED_USES:
            self._used.clear()
        self._used[handle, part.name] = now

    def open(self, handle: Handle, record: bytes, name: str) -> Opened:
        """Open the record of a compartment. Raises RecordCorrupted."""
        return self._records.open(handle, record, name)

    def write_command(self, handle: Handle, name: str, base: Header | None, sent: Opened | None, ttl: int) -> Command:
        """Make the command that replaces *base* (None: nothing) with *sent* (None: nothing)."""
        expected = pack_revision(base.revision) if base else b""
        record = self._records.seal(handle, *sent, name) if sent else b""
        return scripts.COMPARTMENT.command(self._keys_of(handle, name), expected, record, ttl)

    def extend_command(self, handle: Handle, name: str, ttl: int) -> Command:
        """Make the command that lets a compartment live for *ttl* ms from now."""
        return scripts.COMPARTMENT.command(self._keys_of(handle, name), b"*", b"", ttl)

    def activity_command(self, session: Session, handle: Handle, now: int, ttl: int) -> Command:
        """Make the command that adds what *session* has recorded."""
        kept = self.policy.activity_kept
        entries = session.recorded.seal(self._activities, handle, now, kept)
        keys = (*self._session_keys(handle), self._keys.activity(handle))
        return scripts.ACTIVITY.command(keys, ttl, kept, *(word for entry in entries for word in entry))

    def reading(
        self, handle: Handle, since: int | None, until: int | None, limit: int, *, newest_first: bool
    ) -> Command:
        """Make the command that reads the activity of *handle* between two instants (ms)."""
        first, last = "-" if since is None else since, "+" if until is None else until
        span = ("XREVRANGE", last, first) if newest_first else ("XRANGE", first, last)
        return scripts.READ_ACTIVITY.command((*self._session_keys(handle), self._keys.activity(handle)), *span, limit)

    def read(self, handle: Handle, reply: list[bytes]) -> list[Activity]:
        """Give the activity in the reply to `reading`, without what cannot be opened."""
        found = []
        for name, sealed in zip(reply[::2], reply[1::2], strict=True):
            try:
                found.append(self._activities.open(handle, instant(int(name.partition(b"-")[0])), sealed))
            except (RecordCorrupted, ValueError, OverflowError):  # also an id that no clock has given
                log.exception("session_activity_corrupted", extra={"handle": str(handle)})
        return found

    def _is_due(self, handle: Handle, part: Compartment, now: int) -> bool:
        return now - self._used.get((handle, part.name), 0) >= part.idle // 10

    def _session_keys(self, handle: Handle) -> tuple[str, str]:
        return self._keys.record(handle), self._keys.epoch(handle.partition)

    def _keys_of(self, handle: Handle, name: str) -> tuple[str, str, str]:
        return (*self._session_keys(handle), self._keys.compartment(handle, name))


@dataclass(slots=True)
class _Errand:
    """One compartment on its way into the store: its changes, to be made to what is there (base, current)."""

    part: Compartment
    changes: list[Operation]
    base: Header | None
    current: Payload
    extends: bool = False
    is_done: bool = False
    sent: Opened | None = None
    write_id: bytes = field(default=b"", init=False)

    def __post_init__(self) -> None:
        if any(isinstance(change, Increment) for change in self.changes):
            self.write_id = self.part.write_id_for(self.changes)

    @property
    def idle(self) -> int:
        """How long the compartment is to live unused (ms): what this request has set, or what is there."""
        part = self.part
        is_own = self.base is None or part.header is None or part.idle != part.header.idle_timeout
        return part.idle if is_own or self.base is None else self.base.idle_timeout

    def settle(self, stored: Opened | None) -> None:
        """Note what the store holds now."""
        self.is_done = True
        if not self.extends:
            self.part.now_stored(stored)
        self.part.accessed = False


class Along:
    """What one save sends along with the session's own command, as often as it takes."""

    __slots__ = ("_companions", "_errands", "_failure", "_handle", "_moves", "_now", "_sent", "_session")

    def __init__(
        self, companions: Companions, session: Session, errands: list[_Errand], *, moves: bool = False
    ) -> None:
        """Send *errands* and what *session* has recorded. moves: the session gets a new handle."""
        self._companions = companions
        self._session = session
        self._errands = errands
        self._moves = moves
        self._sent: list[_Errand | None] = []
        self._failure: SessionError | None = None
        self._handle: Handle | None = None
        self._now = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to send."""
        return not self._session.recorded and all(errand.is_done for errand in self._errands)

    def commands(self, handle: Handle, header: Header, now: int) -> list[Command]:
        """Make the commands for what is left to send, for the session *handle* with its *header*."""
        self._handle, self._now, self._sent, self._failure = handle, now, [], None
        commands = []
        for errand in self._errands:
            if not errand.is_done and (command := self._command(errand, handle, header, now)) is not None:
                commands.append(command)
                self._sent.append(errand)
        if self._session.recorded:
            left = header.absolute_deadline - now
            commands.append(self._companions.activity_command(self._session, handle, now, left))
            self._sent.append(None)
        return commands

    def take(self, replies: list[Any]) -> None:
        """Note the replies to `commands`."""
        for errand, (code, *there) in zip(self._sent, replies, strict=True):
            if code == 0 and not (errand and errand.extends):
                self._failure = SessionRevoked(f"session {self._handle} has ended; nothing was written")
            elif errand is None:
                self._session.recorded.saved()
            elif there:
                self._rebase(errand, there[0])
            else:
                self._settle(errand, errand.sent)

    def check(self) -> None:
        """Raise what has kept a compartment from being written: SessionRevoked, SessionConflict, RecordCorrupted."""
        if self._failure is not None:
            raise self._failure

    def arrived(self) -> None:
        """Take note that the session has moved: what has not crossed is no longer there."""
        if self._moves:
            for errand in self._errands:
                if not errand.is_done and errand.sent is None:
                    errand.settle(None)
            self._session.parts.drop_unopened()

    def _command(self, errand: _Errand, handle: Handle, header: Header, now: int) -> Command | None:
        name, left = errand.part.name, header.absolute_deadline - now
        if errand.extends:
            return self._companions.extend_command(handle, name, min(errand.idle, left))
        base, current = errand.base, errand.current
        attributes = apply(errand.changes, current.attributes)
        self._companions.policy.caps.check(attributes, current.attributes)
        if base is None and not attributes:
            errand.sent = None
            if not self._moves:
                errand.settle(None)
            return None
        following = Header(
            revision=base.revision + 1 if base else 1,
            created_at=base.created_at if base else now,
            absolute_deadline=header.absolute_deadline,
            seen_at=now,
            idle_timeout=errand.idle,
            persistent=False,
            digest=_NO_DIGEST,
        )
        payload = current.following(attributes, errand.write_id, now - base.seen_at if base else 0)
        errand.sent = (following, payload) if attributes else None
        return self._companions.write_command(handle, name, base, errand.sent, following.ttl(now))

    def _rebase(self, errand: _Errand, record: bytes) -> None:
        """Go on from what another request has written, or from nothing."""
        try:
            opened = self._companions.open(self._handle, record, errand.part.name) if record and self._handle else None
            errand.base, errand.current = opened or (None, Payload())
            if errand.current.has_write(errand.write_id):  # an earlier try got through, and its reply did not
                self._settle(errand, opened)
            elif self._session.strict:
                errand.part.check_conflicts(errand.current.attributes)
        except (RecordCorrupted, SessionConflict) as error:
            self._failure = error

    def _settle(self, errand: _Errand, stored: Opened | None) -> None:
        errand.settle(stored)
        if self._handle is not None and (errand.extends or stored is not None):
            self._companions.note_use(self._handle, errand.part, self._now)
