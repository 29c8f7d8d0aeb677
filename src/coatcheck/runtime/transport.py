"""The two transports: blocking and asyncio, both over redis-py. Its errors become ours here, once."""

import asyncio
import time
from collections.abc import AsyncGenerator
from os import getpid
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff
from redis.connection import AbstractConnection, SSLConnection
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    NoScriptError,
    RedisError,
)
from redis.exceptions import (
    ConnectionError as LostConnection,
)
from redis.exceptions import (
    TimeoutError as NoAnswer,
)
from redis.retry import Retry

from coatcheck.engine.scripts import BY_SHA
from coatcheck.engine.transport import Command
from coatcheck.model.errors import ConfigurationError, SessionError, StoreUnavailable
from coatcheck.runtime.address import Address

Pool = TypeVar("Pool", redis.BlockingConnectionPool, redis.asyncio.BlockingConnectionPool)

_RETRIES: Final = 2
_DENIED_IN_SCRIPT: Final = ("ACL failure in script", "The user executing the script can't")  # Valkey; Redis 7.0
DEFAULTS: Final[dict[str, Any]] = {  # redis-py's options, unless the application says otherwise
    "socket_timeout": 2.0,
    "socket_connect_timeout": 2.0,
    "max_connections": 64,
    "timeout": 2.0,
    "protocol": 2,
    "driver_info": None,
}


class BlockingTransport:
    """A transport for code without an event loop; safe to share among threads and across forks.

    Its coroutines never suspend, so that they can be run by stepping them once.
    """

    def __init__(self, address: Address, options: dict[str, Any]) -> None:
        """Reach *address*, with redis-py's *options*. Nothing is sent yet."""
        self.address = address
        self._options = {**DEFAULTS, "retry": Retry(_backoff(), _RETRIES), "redis_connect_func": _greet, **options}
        self._client: redis.Redis | None = None

    async def call(self, *commands: Command) -> list[Any]:
        """Carry *commands* out; see `Transport.call`."""
        client = self._connected()
        try:
            return self._carry(client, commands)
        except LostConnection as error:
            if _is_refusal(error) or self.address.revive() is None:
                raise translated(error, self.address) from error
        except (RedisError, OSError) as error:
            raise translated(error, self.address) from error
        try:
            if self._client is client:  # else another thread has dropped it; the last that uses it closes it
                self._client = None
            return self._carry(self._connected(), commands)
        except (RedisError, OSError) as error:
            raise translated(error, self.address) from error

    async def pause(self, seconds: float) -> None:
        """Wait, blocking the thread."""
        time.sleep(seconds)  # noqa: ASYNC251  blocking is what this transport is for

    def close(self) -> None:
        """Close every connection; the next call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connected(self) -> redis.Redis:
        client = self._client
        if client is None:
            pool = _checked_pool(redis.BlockingConnectionPool.from_url(self.address.url(), **self._options))
            client = self._client = redis.Redis.from_pool(pool)
        return client

    def _carry(self, client: redis.Redis, commands: tuple[Command, ...]) -> list[Any]:
        if len(commands) == 1:
            try:
                return [client.execute_command(*commands[0])]
            except NoScriptError:
                client.execute_command("SCRIPT LOAD", _source(commands[0]))
                return [client.execute_command(*commands[0])]
        replies = self._pipeline(client, commands)
        if unknown := [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]:
            for source in {_source(commands[i]) for i in unknown}:
                client.execute_command("SCRIPT LOAD", source)
            again = self._pipeline(client, tuple(commands[i] for i in unknown))
            for i, reply in zip(unknown, again, strict=True):
                replies[i] = reply
        return _checked(replies)

    @staticmethod
    def _pipeline(client: redis.Redis, commands: tuple[Command, ...]) -> list[Any]:
        with client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return list(pipeline.execute(raise_on_error=False))


class AsyncTransport:
    """A transport for asyncio; each event loop of each process gets connections of its own."""

    def __init__(self, address: Address, options: dict[str, Any]) -> None:
        """Reach *address*, with redis-py's *options*. Nothing is sent yet."""
        self.address = address
        self._options = {**DEFAULTS, "retry": AsyncRetry(_backoff(), _RETRIES), **options}
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line] = WeakKeyDictionary()

    async def call(self, *commands: Command) -> list[Any]:
        """Carry *commands* out; see `Transport.call`."""
        try:
            return await self._carry(commands)
        except LostConnection as error:
            if _is_refusal(error):
                raise translated(error, self.address) from error
            if await asyncio.to_thread(self.address.revive) is None:
                raise translated(error, self.address) from error
        except (RedisError, OSError) as error:
            raise translated(error, self.address) from error
        try:
            await self.aclose()
            return await self._carry(commands)
        except (RedisError, OSError) as error:
            raise translated(error, self.address) from error

    async def pause(self, seconds: float) -> None:
        """Wait, letting other tasks run."""
        await asyncio.sleep(seconds)

    async def aclose(self) -> None:
        """Close the connections of the running loop; the next call opens new ones."""
        line = self._lines.pop(asyncio.get_running_loop(), None)
        if line is not None:
            await line.keeper.aclose()

    async def _carry(self, commands: tuple[Command, ...]) -> list[Any]:
        client = await self._client()
        if len(commands) == 1:
            try:
                return [await client.execute_command(*commands[0])]
            except NoScriptError:
                await client.execute_command("SCRIPT LOAD", _source(commands[0]))
                return [await client.execute_command(*commands[0])]
        replies = await self._pipeline(client, commands)
        if unknown := [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]:
            for source in {_source(commands[i]) for i in unknown}:
                await client.execute_command("SCRIPT LOAD", source)
            again = await self._pipeline(client, tuple(commands[i] for i in unknown))
            for i, reply in zip(unknown, again, strict=True):
                replies[i] = reply
        return _checked(replies)

    @staticmethod
    async def _pipeline(client: redis.asyncio.Redis, commands: tuple[Command, ...]) -> list[Any]:
        async with client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return list(await pipeline.execute(raise_on_error=False))

    async def _client(self) -> redis.asyncio.Redis:
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None or line.pid != getpid():
            url = await asyncio.to_thread(self.address.url)
            line = self._lines.get(loop)
            if line is None or line.pid != getpid():  # no other task has connected meanwhile
                line = self._lines[loop] = _Line(url, self._options, self._lines)
                await anext(line.keeper)
        return line.client


class _Line:
    """The connections of one event loop in one process."""

    def __init__(
        self, url: str, options: dict[str, Any], lines: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Line]"
    ) -> None:
        self.pid = getpid()
        pool = _checked_pool(redis.asyncio.BlockingConnectionPool.from_url(url, **options))
        self.client = redis.asyncio.Redis.from_pool(pool)
        self.keeper = self._close_with_loop(lines)

    async def _close_with_loop(
        self, lines: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Line]"
    ) -> AsyncGenerator[None, None]:
        """Close when the generator is closed: by hand, or by its loop, which closes generators when it ends.

        It must be taken out of *lines* too: the connections may refer to the loop, which would never be freed.
        """
        try:
            yield
        finally:
            loop = asyncio.get_running_loop()
            if lines.get(loop) is self:
                del lines[loop]
            await self.client.aclose()


def _checked_pool(pool: Pool) -> Pool:
    """Make one connection, without connecting it, to see that redis-py knows the options. Raises ConfigurationError."""
    try:
        pool.connection_class(**pool.connection_kwargs)
    except TypeError as error:
        raise ConfigurationError(f"redis-py does not take these options: {error}") from None
    return pool


def _greet(connection: AbstractConnection) -> None:
    """Set up a new connection, and exchange one command on it.

    Over TLS 1.3 the server sends session tickets after the handshake. redis-py (8.1) takes unread ones for a
    stray reply and gives the connection up ("Connection not ready"); a reply that is read takes them along.
    """
    connection.on_connect()
    if isinstance(connection, SSLConnection):
        connection.send_command("TIME")
        connection.read_response()


def _backoff() -> ExponentialWithJitterBackoff:
    return ExponentialWithJitterBackoff(base=0.01, cap=0.1)


def _source(command: Command) -> str:
    return BY_SHA[str(command[1])].source


def _checked(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _is_refusal(error: Exception) -> bool:
    """Say whether the server refuses the credentials; asyncio's redis-py wraps that in a lost connection."""
    return any(isinstance(reason, AuthenticationError | AuthorizationError) for reason in (error, error.__cause__))


def _is_denial(error: Exception) -> bool:
    """Say whether the user lacks a permission; servers word it otherwise where it was a script's command."""
    return isinstance(error, NoPermissionError) or str(error).startswith(_DENIED_IN_SCRIPT)


def translated(error: Exception, address: Address) -> SessionError:
    """Say in our words what *error* of redis-py means."""
    if _is_refusal(error):
        return ConfigurationError(f"{address} refuses the user or the password: {error}")
    if _is_denial(error):
        return ConfigurationError(f"{address} does not let this user do what sessions need: {error}")
    if isinstance(error, LostConnection | NoAnswer | OSError):
        return StoreUnavailable(f"{address} cannot be reached: {error}")
    return StoreUnavailable(f"{address} refused a command: {error}")
