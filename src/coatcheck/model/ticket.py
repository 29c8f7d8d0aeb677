"""The session identifier, parsed.

A session identifier (the cookie's value) is 51 characters of base64url without padding, over 38 bytes:

    format (1) | partition (1) | handle (12) | secret (24)

The 96-bit handle names the record and is public; the 192-bit secret proves possession and is known to
the client alone: the store keeps its SHA-256. Both come from the operating system's CSPRNG.
"""

import re
import secrets
from base64 import urlsafe_b64encode
from binascii import a2b_base64, b2a_base64
from hashlib import sha256
from typing import Final, Self

from msgspec import Struct

from coatcheck.model.partition import PARTITIONS

TICKET_FORMAT: Final = 1
TICKET_LENGTH: Final = 51

_URLSAFE: Final = bytes.maketrans(b"+/", b"-_")  # the base64 module takes twice as long
_STANDARD: Final = bytes.maketrans(b"-_+/=", b"+/   ")  # what is no base64url becomes a space, which is refused
_HANDLE_BYTES: Final = 12
_SECRET_BYTES: Final = 24
_TICKET_BYTES: Final = 2 + _HANDLE_BYTES + _SECRET_BYTES
_LAST_CHARACTERS: Final = frozenset("AEIMQUYcgkosw048")  # of a ticket, for the last two bits are zero
_HANDLE_SHAPE: Final = re.compile(r"[0-9a-f]{2}\.[A-Za-z0-9_-]{16}", re.ASCII)


class Handle(Struct, frozen=True, gc=False):
    """The public name of a session: its partition (0-255) and 96 random bits.

    Its text, ``"a7.Qm9v..."`` (two hexadecimal digits, a dot, 16 characters of base64url), may be
    logged, listed and sent to people. It gives no access.
    """

    partition: int
    value: bytes

    def __post_init__(self) -> None:
        """Refuse what is not a handle."""
        if not 0 <= self.partition < PARTITIONS or len(self.value) != _HANDLE_BYTES:
            raise ValueError("a handle is a partition of 0-255 and 12 bytes")

    @property
    def name(self) -> str:
        """The 16 characters that stand for the handle in the names of keys."""
        return b2a_base64(self.value, newline=False).translate(_URLSAFE).decode()

    @classmethod
    def new(cls, partition: int | None = None) -> Self:
        """Make a handle in *partition*, or in a random one."""
        return cls(
            secrets.randbelow(PARTITIONS) if partition is None else partition, secrets.token_bytes(_HANDLE_BYTES)
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form. Raises ValueError."""
        if not _HANDLE_SHAPE.fullmatch(text):
            raise ValueError("not a session handle")
        return cls(int(text[:2], 16), value_of(text[3:].encode()))

    def __str__(self) -> str:
        """Give the text form."""
        return f"{self.partition:02x}.{self.name}"

    def __repr__(self) -> str:
        """Show the text form."""
        return f"Handle({str(self)!r})"


class Ticket(Struct, frozen=True, gc=False):
    """A session identifier taken apart; the secret (24 bytes) never shows in its repr."""

    handle: Handle
    secret: bytes

    @classmethod
    def new(cls, handle: Handle) -> Self:
        """Make a ticket for *handle* with a fresh secret."""
        return cls(handle, secrets.token_bytes(_SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a session identifier; None for anything that is not exactly one.

        Strict: one length, one alphabet, one spelling (the unused low bits must be zero), one format.
        """
        if len(text) != TICKET_LENGTH or text[-1] not in _LAST_CHARACTERS:
            return None
        try:
            raw = a2b_base64(text.encode().translate(_STANDARD) + b"=", strict_mode=True)
        except ValueError:
            return None
        if len(raw) != _TICKET_BYTES or raw[0] != TICKET_FORMAT:
            return None
        return cls(Handle(raw[1], raw[2 : 2 + _HANDLE_BYTES]), raw[2 + _HANDLE_BYTES :])

    @property
    def identifier(self) -> str:
        """The cookie's value. It is the key to the session: give it to its owner only."""
        head = bytes((TICKET_FORMAT, self.handle.partition))
        return urlsafe_b64encode(head + self.handle.value + self.secret)[:-1].decode()

    @property
    def digest(self) -> bytes:
        """SHA-256 of the secret (32 bytes): all that the store ever learns of it."""
        return sha256(self.secret).digest()

    def __repr__(self) -> str:
        """Show the handle."""
        return f"Ticket({self.handle!r})"


def value_of(name: bytes) -> bytes:
    """Give the random bytes of the handle that *name* stands for in the names of keys; b"" for what is none."""
    try:
        return a2b_base64(name.translate(_STANDARD), strict_mode=True)
    except ValueError:
        return b""
