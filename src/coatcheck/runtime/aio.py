"""AsyncSessions: the operations over asyncio."""

from typing import Any, Self

from coatcheck.engine.clock import Clock
from coatcheck.engine.operations import Operations
from coatcheck.model.policy import SessionPolicy
from coatcheck.runtime.address import Address, Keys, prefix_or_default
from coatcheck.runtime.transport import AsyncTransport


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
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        """Use the store at *url* (COATCHECK_URL; ``embedded://``), sealing with *keys* (COATCHECK_KEYS).

        keys: also a `Path`, of a file with one key a line (COATCHECK_KEYS_FILE); it is read now, and not again.
        prefix: what key names begin with (COATCHECK_PREFIX; "cc"). clock: for tests, which move it.
        options: redis-py's. Raises ConfigurationError.
        """
        address = Address(url)
        transport = AsyncTransport(address, options)
        keyring = address.keyring(keys)
        super().__init__(transport, keyring=keyring, policy=policy, prefix=prefix_or_default(prefix), clock=clock)
        self._close_transport = transport.aclose
        self._leave = address.leave

    async def close(self) -> None:
        """Close the connections of the running loop, and leave the embedded server."""
        await self._close_transport()
        self._leave()

    async def __aenter__(self) -> Self:
        """Use it in an ``async with``, which closes it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()
