"""The payload: the sealed part of a record, msgpack of a map of the system's and a map of attributes."""

from collections.abc import Mapping
from typing import Any, Final, Self

import msgspec
from msgspec import Raw, Struct, field
from msgspec.structs import replace

from coatcheck.model.errors import RecordCorrupted

WRITE_ID_BYTES: Final = 4
_WRITES_KEPT: Final = 64
_FORMERS_KEPT: Final = 16
_FORMER_BYTES: Final = 14
_FORMER_DIGEST_BYTES: Final = 8
_WRITES_KEPT_FOR: Final = 60_000
_FORMS_KEPT: Final = 256
_LONGEST_FORM: Final = 1024  # bytes

# The entries of the system's map, and what they are here. An entry of its type's empty value is left out.
_SYSTEM: Final[dict[str, tuple[str, type]]] = {
    "sub": ("subject", str),
    "ids": ("writes", bytes),
    "rot": ("rotated_at", int),
    "old": ("formers", bytes),
    "auth": ("signed_in_at", int),
    "aal": ("assurance", int),
    "iss": ("issued", list),
    "cli": ("client", str),
    "dev": ("device", str),
}
NOT_UNDERSTOOD: Final = "a record opens, but its payload is not understood by this version"


class Payload(Struct, frozen=True, gc=False):  # no cycle leads through it
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

    subject: str | None = None
    attributes: Mapping[str, bytes] = field(default_factory=dict)
    writes: bytes = b""
    rotated_at: int = 0
    formers: bytes = b""
    signed_in_at: int = 0
    assurance: int = 0
    issued: list[Any] = field(default_factory=list)
    client: str = ""
    device: str | None = None
    further: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Show what may be logged: nothing that was said in the session, nor whose it is."""
        return f"Payload(rotated_at={self.rotated_at}, signed_in_at={self.signed_in_at}, assurance={self.assurance})"

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
        found = self.writes.find(write_id) if len(write_id) == WRITE_ID_BYTES else -1
        while found % WRITE_ID_BYTES and found > 0:  # across two of them
            found = self.writes.find(write_id, found + 1)
        return found >= 0

    def encode(self) -> bytes:
        """Write it as it is sealed, but for compression."""
        names = tuple(self.attributes)
        form = _forms.get(names) or _make_form(names)
        return form % (_encoder.encode(self._system()), *self.attributes.values())

    def _system(self) -> dict[str, Any]:
        """Give the system's map. One after the other: a loop over `_SYSTEM` takes three times as long."""
        system = dict(self.further)
        if self.subject:
            system["sub"] = self.subject
        if self.writes:
            system["ids"] = self.writes
        if self.rotated_at:
            system["rot"] = self.rotated_at
        if self.formers:
            system["old"] = self.formers
        if self.signed_in_at:
            system["auth"] = self.signed_in_at
        if self.assurance:
            system["aal"] = self.assurance
        if self.issued:
            system["iss"] = self.issued
        if self.client:
            system["cli"] = self.client
        if self.device:
            system["dev"] = self.device
        return system

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read what `encode` has written. Raises RecordCorrupted."""
        try:
            system, attributes = _decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError, RecursionError):
            raise RecordCorrupted(NOT_UNDERSTOOD) from None
        encoded = {name: b"" + value for name, value in attributes.items()}  # as bytes, in half the time of bytes()
        if not system:
            return cls(None, encoded)
        known: dict[str, Any] = {}
        further: dict[str, Any] = {}
        for entry, value in system.items():
            if entry not in _SYSTEM:
                further[entry] = value
                continue
            name, kind = _SYSTEM[entry]
            if not isinstance(value, kind):
                raise RecordCorrupted(NOT_UNDERSTOOD)
            known[name] = value
        return cls(attributes=encoded, further=further, **known)


_forms: Final[dict[tuple[str, ...], bytes]] = {}
"""Payloads but for their values, by the names of the attributes: most sessions of an application have the same."""
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(tuple[dict[str, Any], dict[str, Raw]])


def _make_form(names: tuple[str, ...]) -> bytes:
    """Make a payload of attributes with these *names*, in which "%b" stands for the system's map and for each value."""
    pairs = b"".join(_encoder.encode(name).replace(b"%", b"%%") + b"%b" for name in names)
    form = b"\x92%b" + _map_of(len(names)).replace(b"%", b"%%") + pairs
    if len(form) <= _LONGEST_FORM:
        if len(_forms) >= _FORMS_KEPT:
            _forms.clear()  # costs making each of them again, and no bookkeeping
        _forms[names] = form
    return form


def _map_of(count: int) -> bytes:
    """Give what a map of *count* pairs begins with."""
    if count < 1 << 4:
        return bytes((0x80 | count,))
    return b"\xde" + count.to_bytes(2) if count < 1 << 16 else b"\xdf" + count.to_bytes(4)
