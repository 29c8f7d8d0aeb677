"""The channels on which the store tells lifecycle events (lua/events.lua), over a connection of its own.

The store keeps nothing for who is not connected: what is told meanwhile is lost. `Operations.read_events` is for who
must miss nothing. Channels know no database numbers: applications in two databases of a server need two prefixes.
"""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any, Final

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from coatcheck.engine.keys import Keys
from coatcheck.model.errors import StoreUnavailable
from coatcheck.model.events import Event, EventType
from coatcheck.model.partition import TAGS
from coatcheck.model.session import instant
from coatcheck.model.ticket import Handle
from coatcheck.runtime.carrier import Carrier
from coatcheck.runtime.errors import translated

log = logging.getLogger("coatcheck")

_PARTITION_OF: Final = {tag: partition for partition, tag in enumerate(TAGS)}
_PATIENCE_SECONDS: Final = 2.0  # for connecting and subscribing: nobody waits for an event as for a page


class Channel(ABC):
    """A way to hear the events of one prefix. What it raises is a SessionError.

    A Cluster tells every event on each of its nodes: one connection is enough there too.
    """

    def __init__(self, carrier: Carrier, prefix: str) -> None:
        """Hear the events of *prefix* where *carrier* leads to. Nothing is sent yet."""
        self._carrier = carrier
        self._address = carrier.address
        self._pattern = Keys(prefix).all_events
        self._has_asked = False
        self._found_at = 0.0

    async def open(self) -> None:
        """Subscribe, over a new connection; return once the server has said that it tells from now on."""
        try:
            await self._connect()
            if await self._next(_PATIENCE_SECONDS) is None:
                raise StoreUnavailable(f"{self._address} does not answer")
        except (RedisError, OSError) as error:
            raise translated(error, self._address) from error

    async def hear(self, seconds: float) -> Event | None:
        """Wait up to *seconds* for an event; None if nothing has come, or nothing that is understood.

        Raises StoreUnavailable also when nothing has come twice, though the server was asked to answer, and when
        another has taken its place: it may go on telling of what no longer counts.
        """
        if self._carrier.topology.changed_at > self._found_at:
            raise StoreUnavailable(f"{self._address} has another primary")
        try:
            message = await self._next(seconds)
            if message is None:
                if self._has_asked:
                    raise StoreUnavailable(f"{self._address} does not answer")
                await self._ask()
            self._has_asked = message is None
        except (RedisError, OSError) as error:
            raise translated(error, self._address) from error
        return None if message is None or message["type"] != "pmessage" else _event(message)

    async def close(self) -> None:
        """Close the connection, if there is one."""
        self._has_asked = False
        with suppress(RedisError, OSError):
            await self._disconnect()

    async def _where(self) -> dict[str, Any]:
        """Give redis-py's options for a client of a primary."""
        node, options = await self._carrier.primary(), dict(self._carrier.settings.connection)
        self._found_at = time.monotonic()
        options |= {"socket_timeout": _PATIENCE_SECONDS, "socket_connect_timeout": _PATIENCE_SECONDS}
        if not node.port:
            return options | {"unix_socket_path": node.host}
        return options | {"host": node.host, "port": node.port, "ssl": self._address.has_tls}

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Wait."""

    @abstractmethod
    async def revive(self) -> None:
        """Start the embedded server again, if it is that and has stopped."""

    @abstractmethod
    async def _connect(self) -> None: ...

    @abstractmethod
    async def _next(self, seconds: float) -> dict[str, Any] | None: ...

    @abstractmethod
    async def _ask(self) -> None: ...

    @abstractmethod
    async def _disconnect(self) -> None: ...


class AsyncChannel(Channel):
    """For asyncio."""

    _client: redis.asyncio.Redis | None = None
    _hub: redis.asyncio.client.PubSub

    async def pause(self, seconds: float) -> None:
        """Wait, letting other tasks run."""
        await asyncio.sleep(seconds)

    async def revive(self) -> None:
        """See `Channel.revive`."""
        await asyncio.to_thread(self._address.revive)

    async def _connect(self) -> None:
        self._client = redis.asyncio.Redis(**await self._where(), retry=AsyncRetry(NoBackoff(), 0))
        self._hub = self._client.pubsub()
        await self._hub.psubscribe(self._pattern)

    async def _next(self, seconds: float) -> dict[str, Any] | None:
        message: dict[str, Any] | None = await self._hub.get_message(timeout=seconds)
        return message

    async def _ask(self) -> None:
        await self._hub.ping()

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await self._hub.aclose()
            await client.aclose()


class BlockingChannel(Channel):
    """For code without an event loop: its coroutines never suspend."""

    _client: redis.Redis | None = None
    _hub: redis.client.PubSub

    async def pause(self, seconds: float) -> None:
        """Wait, blocking the thread."""
        time.sleep(seconds)  # noqa: ASYNC251  blocking is what this channel is for

    async def revive(self) -> None:
        """See `Channel.revive`."""
        self._address.revive()

    async def _connect(self) -> None:
        self._client = redis.Redis(**await self._where(), retry=Retry(NoBackoff(), 0))
        self._hub = self._client.pubsub()
        self._hub.psubscribe(self._pattern)

    async def _next(self, seconds: float) -> dict[str, Any] | None:
        message: dict[str, Any] | None = self._hub.get_message(timeout=seconds)
        return message

    async def _ask(self) -> None:
        self._hub.ping()

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            self._hub.close()
            client.close()


def _event(message: dict[str, Any]) -> Event | None:
    """Read what was told; None for what is not understood: a later version's, or somebody else's."""
    try:
        partition = _PARTITION_OF[message["channel"].decode().rpartition("{")[2].partition("}")[0]]
        kind, handle, digest, at, by, why = message["data"].decode().split("\n", 5)
        return Event(
            type=EventType(kind),
            partition=partition,
            handle=Handle.parse(f"{partition:02x}.{handle}") if handle else None,
            subject_digest=digest or None,
            at=instant(int(at)),
            by=by or None,
            why=why or None,
        )
    except (LookupError, ValueError, OverflowError):
        log.debug("session_event_not_understood")
        return None
