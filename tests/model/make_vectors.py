"""Makes docs/vectors/*.json with the library: `python -m tests.model.make_vectors` from the project's folder.

Run it when the format gets a new version, never to make a failing test pass: what is stored stays readable.
"""

import datetime as dt
import hashlib
import json
from decimal import Decimal
from pathlib import Path
from unittest.mock import patch
from uuid import UUID

import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from markupsafe import Markup
from msgspec.structs import replace

from coatcheck import Keyring
from coatcheck.engine.keys import Keys
from coatcheck.model import activity as activity_module
from coatcheck.model import dictionary as dictionary_module
from coatcheck.model import record as record_module
from coatcheck.model.activity import Activities
from coatcheck.model.codec import encode
from coatcheck.model.compression import Dictionary
from coatcheck.model.device import class_of
from coatcheck.model.dictionary import SealedDictionaries
from coatcheck.model.keyring import binding, expand
from coatcheck.model.partition import SLOT_DISTANCE, TAGS
from coatcheck.model.record import Header, Payload, Records
from coatcheck.model.ticket import Handle, Ticket
from tests.model import plain_reader

FOLDER = Path(__file__).parents[2] / "docs" / "vectors"

KEY = "cck_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
OTHER_KEY = "cck_Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA"
HANDLE = Handle(0xA7, bytes.fromhex("00112233445566778899aabb"))
SECRET, FORMER_SECRET = bytes(range(0x40, 0x58)), bytes(range(0x80, 0x98))
NONCE = bytes.fromhex("0f0e0d0c0b0a090807060504")
VALUES = {
    "none": None,
    "true": True,
    "integers": [0, 127, 128, 255, 256, 65535, 65536, 2**32, 2**53, 2**64 - 1, -1, -32, -33, -129, -(2**31), -(2**63)],
    "floats": [0.0, -0.5, 1e300],
    "text": ["", "é€😀", "a" * 31, "a" * 32, "a" * 256],
    "bytes": [b"", b"\x00\xff", bytes(256)],
    "list": [1, [2, [3]], list(range(16))],
    "map": {"b": 1, "a": {"nested": None}, "": 0},
    "map with integer keys": {7: "seven", -1: "minus one", "7": "text"},
    "tuple": (1, "a", ()),
    "set": {1, 200, "a", b"b", (1, 2), None},
    "set in a set": {frozenset({1}), frozenset()},
    "decimal": [Decimal("1.10"), Decimal("-0"), Decimal("1E+3"), Decimal("NaN"), Decimal("Infinity")],
    "uuid": UUID("00112233-4455-6677-8899-aabbccddeeff"),
    "datetime": [
        dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        dt.datetime(2026, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001  a naive one is what is shown
        dt.datetime(2026, 7, 2, 3, 4, 5, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30))),
    ],
    "date": dt.date(2026, 1, 2),
    "time": [dt.time(3, 4, 5), dt.time(3, 4, 5, 6, tzinfo=dt.UTC)],
    "timedelta": [dt.timedelta(days=1, microseconds=1), dt.timedelta(microseconds=-1)],
    "html": Markup("<b>bold</b>"),
}
FOREIGN = [
    "cc05 cd0005 ce00000005 cf0000000000000005 d005 d10005 d200000005 d30000000000000005",
    "d0ff d1ffff d2ffffffff d3ffffffffffffffff ca3fc00000 d90161 da000161 db0000000161",
    "c500010a c6000000010a dc000105 dd0000000105 de0001a16105 df00000001a16105 c80002019105 c9000000030191cc05",
]
HEADER = Header(
    revision=7,
    created_at=1_767_225_600_123,
    absolute_deadline=1_767_268_800_123,
    seen_at=1_767_225_601_456,
    idle_timeout=1_800_000,
    persistent=True,
    digest=hashlib.sha256(SECRET).digest(),
)
TEXT = "a coat, a hat, an umbrella; " * 12
RECORDS = {
    "anonymous": (HEADER, Payload(None, {"cart": encode(["book", 2]), "seen": encode(dt.date(2026, 1, 2))})),
    "bound": (HEADER, Payload("ada", {"user_id": encode("ada")}, b"w001w002")),
    "rotated": (
        HEADER.rotate(hashlib.sha256(FORMER_SECRET).digest(), 1_767_225_611_456),
        Payload(
            "ada",
            {"user_id": encode("ada")},
            rotated_at=1_767_225_601_456,
            formers=hashlib.sha256(FORMER_SECRET).digest()[:8] + (1_767_225_611_456).to_bytes(6),
            signed_in_at=1_767_225_600_123,
            assurance=2,
        ),
    ),
    "of a known client": (HEADER, Payload("ada", {}, signed_in_at=1, client="Firefox on Linux\n192.0.2.0/24")),
    "on a device of a class": (
        replace(HEADER, device_class=class_of("phone")),
        Payload("ada", {"user_id": encode("ada")}, device="phone"),
    ),
    "rotated, on a device of a class": (
        replace(HEADER, device_class=class_of("Küche")).rotate(
            hashlib.sha256(FORMER_SECRET).digest(), 1_767_225_611_456
        ),
        Payload("ada", {"user_id": encode("ada")}, device="Küche"),
    ),
    "empty, cookie ends with the browser": (
        Header(
            revision=2**32 - 1,
            created_at=0,
            absolute_deadline=2**48 - 1,
            seen_at=2**32,
            idle_timeout=1,
            persistent=False,
            digest=bytes(32),
        ),
        Payload(),
    ),
    "signed in at an issuer": (
        HEADER,
        Payload("ada", {"a": encode(1)}, issued=["https://id.example.org", "ada@idp", "s-1", 1_767_225_600]),
    ),
    "compressed": (HEADER, Payload("ada", {"note": encode(TEXT)})),
    "written by a newer version": (HEADER, Payload("ada", {"a": encode(1)}, further={"later": [1, {"deep": None}]})),
}


def identifiers():
    """Make identifiers, good and bad."""
    good = [
        Ticket(HANDLE, SECRET),
        Ticket(Handle(0, bytes(12)), bytes(24)),
        Ticket(Handle(255, b"\xff" * 12), b"\xff" * 24),
    ]
    first = good[0].identifier
    bad = {
        "one character short": first[:-1],
        "one character long": first + "A",
        "padded": first + "=",
        "unused low bits are not zero": first[:-1] + chr(ord(first[-1]) + 1),
        "format 2": "Ag" + first[2:],
        "format 0": "AA" + first[2:],
        "the alphabet of plain base64": first[:10] + "+" + first[11:],
        "white space before": " " + first[1:],
        "white space after": first[:-1] + "\n",
        "not ASCII": first[:-1] + "\u0663",
        "empty": "",
    }
    return {
        "valid": [
            {
                "identifier": ticket.identifier,
                "partition": ticket.handle.partition,
                "handle": ticket.handle.value.hex(),
                "secret": ticket.secret.hex(),
                "handle_text": str(ticket.handle),
                "digest": ticket.digest.hex(),
            }
            for ticket in good
        ],
        "invalid": [{"identifier": text, "why": why} for why, text in bad.items()],
    }


def keys():
    """Make what is derived from keys."""
    (key,) = Keyring.parse(KEY).keys
    subjects = [("cc", "ada"), ("cc", "ada@example.org"), ("shop/cc", "ada"), ("cc", "42"), ("cc", "Zoë")]
    claims = [("cc", "sid", "s-1"), ("cc", "sub", "ada@idp"), ("shop/cc", "sid", "s-1"), ("cc", "sub", "s-1")]
    issuer = "https://id.example.org"
    names = Keys("cc")
    place = key.place("cc", "ada")
    return {
        "keys": [
            {
                "key": text,
                "master": found.master.hex(),
                "key_id": found.key_id.hex(),
                "subject_key": expand(found.master, b"coatcheck subject 1").hex(),
            }
            for text in (KEY, OTHER_KEY)
            for found in Keyring.parse(text).keys
        ],
        "derived": [
            {"secret": secret, "master": Keyring.derive([secret]).keys[0].master.hex()}
            for secret in ("a framework's SECRET_KEY", "clé")
        ],
        "record_keys": [
            {
                "key": KEY,
                "prefix": prefix,
                "partition": handle.partition,
                "handle": handle.value.hex(),
                "name": binding(prefix, handle).hex(),
                "record_key": key.record_key(prefix, handle).hex(),
            }
            for prefix, handle in (("cc", HANDLE), ("shop/cc", HANDLE), ("cc", Handle(0, bytes(12))))
        ],
        "places": [
            {"key": KEY, "prefix": prefix, "subject": subject, "partition": found.partition, "digest": found.digest}
            for prefix, subject in subjects
            for found in [key.place(prefix, subject)]
        ],
        "issued_places": [
            {
                "key": KEY,
                "prefix": prefix,
                "claim": claim,
                "issuer": issuer,
                "value": value,
                "partition": found.partition,
                "digest": found.digest,
            }
            for prefix, claim, value in claims
            for found in [key.issued_place(prefix, claim, issuer, value)]
        ],
        "key_names": [
            {
                "prefix": "cc",
                "partition": place.partition,
                "handle": HANDLE.value.hex(),
                "digest": place.digest,
                "record": names.record(Handle(place.partition, HANDLE.value)),
                "subject_index": names.subject(place),
                "expiry_index": names.expiry(place.partition),
                "epoch": names.epoch(place.partition),
                "events": names.events(place.partition),
                "issued_index": names.issued(place),
                "subject_member": HANDLE.name,
                "expiry_member": HANDLE.name + place.digest,
            }
        ],
    }


def partitions():
    """Make the table of the partitions."""
    return [{"partition": p, "tag": tag, "slot": SLOT_DISTANCE * p} for p, tag in enumerate(TAGS)]


def values():
    """Make values as this library writes them, as others may, and what is refused."""
    refused = {
        "ext type that is not known": "d46300",
        "a reserved byte": "c1",
        "cut short": "a2",
        "bytes after the value": "0101",
        "text that is not UTF-8": "a1ff",
        "a UUID of another length": "d70400",
        "a tuple without an array": "d401c0",
        "empty": "",
    }
    foreign = [raw for line in FOREIGN for raw in line.split()]
    return {
        "written": [
            {"what": what, "encoded": encode(value).hex(), "value": plain_reader.decode(encode(value))}
            for what, value in VALUES.items()
        ],
        "also_read": [{"encoded": raw, "value": plain_reader.decode(bytes.fromhex(raw))} for raw in foreign],
        "refused": [{"encoded": raw, "why": why} for why, raw in refused.items()],
    }


def records():
    """Make records, and what is refused."""
    sealer = Records(Keyring.parse(KEY), "cc")
    valid = []
    with patch.object(record_module, "urandom", lambda _: NONCE):
        for what, (header, payload) in RECORDS.items():
            record = sealer.seal(HANDLE, header, payload)
            _, system, attributes = plain_reader.open_record(record, KEY, "cc", HANDLE.partition, HANDLE.value)
            plain_header, size = plain_reader.read_header(record)
            cipher = AESGCM(Keyring.parse(KEY).keys[0].record_key("cc", HANDLE))
            body = cipher.decrypt(NONCE, record[size + 12 :], record[:size] + binding("cc", HANDLE))
            valid.append(
                {
                    "what": what,
                    "key": KEY,
                    "prefix": "cc",
                    "partition": HANDLE.partition,
                    "handle": HANDLE.value.hex(),
                    "header": plain_header,
                    "nonce": NONCE.hex(),
                    "payload": body.hex(),
                    "system": system,
                    "attributes": attributes,
                    "record": record.hex(),
                }
            )
    good, of_class = (bytes.fromhex(valid[number]["record"]) for number in (0, 4))
    place = {"key": KEY, "prefix": "cc", "partition": HANDLE.partition, "handle": HANDLE.value.hex()}
    refused = [
        ("format 2", place, b"\x02" + good[1:]),
        ("an unknown flag", place, good[:1] + bytes([good[1] | 32]) + good[2:]),
        ("the flag of a class, without one", place, good[:1] + bytes([good[1] | 8]) + good[2:]),
        ("a changed revision", place, good[:7] + b"\x08" + good[8:]),
        ("a changed tag", place, good[:-1] + bytes([good[-1] ^ 1])),
        ("another class", place, of_class[:64] + class_of("desktop") + of_class[68:]),
        ("cut short", place, good[:-1]),
        ("shorter than any record", place, good[:91]),
        ("under another prefix", place | {"prefix": "cd"}, good),
        ("in another partition", place | {"partition": 0xA6}, good),
        ("under another handle", place | {"handle": "ff" * 12}, good),
        ("with another key", place | {"key": OTHER_KEY}, good),
    ]
    return {
        "valid": valid,
        "refused": [{"why": why, **where, "record": record.hex()} for why, where, record in refused],
    }


PLACE = {"key": KEY, "prefix": "cc", "partition": HANDLE.partition, "handle": HANDLE.value.hex()}
OTHER_PLACES = (
    ("under another prefix", {"prefix": "cd"}),
    ("in another partition", {"partition": 0xA6}),
    ("under another handle", {"handle": "ff" * 12}),
    ("with another key", {"key": OTHER_KEY}),
)
PART = replace(HEADER, revision=2, idle_timeout=600_000, persistent=False, digest=bytes(32))
COMPARTMENTS = {
    "a cart": ("cart", PART, Payload(None, {"items": encode(["book", 2]), "count": encode(3)}, b"w001")),
    "its first revision": (
        "a_name-of_32-characters_is_legal",
        replace(PART, revision=1),
        Payload(None, {"a": encode(1)}),
    ),
    "compressed": ("notes", PART, Payload(None, {"note": encode(TEXT)})),
}
ACTIVITY = {
    "a name alone": ("sign in", {}),
    "with fields": ("view_product:123", {"price": Decimal("1.10"), "at": VALUES["datetime"][0], "tags": {"a", "b"}}),
}


def compartments():
    """Make compartments, and what is refused."""
    sealer, names, valid = Records(Keyring.parse(KEY), "cc"), Keys("cc"), []
    with patch.object(record_module, "urandom", lambda _: NONCE):
        for what, (name, header, payload) in COMPARTMENTS.items():
            record = sealer.seal(HANDLE, header, payload, name)
            where = (KEY, "cc", HANDLE.partition, HANDLE.value, name)
            plain_header, system, attributes = plain_reader.open_record(record, *where)
            valid.append(
                {
                    "what": what,
                    **PLACE,
                    "compartment": name,
                    "key_name": names.compartment(HANDLE, name),
                    "record_key": Keyring.parse(KEY).keys[0].record_key("cc", HANDLE, name).hex(),
                    "header": plain_header,
                    "nonce": NONCE.hex(),
                    "system": system,
                    "attributes": attributes,
                    "record": record.hex(),
                }
            )
    good, place = bytes.fromhex(valid[0]["record"]), PLACE | {"compartment": "cart"}
    refused = [(why, place | other, good) for why, other in OTHER_PLACES]
    refused += [
        ("under another name", place | {"compartment": "card"}, good),
        ("as the session's record", place | {"compartment": ""}, good),
        ("a changed idle timeout", place, good[:31] + bytes([good[31] ^ 1]) + good[32:]),
        ("a changed tag", place, good[:-1] + bytes([good[-1] ^ 1])),
    ]
    return {"valid": valid, "refused": [{"why": why, **at, "record": record.hex()} for why, at, record in refused]}


def activity():
    """Make entries of a session's activity, and what is refused."""
    sealer, (key,), valid = Activities(Keyring.parse(KEY), "cc"), Keyring.parse(KEY).keys, []
    with patch.object(activity_module, "urandom", lambda _: NONCE):
        for what, (name, fields) in ACTIVITY.items():
            entry = sealer.seal(HANDLE, encode([name, fields]))
            plain_name, plain_fields = plain_reader.open_activity(entry, KEY, "cc", HANDLE.partition, HANDLE.value)
            valid.append(
                {
                    "what": what,
                    **PLACE,
                    "key_name": Keys("cc").activity(HANDLE),
                    "activity_key": key.activity_key("cc", HANDLE).hex(),
                    "nonce": NONCE.hex(),
                    "name": plain_name,
                    "fields": plain_fields,
                    "entry": entry.hex(),
                }
            )
    good = bytes.fromhex(valid[0]["entry"])
    refused = [(why, PLACE | other, good) for why, other in OTHER_PLACES]
    refused += [
        ("format 2", PLACE, b"\x02" + good[1:]),
        ("a changed tag", PLACE, good[:-1] + bytes([good[-1] ^ 1])),
        ("cut short", PLACE, good[:-1]),
        ("shorter than any entry", PLACE, good[:30]),
    ]
    return {"valid": valid, "refused": [{"why": why, **at, "entry": entry.hex()} for why, at, entry in refused]}


DICTIONARY_ID = 0x13917E4B
BY_DICTIONARY = {
    "a session": (HEADER, Payload(None, {"cart": encode(["book", 2]), "note": encode(TEXT)})),
    "rotated, on a device of a class": (
        replace(HEADER, device_class=class_of("phone")).rotate(
            hashlib.sha256(FORMER_SECRET).digest(), 1_767_225_611_456
        ),
        Payload("ada", {"note": encode(TEXT[:100]), "cart": encode(["umbrella"])}, device="phone"),
    ),
}


def train_dictionary():
    """Train a small dictionary, the same each time with one version of Zstandard."""
    words = ["a coat", "a hat", "an umbrella", "a scarf", "book", "cart", "note"]
    texts = [
        Payload(
            None,
            {
                "cart": encode([words[number % 7], words[number // 7 % 7]]),
                "note": encode("; ".join(words[number * (7919 + place) % 7] for place in range(8))),
            },
        )
        for number in range(400)
    ]
    return zstandard.train_dictionary(512, [text.encode() for text in texts], dict_id=DICTIONARY_ID, level=3).as_bytes()


def dictionaries():
    """Make a dictionary, records that are compressed with it, and what is refused."""
    content, (key,), number = train_dictionary(), Keyring.parse(KEY).keys, f"{DICTIONARY_ID:08x}"
    sealer, dictionary, names, valid = Records(Keyring.parse(KEY), "cc"), Dictionary(content), Keys("cc"), []
    sealer.use(dictionary, 2**48)
    with (
        patch.object(record_module, "urandom", lambda _: NONCE),
        patch.object(dictionary_module, "urandom", lambda _: NONCE),
    ):
        sealed = SealedDictionaries(Keyring.parse(KEY), "cc").seal(dictionary)
        for what, (header, payload) in BY_DICTIONARY.items():
            record = sealer.seal(HANDLE, header, payload)
            where = (KEY, "cc", HANDLE.partition, HANDLE.value)
            plain_header, system, attributes = plain_reader.open_record(record, *where, dictionary=content)
            valid.append(
                {
                    "what": what,
                    **PLACE,
                    "header": plain_header,
                    "nonce": NONCE.hex(),
                    "payload": sealer._decrypt(HANDLE, record, "")[-1].hex(),
                    "system": system,
                    "attributes": attributes,
                    "record": record.hex(),
                }
            )
    good = bytes.fromhex(valid[0]["record"])
    refused = [
        ("with the flag of compression without a dictionary, too", good[:1] + bytes([good[1] | 1]) + good[2:]),
        ("another dictionary", good[:64] + bytes(3) + b"\x01" + good[68:]),
        ("no dictionary", good[:64] + bytes(4) + good[68:]),
        ("a changed tag", good[:-1] + bytes([good[-1] ^ 1])),
    ]
    place = {"key": KEY, "prefix": "cc", "id": number}
    refused_dictionaries = [
        ("format 2", place, b"\x02" + sealed[1:]),
        ("a changed tag", place, sealed[:-1] + bytes([sealed[-1] ^ 1])),
        ("cut short", place, sealed[:-1]),
        ("shorter than any", place, sealed[:30]),
        ("under another prefix", place | {"prefix": "cd"}, sealed),
        ("under another id", place | {"id": "00000001"}, sealed),
        ("with another key", place | {"key": OTHER_KEY}, sealed),
    ]
    return {
        "dictionary": {
            **place,
            "list": names.dictionaries,
            "key_name": names.dictionary(DICTIONARY_ID),
            "dictionary_key": key.dictionary_key("cc", DICTIONARY_ID).hex(),
            "nonce": NONCE.hex(),
            "content": content.hex(),
            "sealed": sealed.hex(),
        },
        "records": valid,
        "refused_records": [{"why": why, **PLACE, "record": record.hex()} for why, record in refused],
        "refused_dictionaries": [{"why": why, **at, "sealed": raw.hex()} for why, at, raw in refused_dictionaries],
    }


def main():
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for make in (identifiers, keys, partitions, values, records, compartments, activity, dictionaries):
        text = json.dumps(make(), indent=1, ensure_ascii=True)
        (FOLDER / f"{make.__name__}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
