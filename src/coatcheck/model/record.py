"""The record: what the store holds for a session, a plain header and a sealed payload.

docs/wire-format.md specifies it byte by byte. Integers are unsigned and big-endian, instants and
durations are milliseconds (instants since 1970-01-01 UTC).

    header    0  format (1)            1  flags (1)             2  key id (2)
              4  revision (4)          8  created_at (6)       14  absolute_deadline (6)
             20  seen_at (6)          26  idle_timeout (6)     32  SHA-256 of the secret (32)
             64  SHA-256 of the former secret (32), and the end of its grace (6), if flag 2 is set
    then      first 4 bytes of the SHA-256 of the device's class, if flag 8 is set
    then      nonce (12), AES-256-GCM ciphertext of the payload and its tag (16)

The associated data is the header followed by the name of the record (prefix, partition, handle, and a
compartment's name), so neither a changed header nor a record moved to another key or prefix opens.
"""

import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from os import urandom
from typing import Any, Final, Self

import msgspec
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coatcheck.model.device import CLASS_BYTES
from coatcheck.model.errors import RecordCorrupted
from coatcheck.model.keyring import Key, Keyring, binding
from coatcheck.model.ticket import Handle

RECORD_FORMAT: Final = 1
LARGEST_PAYLOAD: Final = 16 * 1024 * 1024
"""Bytes of a payload before compression; what claims to be larger is not decompressed."""

WRITE_ID_BYTES: Final = 4
_WRITES_KEPT: Final = 64
_FORMERS_KEPT: Final = 16
_FORMER_BYTES: Final = 14
_FORMER_DIGEST_BYTES: Final = 8
_WRITES_KEPT_FOR: Final = 60_000

# The entries of the payload's system map, and what they are here. An entry of its type's empty value is left out.
_SYSTEM: Final = (
    ("sub", "subject", str),
    ("ids", "writes", bytes),
    ("rot", "rotated_at", int),
    ("old", "formers", bytes),
    ("auth", "signed_in_at", int),
    ("aal", "assurance", int),
    ("iss", "issued", list),
    ("cli", "client", str),
    ("dev", "device", str),
)

_COMPRESSED: Final = 1
_ROTATED: Final = 2
_PERSISTENT: Final = 4
_OF_CLASS: Final = 8

_FIXED: Final = struct.Struct(">BB2sIHIHIHIHI32s")
_FORMER: Final = struct.Struct(">32sHI")
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_WORTH_COMPRESSING: Final = 200
_NOT_UNDERSTOOD: Final = "a record opens, but its payload is not understood by this version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The plain part of a record: what can be decided without opening it.

    created_at, absolute_deadline, seen_at (of the last save), former_until: ms since the epoch;
    idle_timeout: ms; digest, former_digest: SHA-256 of the secret and of the one before the last rotation.
    device_class: 4 bytes that stand for the payload's device; b"" without one.
    """

    revision: int
    created_at: int
    absolute_deadline: int
    seen_at: int
    idle_timeout: int
    persistent: bool
    digest: bytes = field(repr=False)
    former_digest: bytes | None = field(default=None, repr=False)
    former_until: int = 0
    device_class: bytes = b""

    def ttl(self, now: int) -> int:
        """How long the store keeps the record from *now* on, in ms: until the nearer deadline."""
        return min(self.idle_timeout, self.absolute_deadline - now)

    def rotate(self, digest: bytes, grace_until: int) -> Self:
        """Give the header with a new secret; the present one is honoured until *grace_until*."""
        return replace(self, digest=digest, former_digest=self.digest, former_until=grace_until)

    def renew(self, digest: bytes) -> Self:
        """Give the header with a new secret, and no other is honoured from then on."""
        return replace(self, digest=digest, former_digest=None, former_until=0)


@dataclass(frozen=True, slots=True)
class Payload:
    """The sealed part: who it belongs to, and the attributes, each still encoded.

    writes: the ids (4 bytes each, joined) of the last writes that must not be carried out twice.
    rotated_at: when it last got a new secret (ms; 0: never). formers: of each of the last secrets that a rotation has
        replaced 8 bytes of the digest and until when it is honoured (6 bytes, ms), joined.
    signed_in_at: when its subject last proved who it is (ms; 0: never). assurance: how strongly (1-3; 0: that does not
        count any more, since its client has changed).
    issued: the issuer's session that it is linked to, as `IssuerSession.pack` gives it; empty: to none.
    client: the client that used it last, as `Client.text` has it ("": not known).
    device: the class of device that it is used on, as the application has named it.
    further: what a newer version has put beside these; a save keeps it.
    """

    subject: str | None = field(default=None, repr=False)
    attributes: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    writes: bytes = b""
    rotated_at: int = 0
    formers: bytes = field(default=b"", repr=False)
    signed_in_at: int = 0
    assurance: int = 0
    issued: list[Any] = field(default_factory=list, repr=False)
    client: str = ""
    device: str | None = None
    further: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def following(self, attributes: Mapping[str, bytes], write_id: bytes, elapsed: int) -> Self:
        """Make the payload of the next write, *elapsed* ms after this one, with *write_id* noted (b"": none)."""
        recent = self.writes if elapsed < _WRITES_KEPT_FOR else b""
        return replace(self, attributes=attributes, writes=(recent + write_id)[-_WRITES_KEPT * WRITE_ID_BYTES :])

    def rotated(self, former_digest: bytes, now: int, honoured_until: int) -> Self:
        """Make the payload of a rotation: it remembers the digest of the secret that is replaced."""
        former = former_digest[:_FORMER_DIGEST_BYTES] + honoured_until.to_bytes(6)
        formers = (self.formers + former)[-_FORMERS_KEPT * _FORMER_BYTES :]
        return replace(self, rotated_at=now, formers=formers)

    def renewed(self, now: int) -> Self:
        """Make the payload of a new secret that forgets the former ones: to use one is no replay, and no use."""
        return replace(self, rotated_at=now, formers=b"")

    @property
    def former_digests(self) -> list[bytes]:
        """The first 8 bytes of the digests of the secrets that its last rotations have replaced."""
        size = _FORMER_DIGEST_BYTES
        return [self.formers[i : i + size] for i in range(0, len(self.formers), _FORMER_BYTES)]

    def honoured_until(self, digest: bytes) -> int | None:
        """Say how long the grace of the secret with this *digest* lasts (ms); None if it was not the session's own."""
        for i in range(0, len(self.formers), _FORMER_BYTES):
            former = self.formers[i : i + _FORMER_BYTES]
            if former[:_FORMER_DIGEST_BYTES] == digest[:_FORMER_DIGEST_BYTES]:
                return int.from_bytes(former[_FORMER_DIGEST_BYTES:])
        return None

    def has_write(self, write_id: bytes) -> bool:
        """Say whether the write *write_id* (b"" for none) is among the last ones."""
        size = WRITE_ID_BYTES
        return bool(write_id) and write_id in (self.writes[i : i + size] for i in range(0, len(self.writes), size))


class Records:
    """Seals and opens the records of one prefix with the keys of one ring."""

    def __init__(self, keyring: Keyring, prefix: str) -> None:
        """Serve *prefix* with *keyring*."""
        self._keyring = keyring
        self._prefix = prefix

    def seal(self, handle: Handle, header: Header, payload: Payload, compartment: str = "") -> bytes:
        """Make the record of *handle*, or of one of its compartments. Raises ValueError for a payload over 16 MiB."""
        system = dict(payload.further)
        for entry, name, _ in _SYSTEM:
            if value := getattr(payload, name):
                system[entry] = value
        attributes = {name: msgspec.Raw(value) for name, value in payload.attributes.items()}
        body = _encoder.encode((system, attributes))
        if len(body) > LARGEST_PAYLOAD:
            raise ValueError(f"the session's attributes take {len(body)} bytes; at most {LARGEST_PAYLOAD} are kept")
        flags = _PERSISTENT if header.persistent else 0
        if len(body) >= _WORTH_COMPRESSING:
            shorter = _zstd.compressor.compress(body)
            if len(shorter) < len(body):
                body, flags = shorter, flags | _COMPRESSED
        return self._encrypt(handle, header, flags, body, compartment)

    def _encrypt(self, handle: Handle, header: Header, flags: int, body: bytes, compartment: str) -> bytes:
        key = self._keyring.keys[0]
        head = _pack(header, flags, key.key_id)
        nonce = urandom(_NONCE_BYTES)
        cipher = AESGCM(key.record_key(self._prefix, handle, compartment))
        return head + nonce + cipher.encrypt(nonce, body, head + binding(self._prefix, handle, compartment))

    def has_key_of(self, record: bytes) -> bool:
        """Say whether the ring has the key that sealed *record*; True too for what is no record of this format."""
        is_record = len(record) >= _FIXED.size and record[0] == RECORD_FORMAT
        return not is_record or bool(self._keyring.with_id(record[2:4]))

    def open(self, handle: Handle, record: bytes, compartment: str = "") -> tuple[Header, Payload]:
        """Open the record of *handle*, or of one of its compartments. Raises RecordCorrupted, and leaves it alone."""
        header, flags, _, body = self._decrypt(handle, record, compartment)
        return header, _read(body, compressed=bool(flags & _COMPRESSED))

    def reseal(self, handle: Handle, record: bytes, compartment: str = "") -> bytes | None:
        """Make the same record sealed with the first key; None if it is already. Raises RecordCorrupted."""
        header, flags, key, body = self._decrypt(handle, record, compartment)
        if key == self._keyring.keys[0]:
            return None
        return self._encrypt(handle, header, flags, body, compartment)

    def _decrypt(self, handle: Handle, record: bytes, compartment: str) -> tuple[Header, int, Key, bytes]:
        header, flags, key_id, size = _unpack(record)
        head, nonce, sealed = record[:size], record[size : size + _NONCE_BYTES], record[size + _NONCE_BYTES :]
        data = head + binding(self._prefix, handle, compartment)
        keys = self._keyring.with_id(key_id)
        if not keys:
            raise RecordCorrupted(
                f"session {handle} was sealed with key {key_id.hex()}, which is not in the keyring: "
                "keep former keys in the ring until their last session has ended"
            )
        for key in keys:
            try:
                body = AESGCM(key.record_key(self._prefix, handle, compartment)).decrypt(nonce, sealed, data)
            except InvalidTag:
                continue
            return header, flags, key, body
        raise RecordCorrupted(f"session {handle}: its record was altered, or belongs to another key, prefix or request")


def fingerprint(record: bytes) -> bytes:
    """Give the part of *record* that no other write shares: its header and nonce."""
    return record[: _unpack(record)[3] + _NONCE_BYTES]


def pack_revision(revision: int) -> bytes:
    """Give *revision* as it stands in a record."""
    return revision.to_bytes(4)


def _pack(header: Header, flags: int, key_id: bytes) -> bytes:
    if header.former_digest is not None:
        flags |= _ROTATED
    if header.device_class:
        flags |= _OF_CLASS
    head = _FIXED.pack(
        RECORD_FORMAT,
        flags,
        key_id,
        header.revision,
        *_split(header.created_at),
        *_split(header.absolute_deadline),
        *_split(header.seen_at),
        *_split(header.idle_timeout),
        header.digest,
    )
    if header.former_digest is not None:
        head += _FORMER.pack(header.former_digest, *_split(header.former_until))
    return head + header.device_class


def _unpack(record: bytes) -> tuple[Header, int, bytes, int]:
    if len(record) < _FIXED.size:
        raise RecordCorrupted("a record is too short")
    form, flags, key_id, revision, c1, c0, a1, a0, s1, s0, i1, i0, digest = _FIXED.unpack_from(record)
    if form != RECORD_FORMAT or flags & ~(_COMPRESSED | _ROTATED | _PERSISTENT | _OF_CLASS):
        raise RecordCorrupted(f"a record has format {form} and flags {flags:#04x}, unknown to this version")
    of_class = _FIXED.size + (_FORMER.size if flags & _ROTATED else 0)
    size = of_class + (CLASS_BYTES if flags & _OF_CLASS else 0)
    if len(record) < size + _NONCE_BYTES + _TAG_BYTES:
        raise RecordCorrupted("a record is too short")
    former, former_until = None, 0
    if flags & _ROTATED:
        former, f1, f0 = _FORMER.unpack_from(record, _FIXED.size)
        former_until = f1 << 32 | f0
    header = Header(
        revision=revision,
        created_at=c1 << 32 | c0,
        absolute_deadline=a1 << 32 | a0,
        seen_at=s1 << 32 | s0,
        idle_timeout=i1 << 32 | i0,
        persistent=bool(flags & _PERSISTENT),
        digest=digest,
        former_digest=former,
        former_until=former_until,
        device_class=record[of_class:size],
    )
    return header, flags, key_id, size


def _split(number: int) -> tuple[int, int]:
    return number >> 32, number & 0xFFFFFFFF


def _read(body: bytes, *, compressed: bool) -> Payload:
    try:
        if compressed:
            if zstandard.frame_content_size(body) > LARGEST_PAYLOAD:
                raise RecordCorrupted("a record's payload claims to be larger than any that is written")
            body = _zstd.decompressor.decompress(body, max_output_size=LARGEST_PAYLOAD)
        system, attributes = _decoder.decode(body)
    except (zstandard.ZstdError, msgspec.MsgspecError, UnicodeDecodeError, TypeError, RecursionError):
        raise RecordCorrupted(_NOT_UNDERSTOOD) from None
    known = {name: system.pop(entry) for entry, name, _ in _SYSTEM if entry in system}
    if not all(isinstance(known[name], kind) for _, name, kind in _SYSTEM if name in known):
        raise RecordCorrupted(_NOT_UNDERSTOOD)
    encoded = {name: bytes(value) for name, value in attributes.items()}
    return Payload(attributes=encoded, further=system, **known)


class _Zstd(threading.local):
    """One compressor and decompressor a thread: they must not be shared, and cost more to make than to use."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=3, write_checksum=False)
        self.decompressor = zstandard.ZstdDecompressor()


_zstd: Final = _Zstd()
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(tuple[dict[str, Any], dict[str, msgspec.Raw]])
