"""Activity: what was done in a session, in order, sealed entry by entry.

    entry    format (1)  key id (2)  nonce (12)  AES-256-GCM ciphertext of msgpack [name, fields] and its tag (16)

When it was done is the id of the entry in its stream: the store keeps the order. docs/wire-format.md specifies it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from os import urandom
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coatcheck.model.codec import decode, encode
from coatcheck.model.errors import RecordCorrupted
from coatcheck.model.keyring import Keyring, binding
from coatcheck.model.ticket import Handle

ACTIVITY_FORMAT: Final = 1
LARGEST_ENTRY: Final = 8192
"""Bytes of an entry before sealing."""

_LONGEST_NAME: Final = 200
_HEAD_BYTES: Final = 3
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Activity:
    """Something that was done in a session. at: when it was saved, on the store's clock (aware, UTC).

    Its repr shows when, and not what.
    """

    at: datetime
    name: str = field(repr=False)
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Recorded:
    """What one request has done, until it is saved: each entry still to be sealed or, after a try, sealed."""

    __slots__ = ("_bodies", "_sealed", "_sealed_for")

    def __init__(self) -> None:
        """Begin with nothing."""
        self._bodies: list[bytes] = []
        self._sealed: list[tuple[int, bytes]] = []
        self._sealed_for: Handle | None = None

    def __bool__(self) -> bool:
        """Say whether there is anything to save."""
        return bool(self._bodies)

    def add(self, name: str, fields: Mapping[str, Any]) -> None:
        """Note an entry. Raises TypeError or ValueError for what cannot be kept."""
        if not isinstance(name, str):
            raise TypeError(f"the name of an activity must be a str, not {type(name).__name__}")
        if not 0 < len(name) <= _LONGEST_NAME:
            raise ValueError(f"the name of an activity takes 1 to {_LONGEST_NAME} characters, not {len(name)}")
        body = encode([name, dict(fields)], "in an activity")
        if len(body) > LARGEST_ENTRY:
            raise ValueError(f"an activity takes {len(body)} bytes; at most {LARGEST_ENTRY} are kept")
        self._bodies.append(body)

    def seal(self, activities: "Activities", handle: Handle, now: int, kept: int) -> list[tuple[int, bytes]]:
        """Give the entries, *kept* of them at most, for *handle*: when (ms), sealed.

        A save that is tried again gives the same bytes and instants, by which the store knows them.
        """
        if self._sealed_for != handle:
            self._sealed_for, self._sealed = handle, []
        fresh = self._bodies[len(self._sealed) :]
        self._sealed += [(now, activities.seal(handle, body)) for body in fresh]
        return self._sealed[-kept:]

    def saved(self) -> None:
        """Take note that what was sealed is stored."""
        self._bodies, self._sealed = self._bodies[len(self._sealed) :], []

    def forget(self) -> None:
        """Take note that there is no session any more to save it in."""
        self._bodies, self._sealed = [], []


class Activities:
    """Seals and opens the entries of one prefix with the keys of one ring."""

    __slots__ = ("_keyring", "_prefix")

    def __init__(self, keyring: Keyring, prefix: str) -> None:
        """Serve *prefix* with *keyring*."""
        self._keyring = keyring
        self._prefix = prefix

    def seal(self, handle: Handle, body: bytes) -> bytes:
        """Seal an entry of *handle*."""
        key = self._keyring.keys[0]
        head, nonce = bytes((ACTIVITY_FORMAT,)) + key.key_id, urandom(_NONCE_BYTES)
        cipher = AESGCM(key.activity_key(self._prefix, handle))
        return head + nonce + cipher.encrypt(nonce, body, head + binding(self._prefix, handle))

    def open(self, handle: Handle, at: datetime, entry: bytes) -> Activity:
        """Open an entry of *handle*. Raises RecordCorrupted."""
        size = _HEAD_BYTES + _NONCE_BYTES
        head, nonce, sealed = entry[:_HEAD_BYTES], entry[_HEAD_BYTES:size], entry[size:]
        if len(sealed) < _TAG_BYTES or head[0] != ACTIVITY_FORMAT:
            raise RecordCorrupted(f"an activity of session {handle} has a format unknown to this version")
        for key in self._keyring.with_id(head[1:]):
            try:
                data = head + binding(self._prefix, handle)
                body = AESGCM(key.activity_key(self._prefix, handle)).decrypt(nonce, sealed, data)
            except InvalidTag:
                continue
            return _read(body, at)
        raise RecordCorrupted(f"an activity of session {handle} was altered, moved, or sealed with a key not at hand")


def _read(body: bytes, at: datetime) -> Activity:
    match decode(body):
        case [str(name), dict(fields)] if all(isinstance(field, str) for field in fields):
            return Activity(at, name, fields)
    raise RecordCorrupted("an activity opens, but is not understood by this version")
