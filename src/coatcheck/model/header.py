"""The header: the plain part of a record, and how it is written.

    0  format (1)            1  flags (1)             2  key id (2)
    4  revision (4)          8  created_at (6)       14  absolute_deadline (6)
   20  seen_at (6)          26  idle_timeout (6)     32  SHA-256 of the secret (32)
   64  SHA-256 of the former secret (32), and the end of its grace (6), if flag 2 is set
 then  first 4 bytes of the SHA-256 of the device's class, if flag 8 is set
 then  id of the dictionary that the payload is compressed with (4), if flag 16 is set

docs/wire-format.md specifies it. Integers are unsigned and big-endian, instants and durations are milliseconds
(instants since 1970-01-01 UTC).
"""

import struct
from typing import Final, Self

from msgspec import Struct
from msgspec.structs import replace

from coatcheck.model.device import CLASS_BYTES
from coatcheck.model.errors import RecordCorrupted

RECORD_FORMAT: Final = 1

COMPRESSED: Final = 1
"""Flag: the payload is compressed without a dictionary."""
PERSISTENT: Final = 4
"""Flag: the browser keeps the cookie when it closes."""
BY_DICTIONARY: Final = 16
"""Flag: the payload is compressed with the dictionary that the header names."""
_ROTATED: Final = 2
_OF_CLASS: Final = 8
_KNOWN_FLAGS: Final = COMPRESSED | _ROTATED | PERSISTENT | _OF_CLASS | BY_DICTIONARY

_FIXED: Final = struct.Struct(">BB2sIHIHIHIHI32s")
_FORMER: Final = struct.Struct(">32sHI")
DICTIONARY_ID_BYTES: Final = 4
SMALLEST: Final = _FIXED.size
"""Bytes of the shortest header."""


class Header(Struct, frozen=True, kw_only=True, gc=False):
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
    digest: bytes
    former_digest: bytes | None = None
    former_until: int = 0
    device_class: bytes = b""

    def __repr__(self) -> str:
        """Show what may be logged: no digest."""
        return f"Header(revision={self.revision}, created_at={self.created_at}, seen_at={self.seen_at})"

    def ttl(self, now: int) -> int:
        """How long the store keeps the record from *now* on, in ms: until the nearer deadline."""
        return min(self.idle_timeout, self.absolute_deadline - now)

    def following(self, now: int) -> Self:
        """Give the header of the next write, at *now*; a former secret whose grace is over is left out."""
        if self.former_digest is None or self.former_until > now:
            return replace(self, revision=self.revision + 1, seen_at=now)
        return replace(self, revision=self.revision + 1, seen_at=now, former_digest=None, former_until=0)

    def rotate(self, digest: bytes, grace_until: int) -> Self:
        """Give the header with a new secret; the present one is honoured until *grace_until*."""
        return replace(self, digest=digest, former_digest=self.digest, former_until=grace_until)

    def renew(self, digest: bytes) -> Self:
        """Give the header with a new secret, and no other is honoured from then on."""
        return replace(self, digest=digest, former_digest=None, former_until=0)


def pack(header: Header, key_id: bytes, flags: int, dictionary_id: int) -> bytes:
    """Write a header. flags: those that *header* does not tell. dictionary_id: 0 for none."""
    if header.persistent:
        flags |= PERSISTENT
    if header.former_digest is not None:
        flags |= _ROTATED
    if header.device_class:
        flags |= _OF_CLASS
    if dictionary_id:
        flags |= BY_DICTIONARY
    created_at, absolute_deadline = header.created_at, header.absolute_deadline
    seen_at, idle_timeout = header.seen_at, header.idle_timeout
    head = _FIXED.pack(
        RECORD_FORMAT,
        flags,
        key_id,
        header.revision,
        created_at >> 32,
        created_at & 0xFFFFFFFF,
        absolute_deadline >> 32,
        absolute_deadline & 0xFFFFFFFF,
        seen_at >> 32,
        seen_at & 0xFFFFFFFF,
        idle_timeout >> 32,
        idle_timeout & 0xFFFFFFFF,
        header.digest,
    )
    if header.former_digest is not None:
        head += _FORMER.pack(header.former_digest, header.former_until >> 32, header.former_until & 0xFFFFFFFF)
    head += header.device_class
    return head + dictionary_id.to_bytes(DICTIONARY_ID_BYTES) if dictionary_id else head


def unpack(record: bytes, further: int) -> tuple[Header, int, bytes, int, int]:
    """Read the header of *record*, behind which there are at least *further* bytes.

    Give it, the flags, the id of the key, the id of the dictionary (0: none), and how many bytes the header takes.
    Raises RecordCorrupted for what is too short, or of a format or with flags that are not known.
    """
    if len(record) < SMALLEST:
        raise RecordCorrupted("a record is too short")
    form, flags, key_id, revision, c1, c0, a1, a0, s1, s0, i1, i0, digest = _FIXED.unpack_from(record)
    if form != RECORD_FORMAT or flags & ~_KNOWN_FLAGS:
        raise RecordCorrupted(f"a record has format {form} and flags {flags:#04x}, unknown to this version")
    of_class = SMALLEST + (_FORMER.size if flags & _ROTATED else 0)
    of_dictionary = of_class + (CLASS_BYTES if flags & _OF_CLASS else 0)
    size = of_dictionary + (DICTIONARY_ID_BYTES if flags & BY_DICTIONARY else 0)
    if len(record) < size + further:
        raise RecordCorrupted("a record is too short")
    former, former_until, dictionary_id = None, 0, 0
    if flags & _ROTATED:
        former, f1, f0 = _FORMER.unpack_from(record, SMALLEST)
        former_until = f1 << 32 | f0
    if flags & BY_DICTIONARY:
        dictionary_id = int.from_bytes(record[of_dictionary:size])
        if not dictionary_id or flags & COMPRESSED:
            raise RecordCorrupted("a record names no dictionary, or says twice how it is compressed")
    header = Header(
        revision=revision,
        created_at=c1 << 32 | c0,
        absolute_deadline=a1 << 32 | a0,
        seen_at=s1 << 32 | s0,
        idle_timeout=i1 << 32 | i0,
        persistent=bool(flags & PERSISTENT),
        digest=digest,
        former_digest=former,
        former_until=former_until,
        device_class=record[of_class:of_dictionary],
    )
    return header, flags, key_id, dictionary_id, size


def last_write(record: bytes) -> tuple[int, int]:
    """Give when *record* was written and how long it lives unused from then on (ms), unproved; (0, 0) for no record."""
    if len(record) < SMALLEST or record[0] != RECORD_FORMAT:
        return 0, 0
    _, _, _, _, _, _, _, _, s1, s0, i1, i0, _ = _FIXED.unpack_from(record)
    return s1 << 32 | s0, i1 << 32 | i0


def dictionary_of(record: bytes) -> int:
    """Give the id of the dictionary that *record* names; 0 for none, and for what is no record."""
    if len(record) < SMALLEST or not record[1] & BY_DICTIONARY or record[0] != RECORD_FORMAT:
        return 0
    at = SMALLEST + (_FORMER.size if record[1] & _ROTATED else 0) + (CLASS_BYTES if record[1] & _OF_CLASS else 0)
    return int.from_bytes(record[at : at + DICTIONARY_ID_BYTES])
