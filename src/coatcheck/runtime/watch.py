"""Watching the sessions of connections that stay open, so that these can be closed when a session ends.

Endings are heard from the store as they happen. What can be missed is asked for: whether a session lives is looked up
when it comes under watch, whenever the listener has connected again, when it must have expired if nobody has used it,
and once a minute. Nothing runs while nothing is watched.

That is not asked of anonymous sessions: a sign-in removes their record too, and is no end. For them a missed ending
stays missed.
"""

import asyncio
import heapq
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Final
from weakref import WeakKeyDictionary

from coatcheck.model.errors import SessionError
from coatcheck.model.events import Event, EventType
from coatcheck.model.session import Session
from coatcheck.model.ticket import Handle
from coatcheck.runtime.aio import AsyncSessions
from coatcheck.runtime.listener import listen

log = logging.getLogger("coatcheck")

_ENDS: Final = frozenset({EventType.REPLAYED, EventType.REVOKED, EventType.EVICTED, EventType.EXPIRED})
_AT_ONCE: Final = 500  # sessions looked up in one round trip
_LONGEST: Final = timedelta(minutes=1)
_AGAIN: Final = timedelta(seconds=1)
_MARGIN: Final = timedelta(milliseconds=20)


class Watch:
    """Watches sessions of *sessions*, on each event loop by itself."""

    def __init__(self, sessions: AsyncSessions) -> None:
        """Watch nothing yet."""
        self._sessions = sessions
        self._of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = WeakKeyDictionary()

    async def until_ended(self, session: Session) -> None:
        """Wait until *session*, as it is stored now, has ended. A rotation is no end; to bind it anew is."""
        loop = asyncio.get_running_loop()
        watch = self._of_loop.get(loop)
        if watch is None:
            watch = self._of_loop[loop] = _Watch(self._sessions)
        await watch.until_ended(session)


@dataclass(slots=True)
class _Watched:
    """A session, and those who wait for its end."""

    session: Session
    waiting: set[asyncio.Future[None]] = field(default_factory=set)
    due: float = 0.0
    """When to look it up, by the loop's clock."""


class _Watch:
    """What one event loop watches."""

    def __init__(self, sessions: AsyncSessions) -> None:
        self._sessions = sessions
        self._watched: dict[Handle, _Watched] = {}
        self._due: list[tuple[float, int, Handle]] = []  # a heap: when to look up which
        self._order = count()
        self._has_due = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def until_ended(self, session: Session) -> None:
        handle, end = session.handle, asyncio.get_running_loop().create_future()
        if handle is None:
            return
        watched = self._watched.setdefault(handle, _Watched(session))
        watched.waiting.add(end)
        if session.subject is not None:
            self._look_up(handle, timedelta(0))
        if not self._tasks:
            self._begin()
        try:
            await end
        finally:
            watched.waiting.discard(end)
            if not watched.waiting and self._watched.get(handle) is watched:
                del self._watched[handle]
            if not self._watched:
                self._stop()

    def _begin(self) -> None:
        self._tasks = {asyncio.create_task(self._listen()), asyncio.create_task(self._look())}

    async def _listen(self) -> None:
        channel = self._sessions.open_channel()
        own = asyncio.current_task()  # a cancellation can be lost where it meets a reply; this cannot
        await listen(channel, self._hear, tried=self._tried, is_wanted=lambda: own in self._tasks)

    def _stop(self) -> None:
        self._due.clear()
        self._has_due = asyncio.Event()  # the former one refers to the loop, which would never be freed
        for task in self._tasks:
            _ending.add(task)
            task.add_done_callback(_ending.discard)
            task.cancel()
        self._tasks = set()

    async def _hear(self, event: Event) -> None:
        if self._sessions.leases is not None:
            self._sessions.leases.hear(event)
        if event.type not in _ENDS:
            return
        if event.handle is not None:
            self._end(event.handle)
            return
        for handle, watched in list(self._watched.items()):  # everybody's of the partition, created by then
            created_at = watched.session.created_at
            if handle.partition == event.partition and created_at is not None and created_at <= event.at:
                self._end(handle)

    def _tried(self, is_connected: bool) -> None:  # noqa: FBT001  a callback's
        if is_connected:
            for handle, watched in self._watched.items():
                if watched.session.subject is not None:
                    self._look_up(handle, timedelta(0))

    def _look_up(self, handle: Handle, after: timedelta) -> None:
        due = self._watched[handle].due = asyncio.get_running_loop().time() + after.total_seconds()
        heapq.heappush(self._due, (due, next(self._order), handle))
        self._has_due.set()

    async def _look(self) -> None:
        """Look up what is due, as it gets due."""
        own = asyncio.current_task()
        while own in self._tasks:
            self._has_due.clear()
            now = asyncio.get_running_loop().time()
            asked: dict[Handle, _Watched] = {}
            while self._due and self._due[0][0] <= now and len(asked) < _AT_ONCE:
                due, _, handle = heapq.heappop(self._due)
                watched = self._watched.get(handle)
                if watched is not None and watched.due == due:  # it is still watched, and not to be looked up later
                    asked[handle] = watched
            if asked:
                await self._settle(asked)
            elif not self._due or self._due[0][0] > now:
                wait = self._due[0][0] - now if self._due else None
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._has_due.wait()

    async def _settle(self, asked: dict[Handle, _Watched]) -> None:
        """End what has ended, and say when to look up the others again."""
        dues = {handle: watched.due for handle, watched in asked.items()}
        try:
            lives = await self._sessions.time_left([watched.session for watched in asked.values()])
        except SessionError as error:
            log.warning("session_watch_failed", extra={"count": len(asked), "error": str(error)})
            lives = [_AGAIN] * len(asked)
        for (handle, watched), left in zip(asked.items(), lives, strict=True):
            if left <= timedelta(0):
                self._end(handle)
            elif self._watched.get(handle) is watched and watched.due == dues[handle]:  # else it is due again already
                self._look_up(handle, min(left + _MARGIN, _LONGEST))

    def _end(self, handle: Handle) -> None:
        watched = self._watched.pop(handle, None)
        for end in watched.waiting if watched else ():
            if not end.done():
                end.set_result(None)


_ending: Final[set[asyncio.Task[None]]] = set()  # a loop alone does not keep its tasks
