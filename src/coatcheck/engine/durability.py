"""Waiting until a write is as durable as the policy asks.

The command that waits (WAIT, WAITAOF) goes along with the write, behind it and on its connection: inside a script it
would not wait. What it waits for is the last write *of its connection*. A script that is sent again after a lost reply
may find its work done and write nothing; so a mark is written behind it, which comes after that work whoever did it.
See docs/decisions/0022.
"""

import logging
from collections.abc import Set as AbstractSet
from typing import Any, Final

from msgspec import Struct

from coatcheck.engine import scripts
from coatcheck.engine.keys import Keys
from coatcheck.engine.transport import Command, Transport
from coatcheck.model.durability import Durability, Level, Reached, Write
from coatcheck.model.errors import DurabilityNotReached
from coatcheck.model.policy import milliseconds

log = logging.getLogger("coatcheck")

AS_LONG_AS_THERE_IS: Final = 60_000
"""ms: longer than any deadline, which the transport shortens it to."""

_MARK_FOR: Final = 1000


class Receipt(Struct, gc=False):  # no cycle leads through it
    """What a write is, and how far it has got: None where nothing was waited for, the worst of several calls."""

    write: Write
    reached: Reached | None = None

    def add(self, reached: Reached) -> None:
        """Take note of a call."""
        if self.reached is None or not self.reached.is_short:
            self.reached = reached


class Waits:
    """What is sent behind writes under one policy.

    is_ever: whether anything is ever waited for.
    """

    __slots__ = ("_durability", "_has_waitaof", "_keys", "is_ever")

    def __init__(self, durability: Durability | None, keys: Keys) -> None:
        """Wait as *durability* says; None: never."""
        self._durability = durability
        self._keys = keys
        self._has_waitaof = False
        self.is_ever = durability is not None

    def behind(self, receipt: Receipt | None, partitions: AbstractSet[int]) -> tuple[Command, ...]:
        """Give what to send behind a write to *partitions*: nothing, or marks and the command that waits."""
        if self._durability is None:
            return ()
        level = self._level(receipt)
        if level is Level.MEMORY:
            return ()
        timeout = self._durability.timeout
        limit = AS_LONG_AS_THERE_IS if timeout is None else milliseconds(timeout)
        replicas = self._durability.replicas if level.needs_replicas else 0
        marks = (scripts.MARK.command((self._keys.mark(partition),), _MARK_FOR) for partition in sorted(partitions))
        return *marks, ("WAITAOF", 1, replicas, limit) if level.needs_disk else ("WAIT", replicas, limit)

    def is_wanted(self, receipt: Receipt) -> bool:
        """Say whether the policy asks to wait for such a write."""
        return self._level(receipt) is not Level.MEMORY

    async def prepare(self, receipt: Receipt | None, transport: Transport) -> None:
        """Ask once whether the server can wait as wanted, before anything is written. Raises ConfigurationError."""
        if not self._has_waitaof and self._level(receipt).needs_disk:
            await transport.call(("WAITAOF", 1, 0, 1))
            self._has_waitaof = True

    def take(self, receipt: Receipt | None, reply: Any) -> None:
        """Note in *receipt* what the command that waits has replied."""
        if receipt is None or self._durability is None:
            return
        wanted, needed = self._level(receipt), self._durability.replicas
        synced, replicas = reply if wanted.needs_disk else (0, reply)
        reached = Reached.judge(wanted, needed, replicas, is_on_disk=synced > 0)
        receipt.add(reached)
        if reached.is_short:
            log.warning(
                "session_not_durable",
                extra={"write": receipt.write.value, "wanted": wanted.value, "reached": reached.level.value},
            )

    def check(self, receipt: Receipt) -> None:
        """Raise DurabilityNotReached if the policy is strict and the write fell short."""
        reached, durability = receipt.reached, self._durability
        if durability is None or reached is None or not reached.is_short or not durability.strict:
            return
        raise DurabilityNotReached(
            f"{receipt.write.value}: it was carried out and is not as durable as the policy asks, so a failure may "
            f"undo it: wanted {_words(reached.wanted, durability.replicas)}, confirmed by {reached.replicas} replica"
            f"{'' if reached.replicas == 1 else 's'}{', and by the disk' if reached.is_on_disk else ''}. See that the "
            "replicas run and the disk keeps up"
        )

    def _level(self, receipt: Receipt | None) -> Level:
        if receipt is None or self._durability is None:
            return Level.MEMORY
        return self._durability.level_of(receipt.write)


def _words(level: Level, replicas: int) -> str:
    return f"{level.value} ({replicas})" if level.needs_replicas else level.value
