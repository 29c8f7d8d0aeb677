"""Fuzz targets: the sealed part of the store, whose readers are reached only by who has the key, and the codec."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coatcheck.model.activity import Activities
from coatcheck.model.attributes import Attributes
from coatcheck.model.codec import decode, encode
from coatcheck.model.compartment import Compartments
from coatcheck.model.errors import RecordCorrupted
from coatcheck.model.keyring import Key, Keyring, binding
from coatcheck.model.policy import SessionPolicy
from coatcheck.model.record import LARGEST_PAYLOAD, Header, Payload, Records, fingerprint
from coatcheck.model.session import Session, Status
from coatcheck.model.ticket import Handle, Ticket

PREFIX = "cc"
KEY = Key(bytes(range(32)))
HANDLE = Handle(0xA7, b"handle 12345")
POLICY = SessionPolicy(compartments={"cart": timedelta(minutes=5)})
NOW = 1_767_225_600_123
RECORDS = Records(Keyring([KEY]), PREFIX)
ACTIVITIES = Activities(Keyring([KEY]), PREFIX)

NONCE = b"nonce 123456"
_COMPRESSED = 1  # the flag of a record
_FORMS = 3
_AT = datetime(2026, 1, 1, tzinfo=UTC)


def first_header() -> Header:
    """Make the header of a session that has just begun."""
    return Session(POLICY).new_header(NOW, Ticket(HANDLE, bytes(24)).digest)


def seal_body(body: bytes, compartment: str = "", *, compressed: bool = False) -> bytes:
    """Seal *body* as it is, as whoever holds the key could, whether or not it is a payload."""
    head = bytearray(fingerprint(RECORDS.seal(HANDLE, first_header(), Payload(), compartment))[: -len(NONCE)])
    head[1] = head[1] & ~_COMPRESSED | (_COMPRESSED if compressed else 0)
    name = binding(PREFIX, HANDLE, compartment)
    cipher = AESGCM(KEY.record_key(PREFIX, HANDLE, compartment))
    return bytes(head) + NONCE + cipher.encrypt(NONCE, body, bytes(head) + name)


def check_value(raw: bytes) -> None:
    """An encoded value decodes or raises RecordCorrupted; what decodes and is encoded again stays the same.

    It need not be one that a session can hold: other writers may nest deeper, or name what is in a map by a float.
    """
    try:
        value = decode(raw)
        again = encode(value)
    except (RecordCorrupted, TypeError, ValueError):
        return
    assert encode(decode(again)) == again, "what was encoded comes back as something else"
    attributes = Attributes({"a": raw})
    attributes["a"]
    assert attributes.delta() == [], "to read an attribute is to change it"


def check_record(data: bytes) -> None:
    """Whatever stands under a record's key, or a compartment's, is refused with RecordCorrupted."""
    for compartment in ("", "cart"):
        RECORDS.has_key_of(data)
        for read in (RECORDS.open, RECORDS.reseal):
            try:
                read(HANDLE, data, compartment)
            except RecordCorrupted:
                continue
            raise AssertionError("a record was forged")
    with suppress(RecordCorrupted):
        fingerprint(data)


def check_payload(data: bytes) -> None:
    """Whatever was sealed with the key opens to a payload that can be used and sealed again, or raises RecordCorrupted.

    The first byte chooses: as it is; compressed; as what claims to be compressed; the same three in a compartment.
    """
    choice, body = data[:1], data[1:]
    form = (choice[0] if choice else 0) % (2 * _FORMS)
    compartment = "cart" if form >= _FORMS else ""
    body = zstandard.ZstdCompressor(level=1).compress(body) if form % _FORMS == 1 else body
    record = seal_body(body, compartment, compressed=form % _FORMS != 0)
    try:
        header, payload = RECORDS.open(HANDLE, record, compartment)
    except RecordCorrupted:
        return
    size = sum(map(len, payload.attributes.values()))
    assert size <= LARGEST_PAYLOAD, "more was unpacked than is ever written"
    again = RECORDS.open(HANDLE, RECORDS.seal(HANDLE, header, payload, compartment), compartment)
    assert shown(*again) == shown(header, payload), "a payload that is sealed again is another one"
    _use(header, payload, {"cart": record} if compartment else {})


def shown(header: Header, payload: Payload) -> bytes:
    """Show every field, also those that repr hides; encoded, for NaN to equal itself."""
    return msgspec.msgpack.encode([getattr(part, name) for part in (header, payload) for name in type(part).__slots__])


def _use(header: Header, payload: Payload, parts: Mapping[str, bytes]) -> None:
    opener = lambda name, raw: RECORDS.open(HANDLE, raw, name)  # noqa: E731  as the engine hands it over
    ticket = Ticket(HANDLE, bytes(24))
    session = Session(POLICY, ticket=ticket, header=header, payload=payload, parts=Compartments(POLICY, parts, opener))
    payload.honoured_until(ticket.digest)
    assert not any(payload.has_write(digest) for digest in (b"", b"12"))
    assert payload.following({}, b"1234", 0).has_write(b"1234")
    payload.rotated(ticket.digest, NOW, NOW).honoured_until(ticket.digest)
    assert session.status is Status.CLEAN
    for mapping in (session, session.compartment("cart")):
        for name in mapping:
            with suppress(RecordCorrupted):
                mapping[name]
    repr(session), session.subject, session.is_empty


def check_activity(data: bytes) -> None:
    """An entry of the activity that was not sealed raises RecordCorrupted; one that was gives a name and fields."""
    with suppress(RecordCorrupted):
        ACTIVITIES.open(HANDLE, _AT, data)
        raise AssertionError("an entry was forged")
    with suppress(RecordCorrupted):
        entry = ACTIVITIES.open(HANDLE, _AT, ACTIVITIES.seal(HANDLE, data))
        assert isinstance(entry.name, str)
        assert isinstance(entry.fields, dict)
        assert all(isinstance(name, str) for name in entry.fields)


def value_seeds() -> Iterator[bytes]:
    """Encode one value of each type, some inside one another."""
    samples = [None, True, -1, 2**64 - 1, 1.5, float("nan"), "ä", b"\xff", [1, "a"], {"a": {1: [2]}}, {"": None}]
    samples += [(1, (2,)), {1, "a", (1,)}, {frozenset({1})}, datetime(2026, 1, 2, tzinfo=UTC)]
    yield from map(encode, samples)
    texts = (b"1.10", b"sNaN", b"1E+999999", b"2026-01-02T03:04:05+23:59", b"2026-01-02", b"03:04", b"-12345", b"<b>")
    for code in range(1, 11):
        for text in (*texts, bytes(16), encode([1, 2])):
            yield bytes((0xC7, len(text), code)) + text
    yield b"\xd6\xff" + bytes(4)  # msgpack's own timestamp
    yield b"\x91" * 40 + b"\x01"
    yield b"\x81\xc0\x01"  # a map whose key is null


def payload_bodies() -> list[bytes]:
    """Give bodies of real payloads, and of others."""
    full = Payload("ada", {"a": encode([1])}, signed_in_at=NOW, assurance=2).rotated(bytes(32), NOW, NOW)
    bodies = [
        b"\x92\x80\x80",
        b"\x92\x81\xa3sub\xa3ada\x81\xa1a\x01",
        b"\x92\x81\xa1z\xcb\x7f\xf8" + bytes(6) + b"\x80",
    ]
    for payload in (full, full.following({"n": encode("x" * 300)}, b"1234", 0)):
        record = RECORDS.seal(HANDLE, first_header(), payload)
        head = fingerprint(record)
        name = binding(PREFIX, HANDLE)
        cipher = AESGCM(KEY.record_key(PREFIX, HANDLE))
        bodies.append(cipher.decrypt(head[-12:], record[len(head) :], head[:-12] + name))
    return bodies


def payload_seeds() -> Iterator[bytes]:
    """Give bodies of payloads under each form."""
    for body in payload_bodies():
        yield from (bytes((form,)) + body for form in range(2 * _FORMS))
    yield b"\x02" + zstandard.ZstdCompressor(write_content_size=False).compress(b"\x92\x80\x80")


def altered(sealed: bytes) -> bytes:
    """Give what was *sealed* with four bytes changed: with one, a mutation by chance would give the real thing back."""
    return sealed[:-4] + bytes(byte ^ 1 for byte in sealed[-4:])


def record_seeds() -> Iterator[bytes]:
    """Give what is nearly a record: altered, and cut off."""
    header = first_header()
    record = RECORDS.seal(HANDLE, header, Payload("ada"))
    rotated = RECORDS.seal(HANDLE, header.rotate(bytes(32), NOW), Payload("ada"))
    for whole in (record, rotated, RECORDS.seal(HANDLE, header, Payload(), "cart")):
        seed = altered(whole)
        yield from (seed[:length] for length in (0, 1, len(seed) // 2, len(seed) - 1, len(seed)))


def activity_seeds() -> Iterator[bytes]:
    """Give bodies of entries, and a sealed one that was altered."""
    yield from map(
        encode, (["view", {}], ["view", {"price": 3}], ["view"], "ab", {"a": 1, "b": 2}, ["a", "b"], [1, {}])
    )
    sealed = ACTIVITIES.seal(HANDLE, encode(["view", {}]))
    yield altered(sealed)
