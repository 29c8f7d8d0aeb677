"""The session, as the code of a request sees it: a mapping that never does I/O.

What was done to it is kept as a delta; `save` carries it to the store. A change inside a nested value
(``session["cart"]["items"].append(...)``) is seen too: the encoded form of each attribute that was
read is compared at the end.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from coatcheck.model.codec import decode, encode, is_immutable
from coatcheck.model.delta import Delete, Increment, Operation, Set, difference
from coatcheck.model.errors import SessionConflict
from coatcheck.model.policy import SessionPolicy, check_timeouts, milliseconds
from coatcheck.model.record import Header, Payload
from coatcheck.model.ticket import Handle, Ticket


class Status(Enum):
    """What has become of a session in this process."""

    NEW = "new"
    """Nothing of it is stored."""
    CLEAN = "clean"
    """As it is in the store."""
    CHANGED = "changed"
    """`save` will write it."""
    ROTATED = "rotated"
    """Its identifier has changed and its owner does not have the new one yet."""
    REVOKED = "revoked"
    """It has ended, or `save` will end it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """A line of "where am I logged in?". All instants are aware and in UTC.

    last_seen is exact to a tenth of the idle timeout; within an idle timeout of the absolute deadline it is
    the latest moment that can be proved, and may lie earlier than the truth.
    metadata holds the attributes that the policy lists.
    """

    handle: Handle
    created_at: datetime
    last_seen: datetime
    idle_deadline: datetime
    absolute_deadline: datetime
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Session(MutableMapping[str, Any]):
    """The attributes of a session, and what is known of it.

    strict: set it to True to have a save raise SessionConflict, and write nothing, where another request
    changed one of the same attributes meanwhile; by default the last writer wins. Increments never conflict.
    """

    __slots__ = (
        "_baseline",
        "_cleared",
        "_current",
        "_operations",
        "_rotation_wanted",
        "_seen_at",
        "_settings",
        "_values",
        "accessed",
        "cookie_due",
        "ended",
        "header",
        "stored",
        "strict",
        "subject",
        "ticket",
        "writes",
    )

    def __init__(
        self,
        policy: SessionPolicy,
        *,
        ticket: Ticket | Handle | None = None,
        header: Header | None = None,
        payload: Payload | None = None,
        seen_at: int = 0,
    ) -> None:
        """Make a new session under *policy*, or present a stored one. For the engine; apps get theirs from it."""
        self.stored: Mapping[str, bytes]
        self._current: Mapping[str, bytes]  # stored, and this request's changes but for nested ones
        self._operations: dict[str, list[Operation]]
        self._values: dict[str, Any]  # decoded
        self._baseline: dict[str, bytes]  # encoded form, when they were decoded, of those that can change in place
        self.ticket = ticket
        self.header = header
        self.subject = payload.subject if payload else None
        self.writes = payload.writes if payload else b""
        self.accessed = False
        self.strict = False
        self.ended = False
        self.cookie_due = False
        self._settings = _settings(header or policy)
        self._start_over(payload.attributes if payload else {}, seen_at)

    # What is known of it

    @property
    def handle(self) -> Handle | None:
        """Its public name; None while nothing is stored."""
        return self.ticket.handle if isinstance(self.ticket, Ticket) else self.ticket

    @property
    def identifier(self) -> str | None:
        """The cookie's value, for its owner only; None while nothing is stored or its secret is not known here."""
        return self.ticket.identifier if isinstance(self.ticket, Ticket) else None

    @property
    def status(self) -> Status:
        """What has become of it in this process."""
        if self.ended:
            return Status.REVOKED
        if self.header is None:
            return Status.NEW
        if self.is_changed:
            return Status.CHANGED
        return Status.ROTATED if self.cookie_due else Status.CLEAN

    @property
    def is_new(self) -> bool:
        """Whether nothing of it is stored."""
        return self.header is None

    @property
    def is_changed(self) -> bool:
        """Whether a save has something to write."""
        return self._rotation_wanted or self.settings_changed or bool(self.delta())

    @property
    def is_superseded(self) -> bool:
        """Whether it was loaded with the secret from before the last rotation, which its grace still honours."""
        return self.header is not None and isinstance(self.ticket, Ticket) and self.ticket.digest != self.header.digest

    @property
    def created_at(self) -> datetime | None:
        """When it was created, or bound to its subject (aware, UTC); None while it is new."""
        return instant(self.header.created_at) if self.header else None

    @property
    def absolute_deadline(self) -> datetime | None:
        """When it ends whatever happens (aware, UTC); None while it is new."""
        return instant(self.header.absolute_deadline) if self.header else None

    @property
    def idle_deadline(self) -> datetime | None:
        """When it ends if it is not used (aware, UTC), exact to a tenth of the idle timeout; None while it is new."""
        if self.header is None:
            return None
        return instant(min(self._seen_at + self.header.idle_timeout, self.header.absolute_deadline))

    @property
    def idle_timeout(self) -> timedelta:
        """How long it lives unused."""
        return timedelta(milliseconds=self._settings[0])

    @property
    def absolute_timeout(self) -> timedelta:
        """How long it lives from its creation on."""
        return timedelta(milliseconds=self._settings[1])

    @property
    def persistent(self) -> bool:
        """Whether the browser keeps the cookie when it closes."""
        return self._settings[2]

    # What can be asked of it; `save` carries it out

    def set_timeouts(
        self,
        *,
        idle: timedelta | None = None,
        absolute: timedelta | None = None,
        persistent: bool | None = None,
    ) -> None:
        """Give this session timeouts of its own ("remember me"), both counted as the policy's are.

        persistent=False makes the browser forget the cookie when it closes. What is not given stays.
        Raises ConfigurationError unless idle <= absolute.
        """
        idle = self.idle_timeout if idle is None else idle
        absolute = self.absolute_timeout if absolute is None else absolute
        check_timeouts(idle, absolute)
        keep = self.persistent if persistent is None else persistent
        self.accessed = True
        self._settings = (milliseconds(idle), milliseconds(absolute), keep)

    def rotate(self) -> None:
        """Ask for a new secret: the identifier changes, the handle and the attributes stay."""
        self.accessed = True
        self._rotation_wanted = self.header is not None

    def revoke(self) -> None:
        """Ask for the end of the session: the save deletes it, and the response its cookie."""
        self.accessed = True
        self.ended = True

    def increment(self, name: str, by: float = 1) -> int | float:
        """Add *by* to the number in attribute *name* (0 if there is none); parallel increments all count.

        Returns the sum as far as this request knows. Raises TypeError if the attribute is not a number.
        """
        number = self.get(name, 0)
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise TypeError(f"attribute {name} is a {type(number).__name__}, not a number")
        self._put(name, number + by)
        operations = self._operations.setdefault(name, [])
        match operations:
            case [*_, Increment(path, before)]:
                operations[-1] = Increment(path, before + by)
            case [*_, Set(path)]:
                operations[-1] = Set(path, self._current[name])
            case _:
                operations.append(Increment((name,), by))
        return number + by

    # The mapping

    def __getitem__(self, name: str) -> Any:
        """Give the value of attribute *name*; KeyError if there is none."""
        self.accessed = True
        if name in self._values:
            return self._values[name]
        raw = self._current[name]
        value = self._values[name] = decode(raw)
        if not is_immutable(value):
            self._baseline[name] = raw
        return value

    def __setitem__(self, name: str, value: Any) -> None:
        """Set attribute *name*. Raises TypeError or ValueError for what a session cannot hold."""
        if not isinstance(name, str):
            raise TypeError(f"the name of an attribute must be a str, not {type(name).__name__}")
        self.accessed = True
        unchanged = self._put(name, value) and name not in self._operations and not self._cleared
        if not unchanged:
            self._operations[name] = [Set((name,), self._current[name])]

    def __delitem__(self, name: str) -> None:
        """Remove attribute *name*; KeyError if there is none."""
        self.accessed = True
        if name not in self._current:
            raise KeyError(name)
        del self._own()[name]
        self._forget(name)
        self._operations[name] = [Delete((name,))]

    def clear(self) -> None:
        """Remove every attribute, also those that other requests add meanwhile."""
        self.accessed = True
        self._current = {}
        self._forget_changes()
        self._cleared = bool(self.stored)

    def __iter__(self) -> Iterator[str]:
        """Go through the names of the attributes."""
        self.accessed = True
        return iter(list(self._current))

    def __len__(self) -> int:
        """Count the attributes."""
        self.accessed = True
        return len(self._current)

    def __contains__(self, name: object) -> bool:
        """Say whether there is an attribute *name*."""
        self.accessed = True
        return name in self._current

    def __repr__(self) -> str:
        """Show the handle and the status: neither the secret nor the attributes."""
        return f"<Session {self.handle or 'new'} {self.status.value}>"

    # For the engine

    @property
    def settings_changed(self) -> bool:
        """Whether `set_timeouts` has changed what is stored."""
        return self.header is not None and self._settings != _settings(self.header)

    @property
    def rotation_wanted(self) -> bool:
        """Whether a save must give it a new secret."""
        return self._rotation_wanted

    @property
    def is_empty(self) -> bool:
        """Whether it holds nothing: such a session is not worth a record."""
        return not self._current and self.subject is None

    def peek(self, name: str) -> Any:
        """Read an attribute, or None, without counting it as the application's access."""
        accessed = self.accessed
        try:
            return self.get(name)
        finally:
            self.accessed = accessed

    def delta(self) -> list[Operation]:
        """List what was changed since the session was loaded or saved."""
        operations: list[Operation] = [Delete(())] if self._cleared else []
        for changes in self._operations.values():
            operations += changes
        for name, raw in self._baseline.items():
            value = self._values[name]
            if encode(value, name) != raw:
                operations += difference((name,), decode(raw), value)
        return operations

    def new_header(self, now: int, digest: bytes) -> Header:
        """Make the header of a first record, created *now*."""
        idle, absolute, persistent = self._settings
        return Header(
            revision=1,
            created_at=now,
            absolute_deadline=now + absolute,
            seen_at=now,
            idle_timeout=idle,
            persistent=persistent,
            digest=digest,
        )

    def next_header(self, base: Header, now: int) -> Header:
        """Make the header that follows *base*, with this session's own timeouts if it changed them."""
        header = replace(base, revision=base.revision + 1, seen_at=now)
        if base.former_until <= now:
            header = replace(header, former_digest=None, former_until=0)
        if not self.settings_changed:
            return header
        idle, absolute, persistent = self._settings
        return replace(header, idle_timeout=idle, absolute_deadline=base.created_at + absolute, persistent=persistent)

    def check_conflicts(self, theirs: Mapping[str, bytes]) -> None:
        """Raise SessionConflict if *theirs* differs from what was loaded where this session has changes."""
        for operation in self.delta():
            if isinstance(operation, Increment):
                continue
            names = {str(operation.path[0])} if operation.path else {*self.stored, *theirs}
            for name in names:
                if self.stored.get(name) != theirs.get(name):
                    raise SessionConflict(f"attribute {name} was changed by another request meanwhile")

    def now_stored(self, ticket: Ticket | Handle | None, header: Header, payload: Payload) -> None:
        """Take note of what the store holds now."""
        former = self.header
        if former is None or ticket != self.ticket or header.persistent != former.persistent:
            self.cookie_due = True
        if former is not None and header.absolute_deadline != former.absolute_deadline:
            self.cookie_due = True
        self.ticket, self.header, self.subject, self.writes = ticket, header, payload.subject, payload.writes
        self._settings = _settings(header)
        self._keep_values(payload.attributes, header.seen_at)

    def now_new(self, policy: SessionPolicy, attributes: Mapping[str, bytes]) -> None:
        """Take note that the stored session has ended, and that this one goes on with *attributes* as a new one.

        Timeouts go back to the policy's, unless this request has set them.
        """
        if not self.settings_changed:
            self._settings = _settings(policy)
        self.ticket = self.header = self.subject = None
        self.writes = b""
        self._keep_values(attributes, 0)

    def merge(self, attributes: Mapping[str, bytes]) -> None:
        """Make this session's attributes *attributes*, as changes that are yet to be saved."""
        for name in {*self.stored, *attributes}:
            raw = attributes.get(name)
            if raw == self.stored.get(name):
                continue
            self._forget(name)
            if raw is None:
                self._own().pop(name, None)
                self._operations[name] = [Delete((name,))]
            else:
                self._own()[name] = raw
                self._operations[name] = [Set((name,), raw)]

    def seen(self, now: int) -> None:
        """Take note that the store has extended the idle deadline."""
        self._seen_at = now

    def _start_over(self, attributes: Mapping[str, bytes], seen_at: int) -> None:
        self.stored = attributes
        self._current = attributes
        self._forget_changes()
        self._rotation_wanted = False
        self._seen_at = seen_at

    def _forget_changes(self) -> None:
        self._operations, self._values, self._baseline, self._cleared = {}, {}, {}, False

    def _keep_values(self, attributes: Mapping[str, bytes], seen_at: int) -> None:
        """Start over with *attributes*; objects that the caller holds stay the session's own where they are equal."""
        values = self._values
        self._start_over(attributes, seen_at)
        for name, value in values.items():
            raw = attributes.get(name)
            if raw is not None and encode(value, name) == raw:
                self._values[name] = value
                if not is_immutable(value):
                    self._baseline[name] = raw

    def _put(self, name: str, value: Any) -> bool:
        """Set the local value; say whether its encoded form is what was there before."""
        raw = encode(value, name)
        same = self._current.get(name) == raw
        self._own()[name] = raw
        self._forget(name)
        self._values[name] = value
        if not is_immutable(value):
            self._baseline[name] = raw
        return same

    def _own(self) -> dict[str, bytes]:
        if self._current is self.stored or not isinstance(self._current, dict):
            self._current = dict(self._current)
        return self._current

    def _forget(self, name: str) -> None:
        self._values.pop(name, None)
        self._baseline.pop(name, None)


def instant(milliseconds_since_epoch: int) -> datetime:
    """Give ms since the epoch as an aware datetime in UTC."""
    return datetime.fromtimestamp(milliseconds_since_epoch / 1000, UTC)


def _settings(source: Header | SessionPolicy) -> tuple[int, int, bool]:
    """Give idle timeout (ms), absolute timeout (ms) and persistence, as *source* has them."""
    if isinstance(source, Header):
        return source.idle_timeout, source.absolute_deadline - source.created_at, source.persistent
    return milliseconds(source.idle_timeout), milliseconds(source.absolute_timeout), source.persistent
