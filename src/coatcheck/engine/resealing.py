"""Sealing stored records anew with the first key of the ring, in the background."""

import logging
from dataclasses import dataclass
from typing import Any, Final

from coatcheck.engine import scripts
from coatcheck.engine.keys import Keys
from coatcheck.engine.transport import Transport
from coatcheck.model.errors import RecordCorrupted
from coatcheck.model.partition import TAGS
from coatcheck.model.record import Records, fingerprint
from coatcheck.model.ticket import Handle

log = logging.getLogger("coatcheck")

_PARTITION_OF: Final = {tag: partition for partition, tag in enumerate(TAGS)}


@dataclass(frozen=True, slots=True)
class Resealed:
    """What a run has found.

    seen: records looked at. resealed: those now sealed with the first key. changed: those written by somebody else in
    that moment; another run looks at them again. unreadable: those that no key of the ring opens; they are left alone.
    """

    seen: int = 0
    resealed: int = 0
    changed: int = 0
    unreadable: int = 0

    def __add__(self, other: "Resealed") -> "Resealed":
        """Add up two runs."""
        return Resealed(
            self.seen + other.seen,
            self.resealed + other.resealed,
            self.changed + other.changed,
            self.unreadable + other.unreadable,
        )


async def reseal(transport: Transport, keys: Keys, records: Records, batch: int) -> Resealed:
    """Seal with the first key what is not; see `Operations.reseal`."""
    if batch < 1:
        raise ValueError("batch must be at least 1")
    total, cursor = Resealed(), 0
    while True:
        cursor, stored = await scan(transport, keys, cursor, batch)
        if stored:
            total += await _reseal(transport, records, stored)
        if cursor == 0:
            return total


async def scan(transport: Transport, keys: Keys, cursor: int, batch: int) -> tuple[int, list[tuple["Sealed", bytes]]]:
    """Look at about *batch* keys of the database; give where to go on (0: nowhere), and the records among them."""
    ((cursor, names),) = await transport.call(("SCAN", cursor, "MATCH", keys.all_records, "COUNT", batch))
    sealed = [sealed for name in names if (sealed := Sealed.parse(name.decode(errors="replace"))) is not None]
    found: list[Any] = await transport.call(*(("GET", one.name) for one in sealed)) if sealed else []
    return int(cursor), [(one, record) for one, record in zip(sealed, found, strict=True) if record is not None]


@dataclass(frozen=True, slots=True)
class Sealed:
    """A key of the store, and what it holds: the record of a session, or of one of its compartments."""

    name: str
    handle: Handle
    compartment: str

    @classmethod
    def parse(cls, name: str) -> "Sealed | None":
        """Take the name of a key apart; None for a key that is none of ours."""
        tag, _, rest = name.rpartition("{")[2].partition("}:")
        handle, _, compartment = rest[2:].partition(":")
        try:
            return cls(name, Handle.parse(f"{_PARTITION_OF[tag]:02x}.{handle}"), compartment)
        except (KeyError, ValueError):
            return None


async def _reseal(transport: Transport, records: Records, stored: list[tuple[Sealed, bytes]]) -> Resealed:
    commands, unreadable = [], 0
    for sealed, record in stored:
        try:
            fresh = records.reseal(sealed.handle, record, sealed.compartment)
        except RecordCorrupted:
            log.exception("session_record_corrupted", extra={"handle": str(sealed.handle)})
            unreadable += 1
            continue
        if fresh is not None:
            commands.append(scripts.RESEAL.command((sealed.name,), fingerprint(record), fresh))
    done = sum(await transport.call(*commands)) if commands else 0
    return Resealed(len(stored), done, len(commands) - done, unreadable)
