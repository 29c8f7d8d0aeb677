"""What a call consists of on its way: the commands for each server, and what is left to do."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from redis.exceptions import TimeoutError as NoAnswer

from coatcheck.engine.scripts import BY_SHA, MARK
from coatcheck.engine.transport import Command
from coatcheck.runtime.address import Node

ALONG: Final = -1
"""The place of a command that the engine has not asked for: it only goes along with another."""


BEHIND: Final = -2
"""The place of the command that waits for the others of its batch to be durable."""

WAITING: Final = frozenset({"WAIT", "WAITAOF"})
"""Commands for which the server lets a connection wait. Nobody else may be behind them on it."""

_WAITS_AT_MOST: Final = 0.8
_SERVER_IS_LATE: Final = 0.11
"""Seconds: servers look ten times a second whether a wait is over, and say so up to a tenth of a second late."""


def longest_wait(seconds: float) -> float:
    """Give for how long a server may wait where the reply has to be there in so many *seconds*."""
    return max(0.001, min(seconds * _WAITS_AT_MOST, seconds - _SERVER_IS_LATE))


def time_for(wait: float) -> float:
    """Give in how many seconds the reply is there where a server may *wait* for so long: what `longest_wait` undoes."""
    return max(wait / _WAITS_AT_MOST, wait + _SERVER_IS_LATE)


@dataclass(slots=True, eq=False)
class Batch:
    """Commands for one server, and what came back.

    places: of each command in the engine's call; -1 for one that only goes along. replies: those that came, errors of
    the server among them. error: why the others did not. is_sentinel: the server is a sentinel. wait: the command that
    waits, without its limit shortened; a batch that has one needs a connection of its own.
    """

    node: Node
    commands: list[Command] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    is_sentinel: bool = False
    replies: list[Any] = field(default_factory=list)
    error: Exception | None = None
    wait: Command | None = None

    @classmethod
    def of(
        cls,
        node: Node,
        commands: Sequence[Command],
        *,
        replies: list[Any] | None = None,
        error: Exception | None = None,
    ) -> Self:
        """Make the batch of a whole call, with what has come of it."""
        return cls(node, list(commands), list(range(len(commands))), replies=replies or [], error=error)

    def close(self, seconds_left: float) -> None:
        """Add the command that waits, if there is one, for no longer than there is time. To be called once."""
        if self.wait is not None:
            *words, limit = self.wait
            self.add((*words, min(int(limit), int(longest_wait(seconds_left) * 1000))), BEHIND)

    def end_wait(self) -> None:
        """Where all is answered but the command that waits, have its reply be that nobody has confirmed anything.

        What it waits for has been carried out: that is no unknown outcome.
        """
        if self.wait is not None and isinstance(self.error, NoAnswer) and self.places[len(self.replies) :] == [BEHIND]:
            self.replies.append(0 if self.wait[0] == "WAIT" else [0, 0])
            self.error = None

    def add(self, command: Command, place: int = ALONG) -> None:
        """Have *command* sent too."""
        self.commands.append(command)
        self.places.append(place)


class Call:
    """What is left to do of a call."""

    __slots__ = (
        "asked",
        "commands",
        "confirmed",
        "ends_at",
        "missing",
        "replies",
        "retries",
        "sent_at",
        "split",
        "trouble",
        "unknown",
        "wait",
    )

    def __init__(self, commands: tuple[Command, ...], ends_at: float, wait: Command | None = None) -> None:
        self.commands = commands
        self.wait = wait
        self.confirmed: Any = None  # the least that the servers have replied to *wait*
        self.ends_at = ends_at
        self.replies: list[Any] = [None] * len(commands)
        self.missing: list[int] = list(range(len(commands)))
        self.asked: dict[int, Node] = {}  # where a command is to be tried once, since its slot is moving there
        self.unknown: set[int] = set()  # commands whose script has to be loaded first
        self.split: list[int] = []  # reads of several keys that no node has together, since their slot is moving
        self.retries = 0
        self.sent_at = 0.0  # the last attempt (monotonic, seconds)
        self.trouble: Exception | None = None

    def confirm(self, reply: Any) -> None:
        """Take note of what a server has replied to the command that waits."""
        known = self.confirmed
        if known is None:
            self.confirmed = reply
        elif isinstance(reply, int):
            self.confirmed = min(known, reply)
        else:
            self.confirmed = [min(pair) for pair in zip(known, reply, strict=True)]

    def unconfirmed(self, batch: Batch, lacking: list[int]) -> list[int]:
        """Say what of a *batch* that waits has to be sent again where *lacking* has no reply.

        All of it: the wait counts for its connection, and another server may lack the rest. But where only scripts were
        unknown, the rest stands, and a mark behind it is enough: sent again, it would reply that nothing was to do.
        """
        places = [place for place in batch.places if place >= 0]
        if not all(place in self.unknown for place in lacking):
            return places
        marks = (place for place in places if self.commands[place][:2] == ("EVALSHA", MARK.sha))
        return sorted({*lacking, *marks})

    def join(self, batch: Batch, place: int) -> None:
        """Add the command at *place* to *batch*, and what has to go before it."""
        command = self.commands[place]
        if place in self.unknown:
            load = ("SCRIPT", "LOAD", BY_SHA[str(command[1])].source)
            if load not in batch.commands:
                batch.add(load)
        if place in self.asked:
            batch.add(("ASKING",))
        batch.add(command, place)
