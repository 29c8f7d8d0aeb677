"""What a request changed, as a list of operations that can be replayed on another state.

An operation has a path: the name of an attribute and, for a change inside a dict, the keys that lead
to it. Two requests that change different paths both win; increments add up; on the same path the last
writer wins. Changes inside lists, sets and tuples are changes of the whole list, set or tuple.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from msgspec import Struct

from coatcheck.model.codec import decode, encode
from coatcheck.model.errors import SessionConflict

Path = tuple[str | int, ...]


class _Operation(Struct, frozen=True, gc=False):  # no cycle leads through one
    def __repr__(self) -> str:
        """Show what may be logged: nothing that was said in the session."""
        return f"{type(self).__name__}()"


class Set(_Operation, frozen=True, gc=False):
    """Put *value* (encoded) at *path*; dicts that are missing on the way are made."""

    path: Path
    value: bytes


class Default(_Operation, frozen=True, gc=False):
    """Put *value* (encoded) at the attribute *path* unless there is one: two requests that begin a dict share it."""

    path: Path
    value: bytes


class Delete(_Operation, frozen=True, gc=False):
    """Remove what is at *path*, if anything; the empty path removes every attribute."""

    path: Path


class Increment(_Operation, frozen=True, gc=False):
    """Add *by* to the number of the attribute *path*, from 0 if there is none."""

    path: Path
    by: int | float


Operation = Set | Default | Delete | Increment


def apply(operations: Iterable[Operation], attributes: Mapping[str, bytes]) -> dict[str, bytes]:
    """Replay *operations* in order on encoded *attributes*; give the result, leave the argument alone.

    Raises SessionConflict when an increment meets what is no longer a number.
    """
    result = dict(attributes)
    for operation in operations:
        if not operation.path:
            result.clear()
            continue
        name = str(operation.path[0])
        if isinstance(operation, Increment):
            result[name] = encode(add(decode(result[name]) if name in result else 0, operation.by, name), name)
        elif isinstance(operation, Default):
            result.setdefault(name, operation.value)
        elif len(operation.path) > 1:
            if (changed := _within(result.get(name), operation)) is not None:
                result[name] = changed
        elif isinstance(operation, Set):
            result[name] = operation.value
        else:
            result.pop(name, None)
    return result


def concerns(operations: Iterable[Operation], names: Collection[str]) -> bool:
    """Say whether any of *operations* changes an attribute of these *names*."""
    return any(not operation.path or operation.path[0] in names for operation in operations)


def difference(path: Path, before: Any, after: Any) -> list[Operation]:
    """List what turns *before* into *after*, key by key where both are dicts."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if encode(before) == encode(after) else [Set(path, encode(after, str(path[0])))]
    operations: list[Operation] = [Delete((*path, key)) for key in before if key not in after]
    for key, value in after.items():
        if key in before:
            operations += difference((*path, key), before[key], value)
        else:
            operations.append(Set((*path, key), encode(value, str(path[0]))))
    return operations


def without_counts(operations: Iterable[Operation], counted: Iterable[Operation]) -> list[Operation]:
    """Give *operations* less the increments among *counted*. To carry out the others twice does no harm."""
    sums = _sums(counted)
    return [
        Increment(change.path, change.by - sums.get(change.path, 0)) if isinstance(change, Increment) else change
        for change in operations
    ]


def _sums(operations: Iterable[Operation]) -> dict[Path, int | float]:
    """Sum up the increments of what was there before: those that no other change of the attribute precedes."""
    changed: set[str | int] = set()
    sums: dict[Path, int | float] = {}
    for change in operations:
        if not change.path:
            return {}
        if isinstance(change, Increment) and change.path[0] not in changed:
            sums[change.path] = change.by
        changed.add(change.path[0])
    return sums


def add(number: Any, by: float, name: str) -> int | float:
    """Add *by* to the *number* of the attribute *name*. Raises SessionConflict if it is none."""
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise SessionConflict(f"attribute {name} is not a number and cannot be incremented")
    return number + by


def _within(raw: bytes | None, operation: Set | Delete) -> bytes | None:
    """Carry *operation* out inside one encoded attribute; None where there is nothing to change."""
    if raw is None and isinstance(operation, Delete):
        return None
    root = {} if raw is None else decode(raw)
    if not isinstance(root, dict):
        if isinstance(operation, Delete):
            return None
        root = {}
    *way, last = operation.path[1:]
    inner = root
    for key in way:
        below = inner.get(key)
        if not isinstance(below, dict):
            if isinstance(operation, Delete):
                return None
            below = inner[key] = {}
        inner = below
    if isinstance(operation, Set):
        inner[last] = decode(operation.value)
    else:
        inner.pop(last, None)
    return encode(root, str(operation.path[0]))
