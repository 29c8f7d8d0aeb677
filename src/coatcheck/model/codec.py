"""Attribute values as bytes: msgpack, with ext types for what msgpack does not know.

What a session can hold, and how it comes back in every framework:

| Python value                            | on the wire                | comes back as |
| --------------------------------------- | -------------------------- | ------------- |
| None, bool, int (64 bits), float, str   | msgpack                    | the same |
| bytes, bytearray, memoryview            | bin                        | bytes |
| list; dict with keys of str or int      | array, map                 | the same |
| tuple                                   | ext 1: array               | tuple |
| set, frozenset                          | ext 2: array, sorted       | set; inside a set, frozenset |
| Decimal                                 | ext 3: its digits          | Decimal |
| UUID                                    | ext 4: 16 bytes            | UUID |
| datetime                                | ext 5: ISO 8601            | datetime, naive or with its offset from UTC |
| date, time                              | ext 6, ext 7: ISO 8601     | the same |
| timedelta                               | ext 8: microseconds        | timedelta |
| a string of safe HTML (``__html__``)    | ext 9: the markup          | markupsafe.Markup if installed, else str |

Subclasses come back as their base (an OrderedDict as a dict, an IntEnum as an int). Anything else is
refused with a TypeError where it is assigned. There is no pickle, and no way to name a Python type.
"""

import datetime as dt
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final
from uuid import UUID  # noqa: TID251  a type of value here; identifiers come from `secrets`

import msgspec
from msgspec.msgpack import Ext

from coatcheck.model.errors import RecordCorrupted

DEEPEST: Final = 32
"""How many containers may stand inside one another."""

_PLAIN: Final = frozenset({str, int, float, bool, type(None), bytes})
IMMUTABLE: Final = _PLAIN | {Decimal, UUID, dt.datetime, dt.date, dt.time, dt.timedelta}
"""The types of values that cannot change in place, so that they need not be compared later."""

_CONTAINERS: Final = (dict, list, tuple, set, frozenset)
_MICROSECOND: Final = dt.timedelta(microseconds=1)

_encoder: Final = msgspec.msgpack.Encoder()


def encode(value: Any, name: str = "?") -> bytes:
    """Encode the value of the attribute *name*.

    Raises TypeError for a type that a session cannot hold, ValueError for a value out of bounds; both
    say which attribute, where in it, and what to do.
    """
    try:
        return _encoder.encode(value if type(value) in _PLAIN else _neutral(value, name, DEEPEST))
    except OverflowError:
        raise ValueError(f"attribute {name}: an int must fit 64 bits; keep a larger one as a str") from None
    except UnicodeEncodeError:
        raise ValueError(f"attribute {name}: a str must be valid Unicode (no lone surrogates)") from None


def decode(raw: bytes | memoryview | msgspec.Raw) -> Any:
    """Decode what `encode` made. Raises RecordCorrupted."""
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, ValueError, ArithmeticError, TypeError, RecursionError):
        raise RecordCorrupted("an attribute does not decode; was it written by a newer version?") from None


def _neutral(value: Any, where: str, depth: int) -> Any:
    """Give *value* with every part that msgpack does not know put into an ext type."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if not depth and isinstance(value, _CONTAINERS):
        raise ValueError(f"attribute {where}: containers are nested more than {DEEPEST} deep")
    if isinstance(value, dict):
        return {
            key if type(key) is str else _key(key, where): (
                item if type(item) in _PLAIN else _neutral(item, f"{where}[{key!r}]", depth - 1)
            )
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [item if type(item) in _PLAIN else _neutral(item, where, depth - 1) for item in value]
    if isinstance(value, tuple):
        return _array(1, [_neutral(item, where, depth - 1) for item in value])
    if isinstance(value, set | frozenset):
        parts = sorted(_encoder.encode(_neutral(item, where, depth - 1)) for item in value)
        _check_members(value, where)
        return _array(2, [msgspec.Raw(part) for part in parts])
    return _neutral_scalar(value, where)


def _neutral_scalar(value: Any, where: str) -> Any:
    if isinstance(value, str):
        return Ext(9, str(value).encode()) if hasattr(value, "__html__") else str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    for code, kind, text in _SCALARS:
        if isinstance(value, kind):
            return Ext(code, text(value))
    raise TypeError(
        f"attribute {where}: a session cannot hold {type(value).__module__}.{type(value).__qualname__}; keep its "
        "id or its fields instead (str, int, float, bool, None, bytes, list, dict, tuple, set, datetime, Decimal, UUID)"
    )


def _key(key: Any, where: str) -> str | int:
    if type(key) in (str, int):
        return key  # type: ignore[no-any-return]  # the line above says so
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, int) and not isinstance(key, bool):
        return int(key)
    raise TypeError(f"attribute {where}: the keys of a dict must be str or int, not {type(key).__qualname__}")


def _check_members(members: Iterable[Any], where: str) -> None:
    """Refuse what stands in a set and would come back as something that cannot."""
    for member in members:
        if isinstance(member, dict | list):
            raise TypeError(f"attribute {where}: a member of a set cannot be a list or a dict")
        if isinstance(member, tuple):
            _check_members(member, where)


def _array(code: int, items: list[Any]) -> Ext:
    return Ext(code, _encoder.encode(items))


_SCALARS: Final[tuple[tuple[int, type, Callable[[Any], bytes]], ...]] = (
    (3, Decimal, lambda value: str(value).encode()),
    (4, UUID, lambda value: value.bytes),
    (5, dt.datetime, lambda value: value.isoformat().encode()),  # before date: a datetime is one
    (6, dt.date, lambda value: value.isoformat().encode()),
    (7, dt.time, lambda value: value.isoformat().encode()),
    (8, dt.timedelta, lambda value: str(value // _MICROSECOND).encode()),
)


def _member(value: Any) -> Any:
    """Give a decoded value as it can stand in a set."""
    if isinstance(value, set):
        return frozenset(value)
    return tuple(map(_member, value)) if isinstance(value, tuple) else value


def _markup(data: memoryview) -> str:
    text = str(data, "utf-8")
    try:
        from markupsafe import Markup  # noqa: PLC0415  it comes with Flask; others may not have it
    except ImportError:
        return text
    return Markup(text)  # noqa: S704  it was safe when it was stored, and the record is authenticated


_FROM_EXT: Final[dict[int, Callable[[memoryview], Any]]] = {
    1: lambda data: tuple(_decoder.decode(data)),
    2: lambda data: set(map(_member, _decoder.decode(data))),
    3: lambda data: Decimal(str(data, "ascii")),
    4: lambda data: UUID(bytes=bytes(data)),
    5: lambda data: dt.datetime.fromisoformat(str(data, "ascii")),
    6: lambda data: dt.date.fromisoformat(str(data, "ascii")),
    7: lambda data: dt.time.fromisoformat(str(data, "ascii")),
    8: lambda data: int(str(data, "ascii")) * _MICROSECOND,
    9: _markup,
}


def _from_ext(code: int, data: memoryview) -> Any:
    restore = _FROM_EXT.get(code)
    if restore is None:
        raise RecordCorrupted(f"an attribute has the unknown ext type {code}: written by a newer version")
    return restore(data)


_decoder: Final[msgspec.msgpack.Decoder[Any]] = msgspec.msgpack.Decoder(ext_hook=_from_ext)
