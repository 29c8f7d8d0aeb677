"""What the sessions of a store should be: a simple model, in memory, without concurrency and without a server.

Time is whole minutes; the idle timeout is 30, the absolute one 120, the grace 1, the limit 3, and 1 on
phones (oldest evicted).
"""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

IDLE, ABSOLUTE, GRACE, TENTH, LIMIT = 30, 120, 1, 3, 3
DEVICES = {"phone": 1}


class Ended(Exception):
    """The session has ended."""


class Conflict(Exception):
    """The same attribute was changed."""


@dataclass
class Record:
    """A stored session."""

    attributes: dict[str, Any]
    subject: str | None
    age: int
    created: int
    used: int
    saved: int
    current: str
    revision: int
    formers: dict[str, int] = field(default_factory=dict)
    device: str | None = None


@dataclass
class Copy:
    """What a request holds: a session as it was loaded, and what was done to it."""

    client: int
    session: Any
    handle: str
    subject: str | None
    identifier: str
    current: str
    revision: int
    stored: dict[str, Any]
    view: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)
    is_cleared: bool = False
    is_rotating: bool = False
    is_strict: bool = False
    is_ended: bool = False
    device: str | None = None

    def start_over(self, attributes: dict[str, Any]) -> None:
        """Hold *attributes* as they are stored, with nothing done to them."""
        self.stored, self.view = deepcopy(attributes), deepcopy(attributes)
        self.before = {name: deepcopy(value) for name, value in attributes.items() if isinstance(value, dict)}
        self.changes, self.is_cleared, self.is_rotating = {}, False, False

    def set(self, name: str, value: Any) -> None:
        """Set an attribute."""
        self.view[name] = deepcopy(value)
        self.before[name] = deepcopy(value)
        self.changes[name] = [("set", deepcopy(value))]

    def delete(self, name: str) -> None:
        """Remove an attribute."""
        del self.view[name]
        self.before.pop(name, None)
        self.changes[name] = [("delete",)]

    def increment(self, name: str, by: int) -> None:
        """Add to a number."""
        self.view[name] = self.view.get(name, 0) + by
        self.changes.setdefault(name, []).append(("add", by))

    def clear(self) -> None:
        """Remove everything."""
        self.is_cleared = True
        self.view, self.changes, self.before = {}, {}, {}

    def all_changes(self) -> dict[str, list[tuple[Any, ...]]]:
        """List what was done, with the changes inside dicts."""
        found = {name: list(steps) for name, steps in self.changes.items()}
        for name, before in self.before.items():
            after = self.view.get(name)
            if not isinstance(before, dict) or not isinstance(after, dict):
                continue
            steps = [("delete inside", key) for key in before if key not in after]
            steps += [("set inside", key, value) for key, value in after.items() if before.get(key) != value]
            if steps:
                found.setdefault(name, []).extend(steps)
        return found

    @property
    def is_changed(self) -> bool:
        """Whether a save has something to write."""
        return self.is_cleared or bool(self.all_changes())

    def replay(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Do to *attributes* what was done to this copy."""
        result = {} if self.is_cleared else deepcopy(attributes)
        for name, steps in self.all_changes().items():
            for step in steps:
                _replay(result, name, *step)
        return result

    def conflicts(self, theirs: dict[str, Any]) -> bool:
        """Say whether what was changed here is no longer as it was loaded."""
        changed = {name for name, steps in self.all_changes().items() if any(step[0] != "add" for step in steps)}
        if self.is_cleared:
            changed |= {*self.stored, *theirs}
        return any(self.stored.get(name) != theirs.get(name) for name in changed)


def _replay(result: dict[str, Any], name: str, what: str, *details: Any) -> None:
    match what:
        case "set":
            result[name] = deepcopy(details[0])
        case "delete":
            result.pop(name, None)
        case "add":
            result[name] = result.get(name, 0) + details[0]
        case "set inside":
            result.setdefault(name, {})[details[0]] = details[1]
        case "delete inside":
            result.get(name, {}).pop(details[0], None)


class Model:
    """The store and what each of its clients remembers."""

    def __init__(self, clients: int) -> None:
        """Start empty, at minute 0."""
        self.now = 0
        self.records: dict[str, Record] = {}
        self.used: list[dict[str, int]] = [{} for _ in range(clients)]

    def live(self, handle: str) -> Record | None:
        """Give the record of *handle* unless it has ended."""
        record = self.records.get(handle)
        if record is None or self.now >= min(record.used + IDLE, record.created + ABSOLUTE):
            self.records.pop(handle, None)
            return None
        return record

    def opened_by(self, identifier: str) -> tuple[str, Record] | None:
        """Give the session that *identifier* opens; one whose grace is over ends the session."""
        for handle in list(self.records):
            record = self.live(handle)
            if record is None:
                continue
            if identifier == record.current or self.now < record.formers.get(identifier, 0):
                return handle, record
            if identifier in record.formers:
                del self.records[handle]
        return None

    def of(self, subject: str) -> list[str]:
        """List the handles of a subject's sessions."""
        return [h for h in list(self.records) if (record := self.live(h)) is not None and record.subject == subject]

    def store(self, copy: Copy, attributes: dict[str, Any], subject: str | None) -> None:
        """Enter the first record of what *copy* now holds; its session says under which names."""
        session = copy.session
        copy.handle, copy.identifier, copy.subject = str(session.handle), session.identifier, subject
        age = session.header.created_at
        self.records[copy.handle] = Record(
            deepcopy(attributes), subject, age, self.now, self.now, self.now, copy.identifier, session.header.revision
        )
        self.records[copy.handle].device = copy.device
        self.used[copy.client][copy.handle] = self.now
        self.settle(copy)

    def settle(self, copy: Copy) -> None:
        """Make *copy* hold what is stored."""
        record = self.records[copy.handle]
        copy.current, copy.revision = record.current, record.revision
        copy.start_over(record.attributes)

    def end(self, handle: str, client: int) -> None:
        """End a session."""
        self.records.pop(handle, None)
        self.used[client].pop(handle, None)

    def make_room(self, subject: str, device: str | None) -> None:
        """End the oldest sessions of a subject that is about to have one more, first those on such a device."""
        others = sorted(self.of(subject), key=lambda handle: self.records[handle].age)
        alike = [handle for handle in others if self.records[handle].device == device]
        for handle in alike[: max(0, len(alike) - (DEVICES.get(device or "", LIMIT) - 1))]:
            others.remove(handle)
            del self.records[handle]
        for handle in others[: max(0, len(others) - (LIMIT - 1))]:
            del self.records[handle]

    def touch(self, copy: Copy) -> None:
        """Extend the idle deadline where that is due."""
        record, used = self.live(copy.handle), self.used[copy.client]
        if record is not None and self.now - used.get(copy.handle, -IDLE) >= TENTH:
            record.used = used[copy.handle] = self.now

    def save(self, copy: Copy) -> None:
        """Carry out what was done to *copy*, before its session does; `saved` takes note of the new identifier."""
        if copy.is_ended:
            self.end(copy.handle, copy.client)
            return
        if not copy.is_changed and not copy.is_rotating:
            self.touch(copy)
            return
        record = self.live(copy.handle)
        if record is None:
            raise Ended
        if record.current != copy.current and not copy.is_changed:
            self.used[copy.client][copy.handle] = record.saved
            self.settle(copy)
            return
        if copy.is_strict and record.revision != copy.revision and copy.conflicts(record.attributes):
            raise Conflict
        record.attributes = copy.replay(record.attributes)
        if not record.attributes and record.subject is None:
            copy.is_ended = True
            self.end(copy.handle, copy.client)
            return
        record.used = record.saved = self.used[copy.client][copy.handle] = self.now
        if copy.is_rotating and copy.identifier == copy.current == record.current:
            record.formers[record.current] = self.now + GRACE
            record.current = copy.identifier = "new"
        record.revision += 1
        self.settle(copy)

    def saved(self, copy: Copy) -> None:
        """Take note of the identifier that a rotation has given."""
        record = self.records.get(copy.handle)
        if record is not None and record.current == "new":
            record.current = copy.current = copy.identifier = copy.session.identifier

    def take(self, copy: Copy, *, keep: bool = True) -> dict[str, Any]:
        """End the session of *copy*; give what was done to the copy, and with *keep* what it held."""
        record = self.live(copy.handle)
        if record is None:
            raise Ended
        self.end(copy.handle, copy.client)
        return copy.replay(record.attributes if keep else {})

    def bind(self, copy: Copy, subject: str) -> dict[str, Any]:
        """End what a sign-in on *copy* ends; give what the new session holds."""
        if copy.subject is not None:
            attributes = self.take(copy, keep=copy.subject == subject)
        else:
            record = self.live(copy.handle)
            attributes = copy.replay(copy.stored if record is None else record.attributes)
            self.end(copy.handle, copy.client)
        self.make_room(subject, copy.device)
        return attributes
