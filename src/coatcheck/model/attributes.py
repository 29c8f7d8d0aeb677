"""A session's attributes: a mapping that keeps what was done to it as a delta.

A change inside a nested value (``session["cart"]["items"].append(...)``) is seen too: the encoded form of
each attribute that was read is compared at the end.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Final

from coatcheck.model.caps import Caps
from coatcheck.model.codec import IMMUTABLE, decode, encode
from coatcheck.model.delta import Default, Delete, Increment, Operation, Set, difference
from coatcheck.model.errors import SessionConflict

_NUMBERS: Final = (int, float)


class Attributes(MutableMapping[str, Any]):
    """Named values, decoded when they are first read, and what was changed since they were stored.

    stored: the attributes as they were loaded or last saved, encoded.
    accessed: whether the application has looked at them or changed them.
    """

    __slots__ = ("_baseline", "_caps", "_cleared", "_current", "_given", "_operations", "_values", "accessed", "stored")

    def __init__(self, stored: Mapping[str, bytes], caps: Caps | None = None) -> None:
        """Present *stored*. caps: what an assignment may not go beyond."""
        self.stored = stored
        self._caps = caps
        self.accessed = False
        self._current: Mapping[str, bytes] = stored  # with the changes made here, but for nested ones
        self._given = stored  # what others have too, so that it is not to be written to
        self._operations: dict[str, tuple[Operation, ...]] = {}
        self._values: dict[str, Any] = {}  # decoded
        self._baseline: dict[str, bytes] = {}  # the encoded form, when decoded, of values that can change in place
        self._cleared = False

    def __getitem__(self, name: str) -> Any:
        """Give the value of attribute *name*; KeyError if there is none."""
        self.accessed = True
        if type(name) is not str:
            name = _plain(name)
        if name in self._values:
            return self._values[name]
        raw = self._current[name]
        value = decode(raw)
        self._remember(name, value, raw)
        return value

    def __setitem__(self, name: str, value: Any) -> None:
        """Set attribute *name*. Raises TypeError or ValueError for what a session cannot hold.

        To put back the very object that was read counts as a change inside it, not as a new value.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of an attribute must be a str, not {type(name).__name__}")
        self.accessed = True
        name = _plain(name)
        if name in self._baseline and self._values[name] is value:
            encode(value, name)  # refuses here what cannot be kept; the delta compares it with what was read
            return
        unchanged = self._put(name, value) and name not in self._operations and not self._cleared
        if not unchanged:
            self._operations[name] = (Set((name,), self._current[name]),)

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Give attribute *name*, which is set to *default* first where there is none: by nobody else either, meanwhile.

        So two requests that begin the same dict, each with other keys, both win.
        """
        if name not in self:
            is_first = (name := _plain(name)) not in self._operations and not self._cleared
            self[name] = default
            if is_first:
                self._operations[name] = (Default((name,), self._current[name]),)
        return self[name]

    def __delitem__(self, name: str) -> None:
        """Remove attribute *name*; KeyError if there is none."""
        self.accessed = True
        name = _plain(name)
        if name not in self._current:
            raise KeyError(name)
        del self._own()[name]
        self._forget(name)
        self._operations[name] = (Delete((name,)),)

    def clear(self) -> None:
        """Remove every attribute, also those that other requests add meanwhile."""
        self.accessed = True
        self._current = {}
        self._forget_changes()
        self._cleared = True

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
        return _plain(name) in self._current

    def increment(self, name: str, by: float = 1) -> int | float:
        """Add *by* to the number in attribute *name* (0 if there is none); parallel increments all count.

        Returns the sum as far as this request knows. Raises TypeError if the attribute is not a number.
        """
        if type(name) is not str:
            name = _plain(name)
        self.accessed = True
        raw = self._current.get(name)
        number = 0 if raw is None else self._values[name] if name in self._values else decode(raw)
        if isinstance(number, bool) or not isinstance(number, _NUMBERS):
            raise TypeError(f"attribute {name} is a {type(number).__name__}, not a number")
        self._put(name, number + by)
        match self._operations.get(name):
            case None:
                self._operations[name] = (Increment((name,), by),)
            case (*before, Increment(path, sum_so_far)):
                self._operations[name] = (*before, Increment(path, sum_so_far + by))
            case (*before, Set(path)):
                self._operations[name] = (*before, Set(path, self._current[name]))
            case before:
                self._operations[name] = (*before, Increment((name,), by))
        return number + by

    # For the engine

    def delta(self) -> list[Operation]:
        """List what was changed since the session was loaded or saved. It encodes what was read and can change."""
        if self.is_untouched:
            return []
        operations: list[Operation] = [Delete(())] if self._cleared else []
        for changes in self._operations.values():
            operations += changes
        for name, raw in self._baseline.items():
            value = self._values[name]
            if encode(value, name) != raw:
                operations += difference((name,), decode(raw), value)
        return operations

    def as_changed(self) -> Mapping[str, bytes] | None:
        """Give the stored attributes with the delta made to them, to be kept; None where it takes an `apply`."""
        if self._baseline:
            return None
        self._given = self._current
        return self._current

    @property
    def is_untouched(self) -> bool:
        """Whether the delta is empty for certain: nothing was assigned, and no value that can change was read."""
        return not (self._operations or self._baseline or self._cleared)

    def peek(self, name: str) -> Any:
        """Read an attribute, or None, without counting it as the application's access."""
        if name not in self._current:
            return None
        accessed = self.accessed
        try:
            return self[name]
        finally:
            self.accessed = accessed

    def has_set(self, name: str) -> bool:
        """Say whether attribute *name* was given another value, or removed, since the attributes were stored."""
        return self._current.get(name) != self.stored.get(name)

    def check_conflicts(self, theirs: Mapping[str, bytes]) -> None:
        """Raise SessionConflict if *theirs* differs from what was loaded where this session has changes."""
        for operation in self.delta():
            if isinstance(operation, Increment):
                continue
            names = {str(operation.path[0])} if operation.path else {*self.stored, *theirs}
            for name in names:
                if self.stored.get(name) != theirs.get(name):
                    raise SessionConflict(f"attribute {name} was changed by another request meanwhile")

    def merge(self, attributes: Mapping[str, bytes]) -> None:
        """Make this session's attributes *attributes*, as changes that are yet to be saved."""
        for name in {*self.stored, *attributes}:
            raw = attributes.get(name)
            if raw == self.stored.get(name):
                continue
            self._forget(name)
            if raw is None:
                self._own().pop(name, None)
                self._operations[name] = (Delete((name,)),)
            else:
                self._own()[name] = raw
                self._operations[name] = (Set((name,), raw),)

    def now_stored_as(self, attributes: Mapping[str, bytes]) -> None:
        """Start over with *attributes*; objects that the caller can change stay in use where they are equal."""
        values = [(name, self._values[name]) for name in self._baseline] if self._baseline else ()
        self.stored = self._current = self._given = attributes
        self._forget_changes()
        for name, value in values:
            raw = attributes.get(name)
            if raw is not None and encode(value, name) == raw:
                self._remember(name, value, raw)

    def _forget_changes(self) -> None:
        self._operations, self._values, self._baseline, self._cleared = {}, {}, {}, False

    def _remember(self, name: str, value: Any, raw: bytes) -> None:
        self._values[name] = value
        if type(value) not in IMMUTABLE:
            self._baseline[name] = raw
        elif self._baseline:
            self._baseline.pop(name, None)

    def _put(self, name: str, value: Any) -> bool:
        """Set the local value; say whether its encoded form is what was there before."""
        raw = encode(value, name)
        if not name.isascii():
            encode(name, name)  # refuses here what is no valid Unicode
        same = self._current.get(name) == raw
        if self._caps is not None and not same:
            self._caps.check_value(name, raw)
            if name not in self._current:
                self._caps.check_count(len(self._current) + 1)
        self._own()[name] = raw
        self._remember(name, value, raw)
        return same

    def _own(self) -> dict[str, bytes]:
        """Give the current attributes to be written to, apart from those that others have."""
        if self._current is self._given or not isinstance(self._current, dict):
            self._current = dict(self._current)
        return self._current

    def _forget(self, name: str) -> None:
        self._values.pop(name, None)
        self._baseline.pop(name, None)


def _plain(name: Any) -> Any:
    """Give a *name* of a subclass of str as a plain one: some enums have a hash and a text of their own."""
    return str.__str__(name) if isinstance(name, str) and type(name) is not str else name
