"""What the engine asks of a transport: to carry commands, and to wait.

The engine is `async def` throughout and awaits nothing else, so the same code runs over an asyncio
transport and, stepped by hand, over a blocking one.
"""

from typing import Any, Protocol

from coatcheck.engine.checkup import Seen

Argument = str | bytes | int
Command = tuple[Argument, ...]


class Signal(Protocol):
    """What one of an application's tasks or threads waits for and another gives, once."""

    async def wait(self) -> bool:
        """Wait until it is given, for a quarter of the time that its maker had left; say whether it was."""
        ...

    def give(self) -> bool:
        """Let who waits for it go on, in whatever thread or event loop that is; False if nobody can be waiting."""
        ...


class Transport(Protocol):
    """A way to a server."""

    async def call(self, *commands: Command) -> list[Any]:
        """Carry *commands* out, in order where their keys share a slot, in one round trip; return their replies.

        Replies are as the server gives them in RESP2: bytes, int, list, None.

        Raises StoreUnavailable when a reply is missing: the command may or may not have been carried out,
        and every command of the engine may be sent again. Raises ConfigurationError when the server
        refuses the credentials. A WAIT or WAITAOF at the end is sent to every server behind its share of the others,
        and its reply is the least of theirs; should a reply be missing there, that share is sent again with it. It
        waits no longer than the call has time; if it says nothing by then, it counts as if nobody had confirmed
        anything. A script the server does not know is loaded and called again.

        It has a deadline for itself, or what is left of the operation's (`coatcheck.engine.deadline`): where that is
        over, nothing is sent, and StoreUnavailable is raised.
        """
        ...

    def time_left(self) -> float:
        """Say how many seconds a call has that is made here and now. Raises StoreUnavailable for as good as none."""
        ...

    async def has_stood_since(self, moment: float) -> bool:
        """Make sure that no server has taken another's place since *moment* (monotonic, seconds); False: one has.

        For an answer that is costly if it comes from a server that had been replaced: False means to ask again. It has
        as much time as a call. Raises StoreUnavailable where it cannot be found out.
        """
        ...

    async def survey(self) -> list[Seen]:
        """Ask every primary, and every sentinel there is, how it is set up. Raises StoreUnavailable."""
        ...

    async def pause(self, seconds: float) -> None:
        """Wait."""
        ...

    def signal(self) -> Signal:
        """Make a signal for the caller to wait for."""
        ...
