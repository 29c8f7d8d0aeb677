"""AsyncSessions: the operations over asyncio."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Self

from coatcheck.engine.clock import Clock
from coatcheck.engine.operations import Operations
from coatcheck.model.events import EventType
from coatcheck.model.policy import SessionPolicy
from coatcheck.runtime import listener
from coatcheck.runtime.address import Address, Keys, prefix_or_default
from coatcheck.runtime.asynchronous import AsyncTransport
from coatcheck.runtime.channel import AsyncChannel
from coatcheck.runtime.near import links_of
from coatcheck.runtime.outbox import outbox_or_default


class AsyncSessions(Operations):
    """The sessions of an application, for asyncio. Make one when the application starts; it may be global.

        sessions = coatcheck.AsyncSessions("redis://localhost")
        session = await sessions.load(identifier)

    It connects when it is first used, once for each event loop, and closes with the loop.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        keys: Keys = None,
        policy: SessionPolicy | None = None,
        prefix: str | None = None,
        outbox: Path | Literal[False] | None = None,
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        """Use the store at *url* (COATCHECK_URL; ``embedded://``), sealing with *keys* (COATCHECK_KEYS).

        keys: also a `Path`, of a file with one key a line (COATCHECK_KEYS_FILE); it is read now, and not again.
        prefix: what key names begin with (COATCHECK_PREFIX; "cc"). clock: for tests, which move it.
        outbox: a file in which ends that the store did not confirm outlive this process (COATCHECK_OUTBOX);
        False: none, whatever the environment names. Processes that share one have the same keys.
        options: deadline (a timedelta), max_connections and redis-py's (`coatcheck.runtime.settings`).
        Raises ConfigurationError.
        """
        address = Address(url)
        transport = AsyncTransport(address, options)
        transport.settings.check(policy)
        keyring = address.keyring(keys)
        prefix = prefix_or_default(prefix)
        journal = outbox_or_default(outbox, prefix, keyring)
        super().__init__(transport, keyring=keyring, policy=policy, prefix=prefix, clock=clock, journal=journal)
        self.open_channel: Final = partial(AsyncChannel, transport, prefix)
        self._subscribers = listener.Subscribers(may_await=True, leases=self.leases)
        self._near_links = links_of(transport, self.near, self.policy, prefix)
        self._close_transport = transport.aclose
        self._leave = address.leave

    def on(self, *types: EventType) -> Callable[[listener.C], listener.C]:
        """Decorate a function to be called with each Event of *types* (none given: of any) while this listens.

        One event at a time, in order; coroutine functions are awaited. What they raise is logged.
        """
        return self._subscribers.add(types)

    async def listen(self) -> None:
        """Tell the functions registered with `on` what happens to sessions, in any process, until cancelled.

        Connects again when the connection is lost, and never raises. An event is told at most once: what happened
        while there was no connection is not told. `read_events` misses nothing.
        """
        await listener.listen(self.open_channel(), self._subscribers.tell)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen in the background for as long as the block runs: ``async with sessions.listening():``.

        The block begins when the connection is there, or when the first attempt to connect has failed.
        """
        tried = asyncio.Event()
        work = listener.listen(self.open_channel(), self._subscribers.tell, tried=lambda _: tried.set())
        task = asyncio.create_task(work)
        try:
            await tried.wait()
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def close(self) -> None:
        """Close the connections of the running loop, and leave the embedded server."""
        if self._near_links is not None:
            self._near_links.close()
        await self._close_transport()
        self._leave()

    async def __aenter__(self) -> Self:
        """Use it in an ``async with``, which closes it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()
