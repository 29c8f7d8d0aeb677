"""The record: what the store holds for a session, a plain header and a sealed payload.

docs/wire-format.md specifies it byte by byte; model/header.py and model/payload.py have its two parts.

    header    64 bytes and more
    then      nonce (12), AES-256-GCM ciphertext of the payload and its tag (16)

The associated data is the header followed by the name of the record (prefix, partition, handle, and a
compartment's name), so neither a changed header nor a record moved to another key or prefix opens.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from os import urandom
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from coatcheck.model import header as head_of
from coatcheck.model.compression import LARGEST_PAYLOAD, Dictionary, compress, decompress
from coatcheck.model.errors import RecordCorrupted
from coatcheck.model.header import COMPRESSED, RECORD_FORMAT, Header, dictionary_of
from coatcheck.model.keyring import Key, Keyring, binding_stem
from coatcheck.model.partition import PARTITIONS
from coatcheck.model.payload import WRITE_ID_BYTES, Payload
from coatcheck.model.ticket import Handle

__all__ = [
    "LARGEST_PAYLOAD",
    "RECORD_FORMAT",
    "SMALLEST_RECORD",
    "WRITE_ID_BYTES",
    "Header",
    "Payload",
    "Records",
    "fingerprint",
    "pack_revision",
]

_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
SMALLEST_RECORD: Final = head_of.SMALLEST + _NONCE_BYTES + _TAG_BYTES
"""Bytes of a record beside its payload, if nothing of its header is optional."""

_CIPHERS_KEPT: Final = 1024
_OPENED_KEPT: Final = 2048
_LARGEST_KEPT: Final = 4096  # bytes of memory, about
_BYTES_BESIDE: Final = 100  # of memory, that an attribute takes beside its name and value
_GROWN: Final = 1.125
"""By so much a payload that was not worth compressing has to have grown before that is tried again."""

_Ciphers = Callable[[bytes], AESGCM]
_How = tuple[int, int]  # how a payload is compressed: the flag COMPRESSED or 0, the id of a dictionary or 0
_PLAIN: Final = (0, 0)


class _Opened(Struct, frozen=True, gc=False):  # no cycle leads through it
    """A record, and what it holds.

    in_vain: so many bytes of a payload of the same session were not worth compressing; 0: that is not known.
    """

    record: bytes
    header: Header
    payload: Payload
    in_vain: int

    def __repr__(self) -> str:
        """Show nothing of the session."""
        return "_Opened()"


class Records:
    """Seals and opens the records of one prefix with the keys of one ring, and the dictionaries that it is given."""

    def __init__(self, keyring: Keyring, prefix: str) -> None:
        """Serve *prefix* with *keyring*."""
        self._keyring = keyring
        self._stems = [binding_stem(prefix, partition) for partition in range(PARTITIONS)]
        self._ciphers: dict[bytes, tuple[tuple[Key, _Ciphers], ...]] = {
            key.key_id: tuple((same, _ciphers_of(same)) for same in keyring.with_id(key.key_id)) for key in keyring.keys
        }
        self._sealer = keyring.keys[0], self._ciphers[keyring.keys[0].key_id][0][1]
        self._dictionaries: dict[int, Dictionary] = {}
        self._in_use: Dictionary | None = None
        self._in_use_until = 0
        self._opened: dict[Handle, _Opened] = {}

    def learn(self, dictionary: Dictionary) -> None:
        """Open from now on what was compressed with *dictionary*."""
        self._dictionaries[dictionary.id] = dictionary

    def lacks(self, record: bytes) -> int:
        """Give the id of the dictionary that it takes to open *record*, if it has yet to be learnt; else 0."""
        dictionary_id = dictionary_of(record)
        return 0 if dictionary_id in self._dictionaries else dictionary_id

    def dictionary(self, dictionary_id: int) -> Dictionary | None:
        """Give the dictionary of that id, if it was learnt."""
        return self._dictionaries.get(dictionary_id)

    @property
    def in_use(self) -> Dictionary | None:
        """The dictionary that it seals with."""
        return self._in_use

    def use(self, dictionary: Dictionary | None, until: int = 0) -> None:
        """Seal with *dictionary* (None: without one), which is kept *until* then (ms): records that end later do not.

        The dictionary is learnt too.
        """
        if dictionary is not None:
            self.learn(dictionary)
        self._in_use_until, self._in_use = until, dictionary

    def seal(self, handle: Handle, header: Header, payload: Payload, compartment: str = "") -> bytes:
        """Make the record of *handle*, or of one of its compartments. Raises ValueError for a payload over 16 MiB."""
        body = payload.encode()
        if len(body) > LARGEST_PAYLOAD:
            raise ValueError(f"the session's attributes take {len(body)} bytes; at most {LARGEST_PAYLOAD} are kept")
        known = None if compartment else self._opened.get(handle)
        in_vain = 0 if known is None else known.in_vain
        stored, how, in_vain = self._compressed(body, header.absolute_deadline, in_vain)
        record = self._encrypt(handle, header, stored, how, compartment)
        if not compartment:
            self._keep(handle, _Opened(record, header, payload, in_vain), len(body))
        return record

    def _compressed(self, body: bytes, deadline: int, in_vain: int) -> tuple[bytes, _How, int]:
        """Compress *body* where that pays; give what to seal, how it came to be, and the next *in_vain*."""
        dictionary = self._in_use
        if dictionary is not None and deadline <= self._in_use_until:
            shorter = dictionary.compress(body)
            if shorter is not None:
                return shorter, (0, dictionary.id), in_vain
        if len(body) <= in_vain * _GROWN:
            return body, _PLAIN, in_vain
        frame = compress(body)
        return (body, _PLAIN, len(body)) if frame is None else (frame, (COMPRESSED, 0), 0)

    def _encrypt(self, handle: Handle, header: Header, body: bytes, how: _How, compartment: str) -> bytes:
        key, ciphers = self._sealer
        name = self._name(handle, compartment)
        head = head_of.pack(header, key.key_id, *how)
        nonce = urandom(_NONCE_BYTES)
        return head + nonce + ciphers(name).encrypt(nonce, body, head + name)

    def has_key_of(self, record: bytes) -> bool:
        """Say whether the ring has the key that sealed *record*; True too for what is no record of this format."""
        is_record = len(record) >= head_of.SMALLEST and record[0] == RECORD_FORMAT
        return not is_record or record[2:4] in self._ciphers

    def open(self, handle: Handle, record: bytes, compartment: str = "") -> tuple[Header, Payload]:
        """Open the record of *handle*, or of one of its compartments. Raises RecordCorrupted, and leaves it alone."""
        header, how, _, body = self._decrypt(handle, record, compartment)
        if how != _PLAIN:
            body = self._decompressed(handle, body, how)
        payload = Payload.decode(body)
        if not compartment:
            known = self._opened.get(handle) if how == _PLAIN else None
            in_vain = 0 if known is None else known.in_vain
            self._keep(handle, _Opened(record, header, payload, in_vain), len(body))
        return header, payload

    def recall(self, handle: Handle, record: bytes) -> tuple[Header, Payload] | None:
        """Give what is in the record of *handle*, if it is, byte for byte, what was sealed or opened here lately.

        None: it has to be opened. Most requests find the record of their session as an earlier one has left it.
        """
        known = self._opened.get(handle)
        return None if known is None or known.record != record else (known.header, known.payload)

    def _keep(self, handle: Handle, opened: _Opened, size: int) -> None:
        """Keep what is *opened*, unless it is large. size: bytes of the payload, not compressed."""
        if size + _BYTES_BESIDE * len(opened.payload.attributes) > _LARGEST_KEPT:
            return
        if len(self._opened) >= _OPENED_KEPT and handle not in self._opened:
            self._opened.clear()  # costs an opening for each of them, and no bookkeeping
        self._opened[handle] = opened

    def open_body(self, handle: Handle, record: bytes, compartment: str = "") -> tuple[Header, bytes]:
        """Open a record as `open` does, and give its payload as it was before compression."""
        header, how, _, body = self._decrypt(handle, record, compartment)
        return header, self._decompressed(handle, body, how)

    def _decompressed(self, handle: Handle, body: bytes, how: _How) -> bytes:
        is_compressed, dictionary_id = how
        if dictionary_id:
            dictionary = self._dictionaries.get(dictionary_id)
            if dictionary is None:
                raise RecordCorrupted(
                    f"session {handle} was compressed with dictionary {dictionary_id:08x}, which the store does not "
                    "have, or no key of the ring opens: it can be read when that key of the store is restored"
                )
            return dictionary.decompress(body)
        return decompress(body) if is_compressed else body

    def reseal(self, handle: Handle, record: bytes, compartment: str = "") -> bytes | None:
        """Make the same record sealed with the first key; None if it is already. Raises RecordCorrupted."""
        header, how, key, body = self._decrypt(handle, record, compartment)
        if key == self._keyring.keys[0]:
            return None
        return self._encrypt(handle, header, body, how, compartment)

    def _decrypt(self, handle: Handle, record: bytes, compartment: str) -> tuple[Header, _How, Key, bytes]:
        header, flags, key_id, dictionary_id, size = head_of.unpack(record, _NONCE_BYTES + _TAG_BYTES)
        sealed_at = size + _NONCE_BYTES
        nonce, sealed = record[size:sealed_at], record[sealed_at:]
        name = self._name(handle, compartment)
        data = record[:size] + name
        if key_id not in self._ciphers:
            raise RecordCorrupted(
                f"session {handle} was sealed with key {key_id.hex()}, which is not in the keyring: "
                "keep former keys in the ring until their last session has ended"
            )
        for key, ciphers in self._ciphers[key_id]:
            try:
                body = ciphers(name).decrypt(nonce, sealed, data)
            except InvalidTag:
                continue
            return header, (flags & COMPRESSED, dictionary_id), key, body
        raise RecordCorrupted(f"session {handle}: its record was altered, or belongs to another key, prefix or request")

    def _name(self, handle: Handle, compartment: str) -> bytes:
        name = self._stems[handle.partition] + handle.value
        return name + compartment.encode() if compartment else name


def fingerprint(record: bytes) -> bytes:
    """Give the part of *record* that no other write shares: its header and nonce."""
    size = head_of.unpack(record, _NONCE_BYTES + _TAG_BYTES)[-1]
    return record[: size + _NONCE_BYTES]


def pack_revision(revision: int) -> bytes:
    """Give *revision* as it stands in a record."""
    return revision.to_bytes(4)


def _ciphers_of(key: Key) -> _Ciphers:
    """Give the ciphers of single records under *key*; those of the records used last are kept, ready for a save."""
    return lru_cache(maxsize=_CIPHERS_KEPT)(partial(_cipher, key))


def _cipher(key: Key, name: bytes) -> AESGCM:
    return AESGCM(key.key_of_record(name))
