"""The keys that seal records.

A key is 32 random bytes, written ``cck_`` and 43 characters of base64url. From each key, by
HKDF-Expand with SHA-256 (RFC 5869), come a key for every single record and one that hashes subjects.
The first key of a ring seals; all of them open.
"""

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Self

from coatcheck.model.errors import ConfigurationError
from coatcheck.model.ticket import Handle

_KEY_BYTES: Final = 32
_KEY_SHAPE: Final = re.compile(r"cck_[A-Za-z0-9_-]{43}", re.ASCII)
_NO_KEY: Final = (
    "a sealing key is 'cck_' and 43 characters; make one with: python -c 'import coatcheck; print(coatcheck.new_key())'"
)
_DERIVED_SALT: Final = b"coatcheck derived key 1"


def new_key() -> str:
    """Make a sealing key. Keep it as secret as a password: whoever has it can read every session."""
    return "cck_" + urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES)).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class Place:
    """Where an index lives, of a subject or an issuer's: a partition, and a digest (16 characters) that names it."""

    partition: int
    digest: str


@dataclass(frozen=True, slots=True)
class Key:
    """One sealing key and what is derived from it."""

    master: bytes = field(repr=False)
    key_id: bytes = field(init=False)
    _subject_key: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Derive the id and the subject key."""
        object.__setattr__(self, "key_id", expand(self.master, b"coatcheck key id 1")[:2])
        object.__setattr__(self, "_subject_key", expand(self.master, b"coatcheck subject 1"))

    @property
    def fingerprint(self) -> str:
        """What tells this key from others and is no secret: 16 hexadecimal digits, which begin with the key's id."""
        return expand(self.master, b"coatcheck key id 1")[:8].hex()

    def record_key(self, prefix: str, handle: Handle, compartment: str = "") -> bytes:
        """Derive the 32-byte AES key of one record: no two records, no two prefixes share one."""
        return self.key_of_record(binding(prefix, handle, compartment))

    def key_of_record(self, name: bytes) -> bytes:
        """Derive the same key from the record's name, as `binding` gives it."""
        return expand(self.master, b"coatcheck record 1" + name)

    def dictionary_key(self, prefix: str, dictionary_id: int) -> bytes:
        """Derive the 32-byte AES key of one dictionary for compression."""
        return expand(self.master, b"coatcheck dictionary 1" + dictionary_binding(prefix, dictionary_id))

    def activity_key(self, prefix: str, handle: Handle) -> bytes:
        """Derive the 32-byte AES key of the activity of one session."""
        return expand(self.master, b"coatcheck activity 1" + binding(prefix, handle))

    def place(self, prefix: str, subject: str) -> Place:
        """Say where *subject* belongs. Without the key nobody can tell which subject a digest stands for."""
        return _place(self._subject_key, prefix, subject)

    def issued_place(self, prefix: str, claim: str, issuer: str, value: str) -> Place:
        """Say where sessions are listed whose *issuer* has put *value* into that *claim* (sid, sub) of its tokens."""
        return _place(expand(self.master, b"coatcheck issued 1"), prefix, claim, issuer, value)


class Keyring:
    """The sealing keys of an application, the one in use first."""

    __slots__ = ("_by_id", "keys", "places")

    def __init__(self, keys: Iterable[Key]) -> None:
        """Hold *keys*. Raises ConfigurationError when there is none."""
        self.keys = tuple(dict.fromkeys(keys))
        if not self.keys:
            raise ConfigurationError("a keyring needs at least one key")
        self._by_id: dict[bytes, tuple[Key, ...]] = {}
        for key in self.keys:
            self._by_id[key.key_id] = (*self._by_id.get(key.key_id, ()), key)
        self.places = lru_cache(maxsize=4096)(self._places)

    @classmethod
    def parse(cls, text: str | Iterable[str]) -> Self:
        """Read keys written by `new_key`: a list of them, or one string with commas between.

        Raises ConfigurationError.
        """
        words = text.split(",") if isinstance(text, str) else list(text)
        if not all(isinstance(word, str) for word in words):  # bytes are a list of numbers
            raise ConfigurationError(_NO_KEY)
        return cls(_parse_key(word.strip()) for word in words if word.strip())

    @classmethod
    def derive(cls, passphrases: str | bytes | Iterable[str | bytes]) -> Self:
        """Make a ring from other high-entropy secrets, such as a framework's SECRET_KEY and its fallbacks.

        Each becomes a key by HKDF (RFC 5869) with SHA-256. Raises ConfigurationError for one that is empty.
        """
        if isinstance(passphrases, str | bytes):  # else each of its characters would become a key
            passphrases = (passphrases,)
        return cls(_derive_key(phrase) for phrase in passphrases)

    def with_id(self, key_id: bytes) -> tuple[Key, ...]:
        """Give the keys that carry *key_id*: one as a rule, none if the ring has lost it."""
        return self._by_id.get(key_id, ())

    def _places(self, prefix: str, subject: str) -> tuple[Place, ...]:
        return tuple(dict.fromkeys(key.place(prefix, subject) for key in self.keys))

    def __repr__(self) -> str:
        """Show the ids of the keys, which are no secret."""
        return f"Keyring({', '.join(key.key_id.hex() for key in self.keys)})"


def _place(key: bytes, *parts: str) -> Place:
    """Hash *parts*, of which only the last may hold a NUL."""
    digest = hmac.digest(key, b"\0".join(part.encode() for part in parts), "sha256")
    return Place(digest[0], urlsafe_b64encode(digest[1:13]).decode())


def binding(prefix: str, handle: Handle, compartment: str = "") -> bytes:
    """Name one record unambiguously: length of the prefix, prefix, partition, handle, a compartment's name."""
    return binding_stem(prefix, handle.partition) + handle.value + compartment.encode()


def binding_stem(prefix: str, partition: int) -> bytes:
    """Give what the names of all records of a partition begin with."""
    return _counted(prefix) + bytes((partition,))


def dictionary_binding(prefix: str, dictionary_id: int) -> bytes:
    """Name one dictionary unambiguously: length of the prefix, prefix, id."""
    return _counted(prefix) + dictionary_id.to_bytes(4)


def _counted(prefix: str) -> bytes:
    name = prefix.encode()
    return bytes((len(name),)) + name


def expand(key: bytes, info: bytes) -> bytes:
    """HKDF-Expand (RFC 5869, section 2.3) with SHA-256 to 32 bytes, which is its first block."""
    return hmac.digest(key, info + b"\x01", "sha256")


def _parse_key(text: str) -> Key:
    if not _KEY_SHAPE.fullmatch(text):
        raise ConfigurationError(_NO_KEY)
    return Key(urlsafe_b64decode(text[4:] + "="))


def _derive_key(passphrase: str | bytes) -> Key:
    secret = passphrase.encode() if isinstance(passphrase, str) else passphrase
    if not secret:
        raise ConfigurationError("a sealing key cannot be derived from an empty secret")
    return Key(hmac.digest(_DERIVED_SALT, secret, hashlib.sha256))
