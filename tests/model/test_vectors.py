"""The vectors of docs/vectors, checked by the library and by a second implementation of the document."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coatcheck import Keyring, RecordCorrupted
from coatcheck.engine.keys import Keys
from coatcheck.model import activity as activity_module
from coatcheck.model import record as record_module
from coatcheck.model.activity import Activities, Activity
from coatcheck.model.codec import decode, encode
from coatcheck.model.device import class_of
from coatcheck.model.keyring import Place, binding, expand
from coatcheck.model.partition import SLOT_DISTANCE, TAGS
from coatcheck.model.record import Header, Payload, Records
from coatcheck.model.ticket import Handle, Ticket
from tests.model import make_vectors, plain_reader
from tests.model.test_partition import crc16
from tests.model.values import shape

DOCS = Path(__file__).parents[2] / "docs"
IDENTIFIERS, KEYS, PARTITIONS, VALUES, RECORDS, COMPARTMENTS, ACTIVITY = (
    json.loads((DOCS / "vectors" / f"{name}.json").read_text())
    for name in ("identifiers", "keys", "partitions", "values", "records", "compartments", "activity")
)


def each(vectors, label):
    """Parametrize over vectors, each under its label."""
    return pytest.mark.parametrize("vector", vectors, ids=[str(vector[label])[:40] for vector in vectors])


def handle_of(vector):
    """Read a vector's handle."""
    return Handle(vector["partition"], bytes.fromhex(vector["handle"]))


# Identifiers


@each(IDENTIFIERS["valid"], "identifier")
def test_identifier(vector):
    """Both implementations take an identifier apart as the vector says, and the library puts it together again."""
    ticket = Ticket(handle_of(vector), bytes.fromhex(vector["secret"]))

    assert Ticket.parse(vector["identifier"]) == ticket
    assert ticket.identifier == vector["identifier"]
    assert ticket.digest.hex() == vector["digest"]
    assert str(ticket.handle) == vector["handle_text"]
    partition, handle, secret = plain_reader.parse_identifier(vector["identifier"])
    assert (partition, handle, secret) == (ticket.handle.partition, ticket.handle.value, ticket.secret)
    assert hashlib.sha256(secret).hexdigest() == vector["digest"]
    assert f"{partition:02x}.{plain_reader.unpadded(handle)}" == vector["handle_text"]


@each(IDENTIFIERS["invalid"], "why")
def test_bad_identifier(vector):
    """Both implementations refuse what is no identifier."""
    assert Ticket.parse(vector["identifier"]) is None
    with pytest.raises(plain_reader.Refused):
        plain_reader.parse_identifier(vector["identifier"])


# Keys


@each(KEYS["keys"], "key_id")
def test_key(vector):
    """Both implementations derive a key's id and its subject key."""
    (key,) = Keyring.parse(vector["key"]).keys

    assert (key.master.hex(), key.key_id.hex()) == (vector["master"], vector["key_id"])
    assert expand(key.master, b"coatcheck subject 1").hex() == vector["subject_key"]
    assert plain_reader.master(vector["key"]).hex() == vector["master"]
    assert plain_reader.key_id(vector["key"]).hex() == vector["key_id"]


@each(KEYS["derived"], "secret")
def test_derived_key(vector):
    """Both implementations make the same master key of another secret."""
    assert Keyring.derive([vector["secret"]]).keys[0].master.hex() == vector["master"]
    assert plain_reader.derived(vector["secret"].encode()).hex() == vector["master"]


@each(KEYS["record_keys"], "name")
def test_record_key(vector):
    """Both implementations derive the key of a record."""
    handle, (key,) = handle_of(vector), Keyring.parse(vector["key"]).keys

    assert binding(vector["prefix"], handle).hex() == vector["name"]
    assert key.record_key(vector["prefix"], handle).hex() == vector["record_key"]
    where = (vector["prefix"], handle.partition, handle.value)
    assert plain_reader.name_of(*where).hex() == vector["name"]
    assert plain_reader.record_key(vector["key"], *where).hex() == vector["record_key"]


@each(KEYS["places"], "subject")
def test_place(vector):
    """Both implementations find the place of a subject's index."""
    expected = (vector["partition"], vector["digest"])
    (key,) = Keyring.parse(vector["key"]).keys

    assert key.place(vector["prefix"], vector["subject"]) == Place(*expected)
    assert plain_reader.place(vector["key"], vector["prefix"], vector["subject"]) == expected


@each(KEYS["issued_places"], "value")
def test_issued_place(vector):
    """Both implementations find the place of the index of an issuer's session or subject."""
    where = [vector[name] for name in ("prefix", "claim", "issuer", "value")]
    (key,) = Keyring.parse(vector["key"]).keys

    assert key.issued_place(*where) == Place(vector["partition"], vector["digest"])
    assert plain_reader.issued_place(vector["key"], *where) == (vector["partition"], vector["digest"])


@each(KEYS["key_names"], "record")
def test_key_names(vector):
    """Both implementations name the keys of the store, and the members of the indexes."""
    handle, place = handle_of(vector), Place(vector["partition"], vector["digest"])
    names, p = Keys(vector["prefix"]), place.partition
    kinds = ("record", "subject_index", "expiry_index", "epoch", "events", "issued_index")
    expected = [vector[name] for name in kinds]
    made = [names.record(handle), names.subject(place), names.expiry(p), names.epoch(p), names.events(p)]

    assert [*made, names.issued(place)] == expected
    tag = PARTITIONS[vector["partition"]]["tag"]
    assert list(plain_reader.key_names(vector["prefix"], tag, handle.value, vector["digest"])) == expected
    assert vector["subject_member"] == plain_reader.unpadded(handle.value) == handle.name
    assert vector["expiry_member"] == handle.name + vector["digest"]


def test_partitions():
    """The table of the partitions is the library's, and each tag hashes to its slot."""
    assert [vector["partition"] for vector in PARTITIONS] == list(range(256))
    assert tuple(vector["tag"] for vector in PARTITIONS) == TAGS
    for vector in PARTITIONS:
        assert crc16(vector["tag"].encode()) % 16384 == vector["slot"] == SLOT_DISTANCE * vector["partition"]


# Values


def in_order(value):
    """Give a value of the notation with what has no order in one order."""
    if isinstance(value, list):
        return [in_order(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: sorted(map(in_order, inner), key=repr) if name in {"$set", "$map"} else in_order(inner)
        for name, inner in value.items()
    }


@each(VALUES["written"], "what")
def test_value(vector):
    """Both implementations write a value to the same bytes, and read it from them."""
    raw, value = bytes.fromhex(vector["encoded"]), make_vectors.VALUES[vector["what"]]

    assert encode(value) == raw
    assert shape(decode(raw)) == shape(value)
    assert in_order(plain_reader.decode(raw)) == in_order(vector["value"])
    assert plain_reader.encode(vector["value"]) == raw


@each(VALUES["also_read"], "encoded")
def test_value_in_a_longer_spelling(vector):
    """Both implementations read what other encoders write, and write it back in the shortest form."""
    raw = bytes.fromhex(vector["encoded"])

    assert plain_reader.decode(raw) == vector["value"]
    assert encode(decode(raw)) == plain_reader.encode(vector["value"])


@each(VALUES["refused"], "why")
def test_bad_value(vector):
    """Both implementations refuse what is no value."""
    raw = bytes.fromhex(vector["encoded"])

    with pytest.raises(RecordCorrupted):
        decode(raw)
    with pytest.raises(plain_reader.Refused):
        plain_reader.decode(raw)


# Records


def header_of(vector):
    """Read a vector's header into the library's type."""
    fields = dict(vector["header"])
    flags, _ = fields.pop("flags"), fields.pop("key_id")
    former = fields.pop("former_digest", None)
    return Header(
        persistent=bool(flags & 4),
        digest=bytes.fromhex(fields.pop("digest")),
        former_digest=bytes.fromhex(former) if former else None,
        device_class=bytes.fromhex(fields.pop("device_class", "")),
        **fields,
    )


def payload_of(vector):
    """Make a vector's payload as the library holds it."""
    system = dict(vector["system"])
    known = {
        "subject": system.pop("sub", None),
        "writes": bytes.fromhex(system.pop("ids", {"$bytes": ""})["$bytes"]),
        "rotated_at": system.pop("rot", 0),
        "formers": bytes.fromhex(system.pop("old", {"$bytes": ""})["$bytes"]),
        "signed_in_at": system.pop("auth", 0),
        "assurance": system.pop("aal", 0),
        "issued": system.pop("iss", []),
        "client": system.pop("cli", ""),
        "device": system.pop("dev", None),
    }
    attributes = {name: plain_reader.encode(value) for name, value in vector["attributes"].items()}
    return Payload(attributes=attributes, further=system, **known)


@each(RECORDS["valid"], "what")
def test_record_is_opened_by_the_library(vector):
    """The library opens a record to what the vector says."""
    records = Records(Keyring.parse(vector["key"]), vector["prefix"])

    opened = records.open(handle_of(vector), bytes.fromhex(vector["record"]))

    assert opened == (header_of(vector), payload_of(vector))


@each(RECORDS["valid"], "what")
def test_record_is_sealed_by_the_library(vector, monkeypatch):
    """The library, given the nonce, seals the same record; compressed ones may differ, and open the same."""
    monkeypatch.setattr(record_module, "urandom", lambda _: bytes.fromhex(vector["nonce"]))
    records = Records(Keyring.parse(vector["key"]), vector["prefix"])

    record = records.seal(handle_of(vector), header_of(vector), payload_of(vector))

    where = (vector["key"], vector["prefix"], vector["partition"], bytes.fromhex(vector["handle"]))
    assert plain_reader.open_record(record, *where) == (vector["header"], vector["system"], vector["attributes"])
    assert record.hex() == vector["record"] or vector["header"]["flags"] & 1


@each(RECORDS["valid"], "what")
def test_record_by_the_second_implementation(vector):
    """The second implementation opens a record, and seals the same one from its parts."""
    record = bytes.fromhex(vector["record"])
    where = (vector["key"], vector["prefix"], vector["partition"], bytes.fromhex(vector["handle"]))

    assert plain_reader.open_record(record, *where) == (vector["header"], vector["system"], vector["attributes"])
    payload, nonce = bytes.fromhex(vector["payload"]), bytes.fromhex(vector["nonce"])
    assert plain_reader.seal_record(vector["header"], payload, nonce, *where) == record
    if not vector["header"]["flags"] & 1:
        parts = plain_reader.encode(vector["system"]), plain_reader.encode(vector["attributes"])
        assert b"\x92" + b"".join(parts) == payload


@pytest.mark.requirement("R35")
@pytest.mark.requirement("R37")
@each(RECORDS["refused"], "why")
def test_bad_record(vector):
    """Both implementations refuse a record that was altered, moved, or is of a kind they do not know."""
    record = bytes.fromhex(vector["record"])

    with pytest.raises(RecordCorrupted):
        Records(Keyring.parse(vector["key"]), vector["prefix"]).open(handle_of(vector), record)
    with pytest.raises(plain_reader.Refused):
        plain_reader.open_record(
            record, vector["key"], vector["prefix"], vector["partition"], bytes.fromhex(vector["handle"])
        )


# Compartments and activity


def place_of(vector):
    """Say where a vector's record belongs, as the second implementation takes it."""
    return vector["key"], vector["prefix"], vector["partition"], bytes.fromhex(vector["handle"])


@each(COMPARTMENTS["valid"], "what")
def test_compartment(vector, monkeypatch):
    """Both implementations name a compartment, derive its key, open it to what the vector says and seal the same."""
    monkeypatch.setattr(record_module, "urandom", lambda _: bytes.fromhex(vector["nonce"]))
    records, handle = Records(Keyring.parse(vector["key"]), vector["prefix"]), handle_of(vector)
    name, record, (key,) = vector["compartment"], bytes.fromhex(vector["record"]), Keyring.parse(vector["key"]).keys

    assert Keys(vector["prefix"]).compartment(handle, name) == vector["key_name"]
    assert key.record_key(vector["prefix"], handle, name).hex() == vector["record_key"]
    assert records.open(handle, record, name) == (header_of(vector), payload_of(vector))
    sealed = records.seal(handle, header_of(vector), payload_of(vector), name)
    assert sealed == record or vector["header"]["flags"] & 1

    parts = vector["header"], vector["system"], vector["attributes"]
    tag = PARTITIONS[vector["partition"]]["tag"]
    assert plain_reader.names_beside(vector["prefix"], tag, handle.value, name)[0] == vector["key_name"]
    assert plain_reader.record_key(*place_of(vector), name).hex() == vector["record_key"]
    assert plain_reader.open_record(record, *place_of(vector), name) == parts
    assert plain_reader.open_record(sealed, *place_of(vector), name) == parts
    if not vector["header"]["flags"] & 1:
        payload = b"\x92" + plain_reader.encode(vector["system"]) + plain_reader.encode(vector["attributes"])
        nonce = bytes.fromhex(vector["nonce"])
        assert plain_reader.seal_record(vector["header"], payload, nonce, *place_of(vector), name) == record


@pytest.mark.requirement("R35")
@each(COMPARTMENTS["refused"], "why")
def test_bad_compartment(vector):
    """Both implementations refuse a compartment that was altered, or moved: to another name, too."""
    record, name = bytes.fromhex(vector["record"]), vector["compartment"]

    with pytest.raises(RecordCorrupted):
        Records(Keyring.parse(vector["key"]), vector["prefix"]).open(handle_of(vector), record, name)
    with pytest.raises(plain_reader.Refused):
        plain_reader.open_record(record, *place_of(vector), name)


@each(ACTIVITY["valid"], "what")
def test_activity(vector, monkeypatch):
    """Both implementations name a session's activity, derive its key, open an entry and seal the same one."""
    monkeypatch.setattr(activity_module, "urandom", lambda _: bytes.fromhex(vector["nonce"]))
    activities, handle = Activities(Keyring.parse(vector["key"]), vector["prefix"]), handle_of(vector)
    entry, now, (key,) = bytes.fromhex(vector["entry"]), datetime.now(UTC), Keyring.parse(vector["key"]).keys
    name, fields = make_vectors.ACTIVITY[vector["what"]]

    assert Keys(vector["prefix"]).activity(handle) == vector["key_name"]
    assert key.activity_key(vector["prefix"], handle).hex() == vector["activity_key"]
    assert activities.open(handle, now, entry) == Activity(now, name, fields)
    assert activities.seal(handle, encode([name, fields])) == entry

    tag, nonce = PARTITIONS[vector["partition"]]["tag"], bytes.fromhex(vector["nonce"])
    assert plain_reader.names_beside(vector["prefix"], tag, handle.value, "cart")[1] == vector["key_name"]
    assert plain_reader.activity_key(*place_of(vector)).hex() == vector["activity_key"]
    found_name, found_fields = plain_reader.open_activity(entry, *place_of(vector))
    assert (found_name, in_order(found_fields)) == (vector["name"], in_order(vector["fields"]))
    assert plain_reader.seal_activity(vector["name"], vector["fields"], nonce, *place_of(vector)) == entry


@pytest.mark.requirement("R35")
@each(ACTIVITY["refused"], "why")
def test_bad_activity(vector):
    """Both implementations refuse an entry that was altered, moved to another session, or is of another format."""
    entry = bytes.fromhex(vector["entry"])

    with pytest.raises(RecordCorrupted):
        Activities(Keyring.parse(vector["key"]), vector["prefix"]).open(handle_of(vector), datetime.now(UTC), entry)
    with pytest.raises(plain_reader.Refused):
        plain_reader.open_activity(entry, *place_of(vector))


def test_class_of_a_device():
    """What stands for a class in the header is made of the name in the payload, by both implementations."""
    named = [vector for vector in RECORDS["valid"] if "dev" in vector["system"]]

    assert {vector["system"]["dev"] for vector in named} == {"phone", "Küche"}
    for vector in named:
        found = {class_of(vector["system"]["dev"]).hex(), plain_reader.class_of(vector["system"]["dev"])}
        assert found == {vector["header"]["device_class"]}


def test_the_vectors_show_every_flag():
    """Among the records are compressed, rotated and persistent ones, and such as are none of it."""
    flags = [vector["header"]["flags"] for vector in RECORDS["valid"]]

    for flag in (1, 2, 4, 8):
        assert {bool(value & flag) for value in flags} == {True, False}


def test_the_document_names_what_is_there():
    """The document shows the vectors' worked example, and names every file of them."""
    text = (DOCS / "wire-format.md").read_text()

    assert IDENTIFIERS["valid"][0]["identifier"] in text
    assert KEYS["record_keys"][0]["record_key"] in text
    assert RECORDS["valid"][0]["record"] in "".join(text.split())
    for path in (DOCS / "vectors").iterdir():
        assert f"vectors/{path.name}" in text
