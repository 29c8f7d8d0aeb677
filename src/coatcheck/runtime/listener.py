"""Listening to what happens to sessions, and telling it in this process.

Telling is at most once: what happens while the connection to the store is lost, or while nobody listens, is not told
afterwards. `Operations.read_events` is for who must miss nothing.
"""

import inspect
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from coatcheck.engine.leases import Leases
from coatcheck.model.errors import SessionError
from coatcheck.model.events import Event, EventType
from coatcheck.runtime.channel import Channel

log = logging.getLogger("coatcheck")

Tell = Callable[[Event], Awaitable[None]]
C = TypeVar("C", bound=Callable[[Event], object])

_SILENCE: Final = 1.0  # seconds: after this the server is asked whether it is still there
_SHORTEST_PAUSE_MS: Final = 50
_LONGEST_PAUSE_MS: Final = 2000


class Subscribers:
    """The functions of this process that want to be told."""

    def __init__(self, *, may_await: bool, leases: Leases | None = None) -> None:
        """Begin with none. may_await: whether they may be coroutine functions. leases: are told of all."""
        self._leases = leases
        self._may_await = may_await
        self._callbacks: list[tuple[frozenset[EventType], Callable[[Event], object]]] = []

    def add(self, types: tuple[object, ...]) -> Callable[[C], C]:
        """Make a decorator that adds a function, for events of *types*, or of every type."""
        wanted = frozenset(kind for kind in types if isinstance(kind, EventType))
        if len(wanted) < len(types):
            raise TypeError("what is not an EventType cannot be listened for: write @sessions.on(EventType.REVOKED)")

        def register(callback: C) -> C:
            if inspect.iscoroutinefunction(callback) and not self._may_await:
                raise TypeError(f"{callback!r} is a coroutine function: only AsyncSessions can await it")
            self._callbacks.append((wanted or frozenset(EventType), callback))
            return callback

        return register

    async def tell(self, event: Event) -> None:
        """Call those whom *event* concerns, one after the other. What they raise is logged."""
        if self._leases is not None:
            self._leases.hear(event)
        for types, callback in tuple(self._callbacks):
            if event.type not in types:
                continue
            try:
                answer = callback(event)
                if inspect.isawaitable(answer):
                    await answer
            except Exception:
                log.exception(
                    "session_subscriber_failed", extra={"event": event.type.value, "callback": repr(callback)}
                )


async def listen(
    channel: Channel,
    tell: Tell,
    *,
    tried: Callable[[bool], None] = lambda _: None,
    is_wanted: Callable[[], bool] = lambda: True,
) -> None:
    """Tell what comes over *channel* for as long as *is_wanted*; connect again when that is lost. Never raises.

    tried: called after each attempt to connect, with whether the connection is there (again): before that,
        something may have been missed.
    """
    failures = 0
    while is_wanted():
        try:
            await channel.open()
            failures = 0
            log.info("session_listener_connected")
            tried(True)  # noqa: FBT003  the parameter of a callback
            while is_wanted():
                event = await channel.hear(_SILENCE)
                if event is not None:
                    await tell(event)
        except SessionError as error:
            failures += 1
            if failures == 1:
                log.warning("session_listener_lost", extra={"error": str(error)})
        except Exception:
            failures += 1
            log.exception("session_listener_failed")
        finally:
            await channel.close()
        if failures:
            tried(False)  # noqa: FBT003  the same
            await channel.pause(pause_after(failures))
            with suppress(SessionError):
                await channel.revive()


def pause_after(failures: int) -> float:
    """Say how long to wait before the next attempt, in seconds: longer each time, and not all processes at once."""
    longest = min(_LONGEST_PAUSE_MS, _SHORTEST_PAUSE_MS << min(failures, 10))
    return (longest // 2 + secrets.randbelow(longest // 2 + 1)) / 1000
