"""Dictionaries as they are stored: sealed, for they hold pieces of sessions, and decide what a record opens to.

    dictionary   format (1)  key id (2)  nonce (12)  AES-256-GCM ciphertext of the dictionary and its tag (16)

docs/wire-format.md specifies it.
"""

from os import urandom
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coatcheck.model.compression import Dictionary
from coatcheck.model.errors import RecordCorrupted
from coatcheck.model.keyring import Key, Keyring, dictionary_binding

DICTIONARY_FORMAT: Final = 1

_HEAD_BYTES: Final = 3
_NONCE_BYTES: Final = 12
_SEALED_AT: Final = _HEAD_BYTES + _NONCE_BYTES
_TAG_BYTES: Final = 16


class SealedDictionaries:
    """Seals and opens the dictionaries of one prefix with the keys of one ring."""

    __slots__ = ("_keyring", "_prefix")

    def __init__(self, keyring: Keyring, prefix: str) -> None:
        """Serve *prefix* with *keyring*."""
        self._keyring = keyring
        self._prefix = prefix

    def seal(self, dictionary: Dictionary) -> bytes:
        """Seal a dictionary with the first key."""
        key = self._keyring.keys[0]
        head, nonce = bytes((DICTIONARY_FORMAT,)) + key.key_id, urandom(_NONCE_BYTES)
        data = head + dictionary_binding(self._prefix, dictionary.id)
        return head + nonce + self._cipher(key, dictionary.id).encrypt(nonce, dictionary.content, data)

    def open(self, dictionary_id: int, sealed: bytes) -> Dictionary:
        """Open the dictionary of that id. Raises RecordCorrupted."""
        head, nonce, content = sealed[:_HEAD_BYTES], sealed[_HEAD_BYTES:_SEALED_AT], sealed[_SEALED_AT:]
        if len(content) < _TAG_BYTES or head[0] != DICTIONARY_FORMAT:
            raise RecordCorrupted(f"dictionary {dictionary_id:08x} has a format unknown to this version")
        data = head + dictionary_binding(self._prefix, dictionary_id)
        for key in self._keyring.with_id(head[1:]):
            try:
                return Dictionary(self._cipher(key, dictionary_id).decrypt(nonce, content, data))
            except (InvalidTag, ValueError):
                continue
        raise RecordCorrupted(
            f"dictionary {dictionary_id:08x} was altered, or moved, or its key {head[1:].hex()} is not in the ring"
        )

    def is_current(self, sealed: bytes) -> bool:
        """Say whether the first key of the ring has sealed it, as far as its id tells."""
        return sealed[1:_HEAD_BYTES] == self._keyring.keys[0].key_id

    def _cipher(self, key: Key, dictionary_id: int) -> AESGCM:
        return AESGCM(key.dictionary_key(self._prefix, dictionary_id))
