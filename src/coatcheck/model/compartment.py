"""Compartments: named parts of a session, each with an idle timeout of its own and a record of its own.

A compartment is loaded with its session and opened when it is first asked for. It never outlives its session.
"""

import re
import secrets
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final, Protocol

from coatcheck.model.attributes import Attributes
from coatcheck.model.caps import Caps
from coatcheck.model.delta import Operation
from coatcheck.model.errors import ConfigurationError
from coatcheck.model.record import WRITE_ID_BYTES, Header, Payload

Opened = tuple[Header, Payload]

_NAME_SHAPE: Final = re.compile(r"[a-z0-9_-]{1,32}", re.ASCII)
_SHORTEST: Final = timedelta(milliseconds=1)


class Compartment(Attributes):
    """A part of a session: a mapping that is saved and merged as the session is, and ends when it is not used.

    Reading or changing it is use. Once it has ended it is empty, and can be filled again.
    """

    __slots__ = ("_attempt", "header", "idle", "name", "payload")

    def __init__(self, name: str, idle: int, opened: Opened | None = None, caps: Caps | None = None) -> None:
        """Present what is stored, or an empty one that would live *idle* ms unused. For the engine."""
        self.header: Header | None = opened[0] if opened else None
        self.payload = opened[1] if opened else Payload()
        super().__init__(self.payload.attributes, caps)
        self.name = name
        self.idle = self.header.idle_timeout if self.header else idle
        self._attempt: tuple[list[Operation], bytes] = [], b""

    @property
    def idle_timeout(self) -> timedelta:
        """How long it lives unused."""
        return timedelta(milliseconds=self.idle)

    def __repr__(self) -> str:
        """Show the name, not what is in it."""
        return f"<Compartment {self.name}>"

    # For the engine

    @property
    def is_changed(self) -> bool:
        """Whether a save has something to write."""
        return bool(self.delta()) or (self.header is not None and self.header.idle_timeout != self.idle)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in it: then nothing of it is stored."""
        return not self._current

    def write_id_for(self, changes: list[Operation]) -> bytes:
        """Give the id of the write of *changes*: the same one when a save is tried again after a lost reply."""
        if self._attempt[0] != changes:
            self._attempt = changes, secrets.token_bytes(WRITE_ID_BYTES)
        return self._attempt[1]

    def now_stored(self, opened: Opened | None) -> None:
        """Take note of what the store holds now."""
        self.header, self.payload = opened or (None, Payload())
        self.idle = self.header.idle_timeout if self.header else self.idle
        self._attempt = [], b""
        self.now_stored_as(self.payload.attributes)
        self.accessed = False


class Declaration(Protocol):
    """What a policy says of compartments."""

    @property
    def declared_compartments(self) -> tuple[tuple[str, timedelta], ...]:
        """Their names and how long each lives unused."""
        ...

    @property
    def caps(self) -> Caps:
        """How much each of them may hold."""
        ...


class Compartments:
    """The compartments of one session: those that its policy declares."""

    __slots__ = ("_caps", "_declared", "_open", "_raw", "known")

    def __init__(
        self,
        policy: "Declaration",
        raw: Mapping[str, bytes] | None = None,
        opener: Callable[[str, bytes], Opened] | None = None,
    ) -> None:
        """Present those that were loaded: *raw* holds their records, *opener* opens one."""
        self._declared = dict(policy.declared_compartments)
        self._caps = policy.caps
        self._raw = dict(raw or {})
        self._open = opener
        self.known: dict[str, Compartment] = {}

    def __getitem__(self, name: str) -> Compartment:
        """Give a compartment. Raises ConfigurationError for one that is not declared, RecordCorrupted."""
        if name in self.known:
            return self.known[name]
        if name not in self._declared:
            raise ConfigurationError(f"the policy declares no compartment {name!r}")
        raw = self._raw.get(name)
        opened = self._open(name, raw) if raw is not None and self._open is not None else None
        self._raw.pop(name, None)
        self.known[name] = Compartment(name, self._declared[name] // _SHORTEST, opened, self._caps)
        return self.known[name]

    @property
    def is_changed(self) -> bool:
        """Whether a save has something to write."""
        return any(part.is_changed for part in self.known.values())

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in any of them."""
        return not self._raw and all(part.is_empty for part in self.known.values())

    @property
    def unopened(self) -> tuple[str, ...]:
        """The names of those that were loaded and not asked for yet."""
        return tuple(self._raw)

    def drop_unopened(self) -> None:
        """Take note that those which were not asked for have ended."""
        self._raw.clear()

    def forget(self) -> None:
        """Take note that they have all ended."""
        self._raw.clear()
        for part in self.known.values():
            part.now_stored(None)


def check_compartments(declared: tuple[tuple[str, timedelta], ...], idle_timeout: timedelta) -> None:
    """Raise ConfigurationError for a name or a timeout that a compartment cannot have."""
    for name, timeout in declared:
        if not _NAME_SHAPE.fullmatch(name):
            raise ConfigurationError(f"the name of a compartment is 1 to 32 of a-z 0-9 _ -, not {name!r}")
        check_idle_timeout(name, timeout, idle_timeout)


def check_idle_timeout(name: str, timeout: timedelta, idle_timeout: timedelta) -> None:
    """Raise ConfigurationError unless 1 ms <= *timeout* <= the session's idle timeout."""
    if type(timeout) is not timedelta or not _SHORTEST <= timeout <= idle_timeout:
        raise ConfigurationError(
            f"compartment {name}: its idle timeout lies between 1 ms and the session's, {idle_timeout}, not {timeout!r}"
        )
