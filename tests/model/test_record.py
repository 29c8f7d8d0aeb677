"""The record: sealed to its place, whole or refused, and preserved where it is not understood."""

import hashlib
import pickle

import msgspec
import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from coatcheck import Keyring, RecordCorrupted
from coatcheck.model.codec import decode, encode
from coatcheck.model.keyring import Key, binding
from coatcheck.model.record import LARGEST_PAYLOAD, Header, Payload, Records, pack_revision
from coatcheck.model.ticket import Handle
from tests.damage import flipped
from tests.model.test_codec import Bomb
from tests.model.values import attribute_names, returned, shape, values

KEY = Key(bytes(range(32)))
OLD = Key(bytes(range(32))[::-1])
HANDLE = Handle(0xA7, b"handle 12345")
DIGEST = hashlib.sha256(b"secret").digest()
FORMER = hashlib.sha256(b"former").digest()
HEADER = Header(
    revision=7,
    created_at=1_767_225_600_123,
    absolute_deadline=1_767_268_800_123,
    seen_at=1_767_225_601_456,
    idle_timeout=1_800_000,
    persistent=True,
    digest=DIGEST,
)
ROTATED = replace(HEADER, former_digest=FORMER, former_until=1_767_225_611_456)
PAYLOAD = Payload("ada", {"cart": encode(["book"]), "n": encode(1)}, b"idididid", further={"later": [1]})
NOT_UNDERSTOOD = "a record opens, but its payload is not understood by this version"
ALTERED = f"session {HANDLE}: its record was altered, or belongs to another key, prefix or request"

records = Records(Keyring([KEY]), "cc")
instants = st.integers(0, 2**48 - 1)
digests = st.binary(min_size=32, max_size=32)
headers = st.builds(
    Header,
    revision=st.integers(0, 2**32 - 1),
    created_at=instants,
    absolute_deadline=instants,
    seen_at=instants,
    idle_timeout=instants,
    persistent=st.booleans(),
    digest=digests,
) | st.builds(
    Header,
    revision=st.integers(0, 2**32 - 1),
    created_at=instants,
    absolute_deadline=instants,
    seen_at=instants,
    idle_timeout=instants,
    persistent=st.booleans(),
    digest=digests,
    former_digest=digests,
    former_until=instants,
)


def sealed(body, flags=0, header=HEADER, key=KEY):
    """Seal *body* as it is, as any holder of the key could."""
    head = bytearray(records.seal(HANDLE, header, Payload())[: 102 if header.former_digest else 64])
    head[1] = (head[1] & ~1) | flags
    nonce = b"nonce 123456"
    cipher = AESGCM(key.record_key("cc", HANDLE))
    return bytes(head) + nonce + cipher.encrypt(nonce, body, bytes(head) + binding("cc", HANDLE))


@given(
    handle=st.builds(Handle, st.integers(0, 255), st.binary(min_size=12, max_size=12)),
    header=headers,
    subject=st.none() | st.text(min_size=1),
    attributes=st.dictionaries(attribute_names, values, max_size=3),
    writes=st.binary(max_size=16),
)
def test_round_trip(handle, header, subject, attributes, writes):
    """A record opens to the header, subject, attributes and write ids it was made of."""
    payload = Payload(subject, {name: encode(value) for name, value in attributes.items()}, writes)

    opened, found = records.open(handle, records.seal(handle, header, payload))

    assert (opened, found) == (header, payload)
    for name, value in attributes.items():
        assert shape(decode(found.attributes[name])) == shape(returned(value))


@pytest.mark.parametrize("count", [0, 15, 16, 0x25, 0x2525, 65_535, 65_536])
def test_a_payload_is_an_array_of_two_maps_in_shortest_form(count):
    """However many attributes there are, and whatever their names, it is what any encoder of msgpack makes of them."""
    numbers = {f"{n} %b %% é": n for n in range(count)}
    payload = Payload("%b", {name: encode(number) for name, number in numbers.items()}, b"%s%%")

    for _ in range(2):  # what is made for the first of a kind is used for the next
        assert payload.encode() == msgspec.msgpack.encode([{"sub": "%b", "ids": b"%s%%"}, numbers])


def test_what_a_newer_version_added_is_kept():
    """Entries of the system map that this version does not know survive being opened and sealed again."""
    body = msgspec.msgpack.encode(({"sub": "ada", "later": {"a": [1]}, "ext": msgspec.msgpack.Ext(99, b"x")}, {}))

    _, payload = records.open(HANDLE, sealed(body))
    _, again = records.open(HANDLE, records.seal(HANDLE, HEADER, payload))

    assert again == payload
    assert payload.further == {"later": {"a": [1]}, "ext": msgspec.msgpack.Ext(99, b"x")}


@pytest.mark.parametrize("further", [{}, {"later": 1}], ids=["alone", "beside others"])
def test_what_a_newer_version_added_to_an_issuers_session_is_kept(further):
    """So does what stands behind the known parts of the issuer's session, of whatever type."""
    issued = ["https://issuer.example", "", "sid", 1, msgspec.msgpack.Ext(99, b"x"), {"a": b"b"}]
    body = msgspec.msgpack.encode(({"iss": issued, **further}, {}))

    _, payload = records.open(HANDLE, sealed(body))
    _, again = Records(Keyring([KEY]), "cc").open(HANDLE, records.seal(HANDLE, HEADER, payload))

    assert again == payload
    assert (payload.issued, payload.further) == (issued, further)


@pytest.mark.requirement("R35")
@pytest.mark.parametrize("header", [HEADER, ROTATED], ids=["plain", "rotated"])
def test_every_bit_flip_is_refused(header):
    """No bit of a record, header, nonce, payload or tag, can change without the record being refused."""
    record = records.seal(HANDLE, header, PAYLOAD)
    for changed in flipped(record):
        with pytest.raises(RecordCorrupted):
            records.open(HANDLE, changed)


@pytest.mark.requirement("R35")
@pytest.mark.parametrize("header", [HEADER, ROTATED], ids=["plain", "rotated"])
def test_every_truncation_is_refused(header):
    """A record cut short anywhere, or with anything after it, is refused."""
    record = records.seal(HANDLE, header, PAYLOAD)
    for length in range(len(record)):
        with pytest.raises(RecordCorrupted):
            records.open(HANDLE, record[:length])
    with pytest.raises(RecordCorrupted):
        records.open(HANDLE, record + b"\0")


@pytest.mark.parametrize("length", range(92))
def test_too_short(length):
    """What cannot hold a header, a nonce and a tag is refused as too short."""
    with pytest.raises(RecordCorrupted, match=r"^a record is too short$"):
        records.open(HANDLE, records.seal(HANDLE, HEADER, PAYLOAD)[:length])


@given(record=st.binary(max_size=200))
@settings(max_examples=1000)
def test_arbitrary_bytes_are_refused(record):
    """Whatever stands under a record's key, it is refused with RecordCorrupted and nothing else."""
    with pytest.raises(RecordCorrupted):
        records.open(HANDLE, record)


@pytest.mark.requirement("R35")
@pytest.mark.parametrize(
    ("handle", "prefix"),
    [
        (Handle(HANDLE.partition, b"handle 12346"), "cc"),
        (Handle(HANDLE.partition ^ 1, HANDLE.value), "cc"),
        (HANDLE, "cd"),
        (HANDLE, "c"),
        (HANDLE, "cc/tenant"),
    ],
)
def test_a_record_moved_elsewhere_is_refused(handle, prefix):
    """A record copied to another handle, partition or prefix does not open there."""
    record = records.seal(HANDLE, HEADER, PAYLOAD)

    with pytest.raises(RecordCorrupted) as caught:
        Records(Keyring([KEY]), prefix).open(handle, record)

    assert (
        str(caught.value) == f"session {handle}: its record was altered, or belongs to another key, prefix or request"
    )


@pytest.mark.requirement("R35")
def test_header_of_an_older_record_is_refused():
    """An older header in front of a newer payload (a rollback of the secret or a deadline) is refused."""
    older = records.seal(HANDLE, HEADER, PAYLOAD)
    newer = records.seal(HANDLE, replace(HEADER, revision=8, digest=FORMER), PAYLOAD)

    with pytest.raises(RecordCorrupted, match="was altered"):
        records.open(HANDLE, older[:64] + newer[64:])


@pytest.mark.requirement("R37")
@pytest.mark.parametrize("form", [0, 2, 3, 255])
def test_unknown_format(form):
    """A record of another format fails closed, with its format in the text."""
    record = bytes([form]) + records.seal(HANDLE, HEADER, PAYLOAD)[1:]

    with pytest.raises(RecordCorrupted) as caught:
        records.open(HANDLE, record)

    assert str(caught.value) == f"a record has format {form} and flags 0x04, unknown to this version"


@pytest.mark.requirement("R37")
@pytest.mark.parametrize("flag", [0x20, 0x40, 0x80])
def test_unknown_flag(flag):
    """A record with a flag that this version does not know fails closed, though it is sealed correctly."""
    with pytest.raises(RecordCorrupted) as caught:
        records.open(HANDLE, sealed(msgspec.msgpack.encode(({}, {})), flag))

    assert str(caught.value) == f"a record has format 1 and flags {flag | 4:#04x}, unknown to this version"


# Keys


@pytest.mark.requirement("R36")
def test_former_keys_open():
    """After a rotation of the keys, records sealed with a former one still open; the first one seals."""
    before = Records(Keyring([OLD]), "cc").seal(HANDLE, HEADER, PAYLOAD)
    rotated = Records(Keyring([KEY, OLD]), "cc")

    assert rotated.open(HANDLE, before) == (HEADER, PAYLOAD)
    after = rotated.seal(HANDLE, HEADER, PAYLOAD)
    assert after[2:4] == KEY.key_id
    assert Records(Keyring([KEY]), "cc").open(HANDLE, after) == (HEADER, PAYLOAD)


@pytest.mark.requirement("R36")
def test_lost_key():
    """A record whose key has left the ring is an error that names the key, never an empty session."""
    record = Records(Keyring([OLD]), "cc").seal(HANDLE, HEADER, PAYLOAD)

    with pytest.raises(RecordCorrupted) as caught:
        records.open(HANDLE, record)

    assert str(caught.value) == (
        f"session {HANDLE} was sealed with key {OLD.key_id.hex()}, which is not in the keyring: "
        "keep former keys in the ring until their last session has ended"
    )


@pytest.mark.requirement("R36")
def test_keys_with_the_same_id():
    """Where two keys carry the same id by chance, records of both open, and a third party's does not."""
    twin, stranger = Key(OLD.master), Key(bytes(32))
    for key in (twin, stranger):
        object.__setattr__(key, "key_id", KEY.key_id)
    both = Records(Keyring([KEY, twin]), "cc")

    for key in (KEY, twin):
        assert both.open(HANDLE, Records(Keyring([key]), "cc").seal(HANDLE, HEADER, PAYLOAD)) == (HEADER, PAYLOAD)
    with pytest.raises(RecordCorrupted) as caught:
        both.open(HANDLE, Records(Keyring([stranger]), "cc").seal(HANDLE, HEADER, PAYLOAD))
    assert str(caught.value) == ALTERED


def test_nonces_differ():
    """The same session sealed twice gives two records that share nothing but the header."""
    first, second = (records.seal(HANDLE, HEADER, PAYLOAD) for _ in range(2))

    assert first[:64] == second[:64]
    assert first[64:76] != second[64:76]
    assert first[76:] != second[76:]


@pytest.mark.requirement("R33")
def test_attributes_and_subject_are_not_readable():
    """A record shows neither its subject nor names nor values of its attributes."""
    record = records.seal(HANDLE, HEADER, Payload("ada@example.org", {"address": encode("1 Infinite Loop")}))

    for text in (b"ada", b"example", b"address", b"Infinite", b"sub"):
        assert text not in record


# Size


@given(size=st.integers(0, 600))
def test_compressed_only_where_it_pays(size):
    """A payload is compressed where that saves a tenth of it, and never otherwise; small ones are not tried."""
    text = Payload(None, {"a": encode("a" * size)})
    noise = Payload(None, {"a": encode(hashlib.shake_256(b"noise").digest(size))})
    handle, other = Handle.new(), Handle.new()  # of which nothing was tried in vain

    assert records.open(handle, records.seal(handle, HEADER, text)) == (HEADER, text)
    assert records.open(other, records.seal(other, HEADER, noise)) == (HEADER, noise)
    assert records.seal(other, HEADER, noise)[1] & 1 == 0
    plain = len(msgspec.msgpack.encode(({}, {"a": "a" * size})))
    assert len(records.seal(handle, HEADER, text)) <= 64 + 12 + plain + 16
    assert (records.seal(handle, HEADER, text)[1] & 1 == 1) == (plain >= 128)


def test_not_compressed_again_in_vain():
    """What was not worth compressing is tried again once it has grown by an eighth; who has only opened it tries."""
    noise = Payload(None, {"a": encode(hashlib.shake_256(b"noise").digest(300))})
    as_long, longer = (Payload(None, {"a": encode("a" * size)}) for size in (300, 400))
    reader, handle = Records(Keyring([KEY]), "cc"), Handle.new()
    reader.open(handle, records.seal(handle, HEADER, noise))

    assert records.seal(handle, HEADER, as_long)[1] & 1 == 0
    assert records.seal(handle, HEADER, longer)[1] & 1 == 1
    assert records.seal(handle, HEADER, as_long)[1] & 1 == 1
    assert reader.seal(handle, HEADER, as_long)[1] & 1 == 1


def test_compressed_in_the_end():
    """What grows in small steps, at first too small to be tried, is compressed as soon as it would be at once."""
    handle = Handle.new()
    for size in range(90, 400, 10):
        text = Payload(None, {"a": encode("a" * size)})
        assert records.seal(handle, HEADER, text)[1] == records.seal(Handle.new(), HEADER, text)[1]


# What was opened lately


def test_recalled():
    """The very bytes that were sealed or opened here are known without opening them; no other bytes are."""
    reader, handle = Records(Keyring([KEY]), "cc"), Handle.new()
    record = records.seal(handle, HEADER, PAYLOAD)

    assert reader.recall(handle, record) is None
    assert reader.open(handle, record) == reader.recall(handle, record) == records.recall(handle, record)
    assert reader.recall(handle, records.seal(handle, HEADER, PAYLOAD)) is None
    assert reader.recall(handle, record[:-1] + bytes([record[-1] ^ 1])) is None
    assert reader.recall(Handle(handle.partition ^ 1, handle.value), record) is None


def test_recalled_without_compartments():
    """A compartment's record is none of the session's, and is not known for it."""
    handle = Handle.new()
    record = records.seal(handle, HEADER, PAYLOAD, "cart")
    records.open(handle, record, "cart")

    assert records.recall(handle, record) is None


def test_recalled_within_bounds():
    """What is large, be it by being compressible or many small things, is not kept, nor are more than 2,048 others."""
    reader, handles = Records(Keyring([KEY]), "cc"), [Handle.new() for _ in range(2049)]
    sealed_records = [reader.seal(handle, HEADER, PAYLOAD) for handle in handles[:-1]]
    for attributes in ({"a": encode("a" * 5000)}, {str(number): encode(1) for number in range(50)}):
        large = reader.seal(handles[-1], HEADER, Payload(None, attributes))
        assert reader.recall(handles[-1], large) is None
    assert reader.recall(handles[0], sealed_records[0]) == (HEADER, PAYLOAD)
    again = reader.seal(handles[0], HEADER, PAYLOAD)

    assert reader.recall(handles[0], again) == reader.recall(handles[1], sealed_records[1]) == (HEADER, PAYLOAD)
    reader.seal(handles[-1], HEADER, PAYLOAD)
    assert reader.recall(handles[1], sealed_records[1]) is None


BOMBS = {
    "claims": zstandard.ZstdCompressor().compress(bytes(LARGEST_PAYLOAD + 1)),
    "does not claim": zstandard.ZstdCompressor(write_content_size=False).compress(bytes(LARGEST_PAYLOAD + 1)),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_decompression_bomb(bomb):
    """What decompresses to more than 16 MiB is refused, whether its frame says so or hides it."""
    with pytest.raises(RecordCorrupted):
        records.open(HANDLE, sealed(BOMBS[bomb], 1))


def test_decompression_bomb_that_claims_its_size():
    """A frame that claims over 16 MiB is refused before anything of it is decompressed."""
    frame = BOMBS["claims"][:32]  # a frame cut short: reading on would say so

    with pytest.raises(RecordCorrupted, match=r"^a record's payload claims to be larger than any that is written$"):
        records.open(HANDLE, sealed(frame, 1))


def test_limit_of_16_mib():
    """A payload of 16 MiB is kept; one byte more raises ValueError and says how much there is."""
    overhead = len(msgspec.msgpack.encode(({}, {"a": bytes(70_000)}))) - 70_000
    largest = Payload(None, {"a": encode(bytes(LARGEST_PAYLOAD - overhead))})

    assert records.open(HANDLE, records.seal(HANDLE, HEADER, largest)) == (HEADER, largest)
    with pytest.raises(ValueError, match=r"^the session's attributes take 16777217 bytes; at most 16777216 are kept$"):
        records.seal(HANDLE, HEADER, Payload(None, {"a": encode(bytes(LARGEST_PAYLOAD - overhead + 1))}))


# Payloads that a holder of the key has written


@pytest.mark.parametrize(
    ("body", "flags"),
    [
        (b"", 0),
        (b"", 1),
        (b"\xc0", 0),
        (b"\x92\x80", 0),
        (b"\x93\x80\x80\x80", 0),
        (b"\x92\x80\x80\x00", 0),
        (b"\x92\x80\x81\x01\x01", 0),
        (b"\x92\x80\x81\xa1\xff\x01", 0),
        (b"\x92\x81\xa1x\xa1\xff\x80", 0),
        (b"\x92\x81\xa1x\x81\x80\x01\x80", 0),
        (b"\x92\x81\xa3sub\x01\x80", 0),
        (b"\x92\x81\xa3ids\xa1a\x80", 0),
        (b"\x92\x81\xa1x" + b"\x91" * 100_000 + b"\x01\x80", 0),
        (b"\x92\x80\x81\xa1x" + b"\x91" * 100_000 + b"\x01", 0),
        (b"no zstd frame", 1),
    ],
    ids=[
        "empty",
        "empty-compressed",
        "nil",
        "one-map",
        "three-maps",
        "trailing",
        "int-name",
        "name-utf8",
        "system-utf8",
        "map-as-key",
        "sub-int",
        "ids-str",
        "deep-system",
        "deep-attribute",
        "no-frame",
    ],
)
def test_payload_that_is_not_understood(body, flags):
    """A payload that opens and is not of this form raises RecordCorrupted and nothing else."""
    with pytest.raises(RecordCorrupted) as caught:
        records.open(HANDLE, sealed(body, flags))

    assert str(caught.value) == NOT_UNDERSTOOD


@given(body=st.binary(max_size=60), flags=st.integers(0, 1))
@settings(max_examples=1000)
def test_arbitrary_payload(body, flags):
    """Whatever a holder of the key seals, the record opens or raises RecordCorrupted."""
    try:
        _, payload = records.open(HANDLE, sealed(b"\x92\x80" + body, flags))
    except RecordCorrupted as error:
        assert str(error) == NOT_UNDERSTOOD  # noqa: PT017
    else:
        assert isinstance(payload, Payload)


@pytest.mark.requirement("R34")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_in_place_of_a_record(protocol, tmp_path):
    """A pickle that would write a file when loaded is refused as a record and as a sealed payload, and never runs."""
    trace = tmp_path / "exploded"
    bomb = pickle.dumps(Bomb(str(trace)), protocol)

    for planted in (bomb, bomb + bytes(200), sealed(bomb), sealed(bomb, 1), sealed(zstandard.compress(bomb), 1)):
        with pytest.raises(RecordCorrupted):
            records.open(HANDLE, planted)

    assert not trace.exists()


def test_errors_and_reprs_show_no_attributes():
    """Repr of a header and a payload shows no digest and no attribute."""
    shown = repr(ROTATED) + repr(PAYLOAD)

    for hidden in ("cart", "book", "later", repr(DIGEST)[2:-1], repr(FORMER)[2:-1]):
        assert hidden not in shown


def test_revision_stands_at_offset_4():
    """The scripts compare the bytes 4 to 7 of a record: they are its revision, big-endian."""
    assert records.seal(HANDLE, HEADER, PAYLOAD)[4:8] == pack_revision(7) == b"\0\0\0\x07"


# Header and payload as values


def test_ttl_is_the_nearer_deadline():
    """The store keeps a record until the nearer deadline, idle or absolute."""
    start, end = HEADER.created_at, HEADER.absolute_deadline

    assert HEADER.ttl(start) == HEADER.idle_timeout
    assert HEADER.ttl(end - 1) == 1
    assert HEADER.ttl(end) == 0


def test_rotation_keeps_the_former_digest():
    """A rotated header holds the new digest, and the former one until its grace ends."""
    rotated = HEADER.rotate(FORMER, 5)

    assert (rotated.digest, rotated.former_digest, rotated.former_until) == (FORMER, DIGEST, 5)
    assert replace(rotated, digest=DIGEST, former_digest=None, former_until=0) == HEADER


def test_write_ids_are_kept_for_a_minute_and_64_of_them():
    """A payload remembers the last 64 writes of the last minute, and finds only whole ids among them."""
    payload = Payload()
    for number in range(1, 101):
        payload = payload.following({}, number.to_bytes(4), 10)

    assert len(payload.writes) == 64 * 4
    assert payload.has_write((100).to_bytes(4))
    assert payload.has_write((37).to_bytes(4))
    assert not payload.has_write((36).to_bytes(4))
    assert not payload.has_write(b"\0\0\x64\0"), "ids are compared at their own boundaries"
    assert not payload.has_write(b"")
    assert payload.following({}, b"", 60_000).writes == b""
    assert payload.following({}, b"next", 60_000).writes == b"next"
