"""What a call consists of on its way: the commands for each server, and what is left to do."""

from dataclasses import dataclass, field
from typing import Any, Final

from coatcheck.engine.scripts import BY_SHA
from coatcheck.engine.transport import Command
from coatcheck.runtime.address import Node

ALONG: Final = -1
"""The place of a command that the engine has not asked for: it only goes along with another."""


@dataclass(slots=True, eq=False)
class Batch:
    """Commands for one server, and what came back.

    places: of each command in the engine's call; -1 for one that only goes along. replies: those that came, errors of
    the server among them. error: why the others did not. is_sentinel: the server is a sentinel.
    """

    node: Node
    commands: list[Command] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    is_sentinel: bool = False
    replies: list[Any] = field(default_factory=list)
    error: Exception | None = None

    @property
    def is_good(self) -> bool:
        """Whether all replies came, and no error is among them."""
        return self.error is None and not any(isinstance(reply, Exception) for reply in self.replies)

    def add(self, command: Command, place: int = ALONG) -> None:
        """Have *command* sent too."""
        self.commands.append(command)
        self.places.append(place)


class Call:
    """What is left to do of a call."""

    __slots__ = ("asked", "commands", "ends_at", "missing", "replies", "retries", "split", "trouble", "unknown")

    def __init__(self, commands: tuple[Command, ...], ends_at: float) -> None:
        self.commands = commands
        self.ends_at = ends_at
        self.replies: list[Any] = [None] * len(commands)
        self.missing: list[int] = list(range(len(commands)))
        self.asked: dict[int, Node] = {}  # where a command is to be tried once, since its slot is moving there
        self.unknown: set[int] = set()  # commands whose script has to be loaded first
        self.split: list[int] = []  # reads of several keys that no node has together, since their slot is moving
        self.retries = 0
        self.trouble: Exception | None = None

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
