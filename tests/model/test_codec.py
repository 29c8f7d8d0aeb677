"""What a session can hold, what it refuses and with which words, and that no bytes can hurt a reader."""

import datetime as dt
import math
import pickle
import subprocess
import sys
from collections import OrderedDict, namedtuple
from contextlib import suppress
from decimal import Decimal
from enum import IntEnum, StrEnum
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from coatcheck import RecordCorrupted
from coatcheck.model.codec import DEEPEST, IMMUTABLE, decode, encode
from tests.model.values import returned, shape, values

UNREADABLE = "an attribute does not decode; was it written by a newer version?"
KINDS = "(str, int, float, bool, None, bytes, list, dict, tuple, set, datetime, Decimal, UUID)"


def nested(depth, value, make=lambda inner: [inner]):
    """Put *value* into *depth* containers."""
    for _ in range(depth):
        value = make(value)
    return value


@given(value=values)
@settings(max_examples=500)
def test_round_trip(value):
    """Every neutral value, nested in any way, comes back as its table says, of the same type and equal."""
    assert shape(decode(encode(value))) == shape(returned(value))


@given(value=values)
def test_encoding_is_stable(value):
    """What comes back encodes to the same bytes, so that reading alone is never seen as a change."""
    raw = encode(value)

    assert encode(decode(raw)) == raw


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 5e-324, Decimal("NaN"), Decimal("-0.00")])
def test_special_numbers(value):
    """Not-a-number, the infinities, signed zeros and the digits of a Decimal survive."""
    assert repr(decode(encode(value))) == repr(value)


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), 2**63, 2**32, 2**31, -1, 0, 127, 128, -32, -33])
def test_integers_of_64_bits(value):
    """An int of -2^63 to 2^64 - 1 comes back, as a value, a key and a member."""
    assert decode(encode(value)) == value
    assert decode(encode({value: [value]})) == {value: [value]}
    assert decode(encode((value, {value}))) == (value, {value})


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**100])
@pytest.mark.parametrize("place", [lambda v: v, lambda v: [v], lambda v: {v: 1}, lambda v: (v,), lambda v: {v}])
def test_larger_integers_are_refused(value, place):
    """An int beyond 64 bits is refused with what to do instead, wherever it stands."""
    with pytest.raises(ValueError, match=r"^attribute n: an int must fit 64 bits; keep a larger one as a str$"):
        encode(place(value), "n")


@pytest.mark.parametrize("text", ["\ud800", "a\udfff"])
@pytest.mark.parametrize(
    "place",
    [lambda v: v, lambda v: [v], lambda v: {v: 1}, lambda v: (v,), lambda v: {v}, lambda v: Markup(v)],  # noqa: PLW0108, S704
)
def test_lone_surrogates_are_refused(text, place):
    """A str that is no Unicode text is refused, wherever it stands."""
    with pytest.raises(ValueError, match=r"^attribute s: a str must be valid Unicode \(no lone surrogates\)$"):
        encode(place(text), "s")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (object(), "builtins.object"),
        (1j, "builtins.complex"),
        (Path("/"), f"{type(Path()).__module__}.PosixPath"),  # "pathlib", and from Python 3.13 on "pathlib._local"
        (int, "builtins.type"),
        (test_round_trip, "builtins.function"),
        (ValueError("x"), "builtins.ValueError"),
        (range(3), "builtins.range"),
    ],
)
def test_foreign_types_are_refused(value, kind):
    """Any other type is refused with its name, the attribute's, and what a session can hold."""
    expected = f"attribute a: a session cannot hold {kind}; keep its id or its fields instead {KINDS}"
    with pytest.raises(TypeError) as caught:
        encode(value, "a")

    assert str(caught.value) == expected


def test_a_refusal_says_where():
    """The refusal names the keys that lead to what cannot be held, and shows no value."""
    with pytest.raises(TypeError, match=r"^attribute cart\['lines'\]\[7\]: a session cannot hold builtins\.object;"):
        encode({"total": "secret", "lines": {7: [object()]}}, "cart")


@pytest.mark.parametrize(("key", "kind"), [(1.5, "float"), (None, "NoneType"), (True, "bool"), ((1,), "tuple")])
def test_keys_are_str_or_int(key, kind):
    """A dict's keys are str or int; another is refused, as it could not come back in every language."""
    with pytest.raises(TypeError) as caught:
        encode({key: 1}, "d")

    assert str(caught.value) == f"attribute d: the keys of a dict must be str or int, not {kind}"


@pytest.mark.parametrize(
    "make",
    [lambda v: [v], lambda v: {"k": v}, lambda v: (v,), lambda v: frozenset([v])],
    ids=["list", "dict", "tuple", "set"],
)
@pytest.mark.parametrize("inner", [1, "a", Decimal(1), UUID(int=1), dt.date(2026, 1, 2), Markup("b")])
def test_depth(make, inner):
    """Thirty-two containers may stand inside one another, whatever stands in the last; one more is refused."""
    value = nested(DEEPEST, inner, make)
    assert encode(decode(encode(value))) == encode(value)

    with pytest.raises(ValueError, match=r"^attribute a.*: containers are nested more than 32 deep$"):
        encode(make(value), "a")


def test_values_that_contain_themselves():
    """A list or dict inside itself is refused as nested too deep; it does not exhaust the stack."""
    endless: list = []
    endless.append(endless)
    turning: dict = {}
    turning["again"] = [turning]

    for value in (endless, turning, (endless,)):
        with pytest.raises(ValueError, match="containers are nested more than 32 deep"):
            encode(value, "a")


class Colour(IntEnum):
    """A subclass of int."""

    RED = 3


class Role(StrEnum):
    """A subclass of str."""

    ADMIN = "admin"


Point = namedtuple("Point", "x y")  # noqa: PYI024  as an application may have it


class Hidden(str):
    """A str that prints as something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return "hidden"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (Colour.RED, 3),
        (Role.ADMIN, "admin"),
        ({Role.ADMIN: Colour.RED, Colour.RED: 1}, {"admin": 3, 3: 1}),
        (Point(1, 2), (1, 2)),
        (Hidden("seen"), "seen"),
        ({Hidden("seen"): 1}, {"seen": 1}),
        (bytearray(b"\x00\xff"), b"\x00\xff"),
        (memoryview(b"\x00\xff"), b"\x00\xff"),
        (frozenset({1}), {1}),
        (frozenset({frozenset({1})}), {frozenset({1})}),
        ({(frozenset({1}), (frozenset(),))}, {(frozenset({1}), (frozenset(),))}),
    ],
)
def test_subclasses_come_back_as_their_base(value, expected):
    """Subclasses and twins come back as the plain type of the table."""
    assert shape(decode(encode(value))) == shape(expected)


class HashableList(list):
    """A list that can stand in a set."""

    __hash__ = object.__hash__


@pytest.mark.parametrize("place", [lambda v: {v}, lambda v: {(1, (v,))}, lambda v: {frozenset([v])}])
def test_what_could_not_come_back_in_a_set_is_refused(place):
    """A member of a set that would come back as a list is refused: it could be written, but never read."""
    with pytest.raises(TypeError, match=r"^attribute a: a member of a set cannot be a list or a dict$"):
        encode(place(HashableList([1])), "a")


def test_markup_comes_back_as_markup():
    """A string of safe HTML comes back as markupsafe.Markup, so that a template does not escape it twice."""
    value = decode(encode([Markup("<b>"), {"k": Markup("x")}]))

    assert value == ["<b>", {"k": "x"}]
    assert type(value[0]) is type(value[1]["k"]) is Markup


def test_markup_without_markupsafe():
    """Where markupsafe is not installed, safe HTML comes back as a str."""
    program = (
        "import sys; sys.modules['markupsafe'] = None\n"
        "from coatcheck.model.codec import decode\n"
        f"value = decode({encode(Markup('<b>'))!r})\n"
        "assert (value, type(value)) == ('<b>', str)"
    )

    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_aware_datetime_keeps_its_offset():
    """A datetime in a named zone comes back as the same instant with its offset from UTC."""
    value = dt.datetime(2026, 7, 1, 12, 0, 0, 5, tzinfo=ZoneInfo("Europe/Vienna"))

    back = decode(encode(value))

    assert back == value
    assert back.isoformat() == "2026-07-01T12:00:00.000005+02:00"


@pytest.mark.parametrize(
    ("value", "immutable"),
    [(1, True), ("a", True), (b"", True), (None, True), (Decimal(1), True), ([], False), ({}, False), ((), False)],
)
def test_is_immutable(value, immutable):
    """Containers may change in place, a tuple's members included; scalars cannot."""
    assert (type(value) in IMMUTABLE) is immutable


# Bytes from elsewhere


@given(raw=st.binary(max_size=80))
@settings(max_examples=2000)
def test_arbitrary_bytes(raw):
    """Whatever bytes stand in an attribute, it decodes or raises RecordCorrupted."""
    try:
        decode(raw)
    except RecordCorrupted as error:
        assert str(error)  # noqa: PT017


@given(value=values, data=st.data())
@settings(max_examples=500)
def test_damaged_encodings(value, data):
    """An encoding with one byte changed, or cut short, decodes or raises RecordCorrupted."""
    raw = bytearray(encode(value))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    except RecordCorrupted as error:
        assert str(error)  # noqa: PT017


@given(code=st.integers(1, 9), data=st.binary(max_size=40))
@example(3, b"1e9999999999999999999")
@example(3, b"1" * 5000)
@example(5, b"2026-13-01")
@example(8, b"9" * 40)
@example(8, b"9" * 5000)
@example(9, b"\xff")
@settings(max_examples=1000)
def test_arbitrary_extension_data(code, data):
    """Whatever stands in an extension of a known type, it decodes or raises RecordCorrupted."""
    try:
        decode(msgspec.msgpack.encode(msgspec.msgpack.Ext(code, data)))
    except RecordCorrupted as error:
        assert str(error)  # noqa: PT017


def deep_extension(depth):
    """Encode tuples inside tuples without end in sight."""
    raw = b"\x90"
    for _ in range(depth):
        raw = msgspec.msgpack.encode(msgspec.msgpack.Ext(1, b"\x91" + raw))
    return raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        b"\x01\x01",
        b"\xa1\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x81\x80\x01",
        b"\xc7\x02\x02\x91\x90",
        b"\x91" * 100_000 + b"\x01",
        b"\x81\xa1a" * 100_000 + b"\x01",
        deep_extension(2000),
    ],
    ids=[
        "empty",
        "reserved",
        "trailing",
        "utf8",
        "array32",
        "map32",
        "bin32",
        "map-as-key",
        "list-in-set",
        "deep-list",
        "deep-map",
        "deep-tuple",
    ],
)
def test_hostile_bytes(raw):
    """Lies about lengths, impossible keys and endless nesting raise RecordCorrupted and nothing else."""
    with pytest.raises(RecordCorrupted) as caught:
        decode(raw)

    assert str(caught.value) == UNREADABLE


@pytest.mark.parametrize("code", [0, 10, 99, 127, -2, -128])
@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: [e], lambda e: msgspec.msgpack.Ext(1, b"\x91" + pack(e))])
@pytest.mark.requirement("R37")
def test_unknown_extension(code, wrap):
    """An ext type that this version does not know fails closed, and says that a newer version wrote it."""
    with pytest.raises(RecordCorrupted) as caught:
        decode(pack(wrap(msgspec.msgpack.Ext(code, b"x"))))

    assert str(caught.value) == f"an attribute has the unknown ext type {code}: written by a newer version"


pack = msgspec.msgpack.encode


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("cc05", 5),
        ("cd0005", 5),
        ("ce00000005", 5),
        ("cf0000000000000005", 5),
        ("d005", 5),
        ("d10005", 5),
        ("d200000005", 5),
        ("d30000000000000005", 5),
        ("d0ff", -1),
        ("d1ffff", -1),
        ("d3ffffffffffffffff", -1),
        ("ca3fc00000", 1.5),
        ("d90161", "a"),
        ("da000161", "a"),
        ("db0000000161", "a"),
        ("c500010a", b"\n"),
        ("dc000105", [5]),
        ("dd0000000105", [5]),
        ("de0001a16105", {"a": 5}),
        ("df00000001a161cd0005", {"a": 5}),
        ("c8000201" + "9105", (5,)),
        ("c90000000201" + "9105", (5,)),
        ("c7030291" + "cc05", {5}),
        ("d6ff00000001", dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)),
    ],
)
def test_foreign_encoders(raw, value):
    """Encoders that do not choose the shortest form, and msgpack's own timestamp, are read."""
    assert shape(decode(bytes.fromhex(raw))) == shape(value)


@pytest.mark.requirement("R34")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_only_bytes(protocol, tmp_path):
    """A pickle that would write a file when loaded is refused as an encoding, and stays bytes as a value."""
    trace = tmp_path / "exploded"
    bomb = pickle.dumps(Bomb(str(trace)), protocol)

    with pytest.raises(RecordCorrupted):
        decode(bomb)
    for code in range(1, 10):
        with suppress(RecordCorrupted):  # as safe HTML, protocol 0 is a str
            assert isinstance(decode(pack(msgspec.msgpack.Ext(code, bomb))), str)
    assert decode(encode(bomb)) == bomb
    with pytest.raises(TypeError):
        encode(Bomb(str(trace)))

    assert not trace.exists()
    pickle.loads(bomb)  # noqa: S301  the bomb is live
    assert trace.exists()


class Bomb:
    """Loading its pickle writes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))
