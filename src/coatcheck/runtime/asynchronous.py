"""The transport for asyncio.

The calls of an event loop share a connection to each server (`SharedConnection`). What would hold up the others has
one of its own, from a pool: long batches, and what is asked of sentinels.
"""

import asyncio
from collections.abc import AsyncGenerator
from os import getpid
from threading import get_ident
from time import monotonic
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet, ref

from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as NoAnswer

from coatcheck.engine import deadline
from coatcheck.engine.transport import Command
from coatcheck.model.errors import ConfigurationError
from coatcheck.runtime.address import Address, Kind, Node
from coatcheck.runtime.batch import WAITING, Batch
from coatcheck.runtime.blocking import make_connection, refuse_replica
from coatcheck.runtime.carrier import TELLING, Carrier
from coatcheck.runtime.errors import FOREIGN, Busy, NoHandshake
from coatcheck.runtime.shared import SharedConnection
from coatcheck.runtime.tls import Trust

_LONG: Final = 16
"""Commands of a batch that is not to stand in the way of others."""


class AsyncTransport(Carrier):
    """A transport for asyncio; each event loop of each process gets connections of its own."""

    def __init__(self, address: Address, options: dict[str, Any]) -> None:
        """See `Carrier`."""
        super().__init__(address, options)
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line] = WeakKeyDictionary()
        self._recent: _Line | None = None

    async def pause(self, seconds: float) -> None:
        """Wait, letting other tasks run."""
        await asyncio.sleep(seconds)

    def signal(self) -> "_Signal":
        """See `Transport.signal`."""
        return _Signal(self.patience())

    async def call(self, *commands: Command) -> list[Any]:
        """See `Transport.call`. What nearly every call is, goes this shorter way: over a connection that stands."""
        line, topology, now, operation = self._recent, self.topology, monotonic(), deadline.current()
        left, attempt = self.settings.deadline, self.settings.attempt
        if operation is not None:
            left = self._left(operation, now)
        if (
            line is None  # of most programs the only line
            or (node := topology.sole) is None
            or topology.is_stale
            or now >= topology.renew_at
            or self._breakers
            or not 0 < len(commands) <= _LONG
            or commands[-1][0] in WAITING
            or left < TELLING * attempt
            or line.loop() is not asyncio.get_running_loop()
            or (shared := line.standing(node)) is None
        ):
            return await super().call(*commands)
        self._budget.count()
        try:
            replies = await shared.call(commands, min(left, attempt))
        except (*FOREIGN, Busy) as error:
            return await self._go_on(commands, now + left, now, Batch.of(node, commands, error=error))
        for reply in replies:
            if isinstance(reply, Exception):
                return await self._go_on(commands, now + left, now, Batch.of(node, commands, replies=replies))
        return replies

    async def exchange(self, batches: list[Batch], ends_at: float) -> None:
        """See `Carrier.exchange`. Several servers work at the same time."""
        line = self._lines.get(asyncio.get_running_loop())
        if line is None or line.pid != getpid():
            line = await self._new_line()
        self._recent = line
        if len(batches) == 1:
            await line.exchange(batches[0], ends_at)
            return
        async with asyncio.TaskGroup() as group:
            for batch in batches:
                group.create_task(line.exchange(batch, ends_at))

    def drop(self, node: Node) -> None:
        """See `Carrier.drop`. Of the running loop."""
        if line := self._lines.get(asyncio.get_running_loop()):
            line.drop(node)

    async def aclose(self) -> None:
        """Close the connections of the running loop; the next call opens new ones."""
        line = self._lines.pop(asyncio.get_running_loop(), None)
        if line is not None:
            await line.keeper.aclose()

    async def _join(self) -> Node:
        return await asyncio.to_thread(self.address.join)

    async def _revive(self) -> Node | None:
        return await asyncio.to_thread(self.address.revive)

    async def _new_line(self) -> "_Line":
        line = self._lines[asyncio.get_running_loop()] = _Line(self, self._lines)
        await anext(line.keeper)
        return line


class _Signal:
    """See `coatcheck.engine.transport.Signal`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop, self._thread = asyncio.get_running_loop(), get_ident()
        self._event = asyncio.Event()

    async def wait(self) -> bool:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._event.wait()
        except TimeoutError:
            return self._event.is_set()

    def give(self) -> bool:
        try:
            if get_ident() == self._thread:
                self._event.set()
            else:
                self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:  # the loop is closed
            return False
        return True


class _Line:
    """The connections of one event loop in one process."""

    def __init__(self, transport: AsyncTransport, lines: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Line]") -> None:
        self.pid = getpid()
        self.loop = ref(asyncio.get_running_loop())
        self.keeper = self._close_with_loop(lines)
        self._settings, self._topology, self._address = transport.settings, transport.topology, transport.address
        self._trusts = {False: transport.trust, True: transport.sentinel_trust}
        self._pools: dict[tuple[Node, bool], _Pool] = {}
        self._shared: dict[Node, SharedConnection] = {}
        self._retired: WeakSet[SharedConnection] = WeakSet()
        self._connecting: dict[Node, asyncio.Task[SharedConnection]] = {}
        self._generation = 0

    async def exchange(self, batch: Batch, ends_at: float) -> None:
        """Send *batch* and fill in what comes back."""
        try:
            if batch.is_sentinel or batch.wait is not None or len(batch.commands) > _LONG:
                await self._exchange_alone(batch, ends_at)
                return
            shared = self.standing(batch.node) or await self._connected(batch.node, ends_at)
            left, attempt = ends_at - monotonic(), self._settings.attempt
            if left >= TELLING * attempt:
                batch.replies = await shared.call(batch.commands, min(left, attempt))
                return
            async with asyncio.timeout(left):  # it is too early then to give the connection up, which others use
                batch.replies = await shared.call(batch.commands, attempt)
        except TimeoutError:
            batch.error = NoAnswer("no answer in time")
        except (*FOREIGN, Busy, ConfigurationError) as error:
            batch.error = error

    def standing(self, node: Node) -> SharedConnection | None:
        """Give the shared connection to *node*, if there is one and nothing says that it is not the right one."""
        shared = self._shared.get(node)
        if shared is None or shared.is_lost or self._generation != self._topology.generation or self.pid != getpid():
            return None
        return shared

    async def _connected(self, node: Node, ends_at: float) -> SharedConnection:
        """Give the shared connection to *node*; make one, for all who wait for it, if there is none."""
        pool = self._pool(node, is_sentinel=False)
        shared = self._shared.get(node)
        if shared is not None and not shared.is_lost:
            return shared
        task = self._connecting.get(node)
        if task is None:
            task = self._connecting[node] = asyncio.create_task(self._connect(node, pool))
            task.add_done_callback(lambda done: self._note_connected(node, done))
        try:
            async with asyncio.timeout(min(ends_at - monotonic(), self._settings.attempt)):
                return await asyncio.shield(task)
        except TimeoutError:
            raise self._no_connection() from None

    def _no_connection(self) -> NoAnswer:
        return NoHandshake("no TLS handshake in time") if self._address.has_tls else NoAnswer("no answer in time")

    async def _connect(self, node: Node, pool: "_Pool") -> SharedConnection:
        connection = pool.make()
        try:
            async with asyncio.timeout(self._settings.attempt):
                await connection.connect()
        except BaseException:
            _close(connection)
            raise
        shared = self._shared[node] = SharedConnection(connection)
        return shared

    def _note_connected(self, node: Node, done: "asyncio.Task[SharedConnection]") -> None:
        self._connecting.pop(node, None)
        if not done.cancelled():
            done.exception()  # those who wait have it

    async def _exchange_alone(self, batch: Batch, ends_at: float) -> None:
        pool = self._pool(batch.node, is_sentinel=batch.is_sentinel)
        connection, is_clean = None, False
        try:
            connection = await pool.take(ends_at)
            if batch.wait is None:
                ends_at = min(ends_at, monotonic() + self._settings.attempt)
            async with asyncio.timeout(ends_at - monotonic()):
                if not connection.is_connected:
                    await connection.connect()
                batch.close(ends_at - monotonic())
                await connection.send_packed_command(connection.pack_commands(batch.commands), check_health=False)
                for _ in batch.commands:
                    try:
                        batch.replies.append(await connection.read_response(disconnect_on_error=False))
                    except ResponseError as error:
                        batch.replies.append(error)
            is_clean = True
        except TimeoutError:
            is_there = connection is None or connection.is_connected
            batch.error = NoAnswer("no answer in time") if is_there else self._no_connection()
        except (*FOREIGN, Busy) as error:
            batch.error = error
        finally:
            if connection is not None:  # without awaiting: it must not stay out where this is cancelled again
                pool.give_back(connection, is_clean=is_clean)

    def drop(self, node: Node) -> None:
        """Close the connections to *node* that are not in use."""
        if pool := self._pools.get((node, False)):
            pool.drop()
        self._retire(node)

    def _retire(self, node: Node) -> None:
        if shared := self._shared.pop(node, None):
            shared.retire()
            self._retired.add(shared)

    def _pool(self, node: Node, *, is_sentinel: bool) -> "_Pool":
        if self._generation != self._topology.generation:
            self._generation = self._topology.generation
            for name in [name for name in self._pools if not name[1] and name[0] not in self._topology.nodes]:
                self._pools.pop(name).close()
                self._retire(name[0])
        pool = self._pools.get((node, is_sentinel))
        if pool is None:
            settings, address = self._settings, self._address
            kind: type[Any] = SSLConnection if address.has_tls else Connection
            options: dict[str, Any] = {"host": node.host, "port": node.port}
            if not node.port:
                kind, options = UnixDomainSocketConnection, {"path": node.host}
            options |= settings.sentinel if is_sentinel else settings.connection
            options |= {"retry": Retry(NoBackoff(), 0), "socket_timeout": None, "socket_connect_timeout": None}
            if address.kind is Kind.SENTINEL and not is_sentinel:
                options["redis_connect_func"] = _greet_primary
            trust = self._trusts[is_sentinel] if address.has_tls else None
            pool = self._pools[node, is_sentinel] = _Pool(kind, options, settings.max_connections, trust)
        return pool

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
            connecting = list(self._connecting.values())
            for task in connecting:
                task.cancel()
            await asyncio.gather(*connecting, return_exceptions=True)  # each closes what it has opened
            for shared in (*self._shared.values(), *self._retired):
                shared.close()
            for pool in self._pools.values():
                pool.close()
            self._pools, self._shared, self._connecting = {}, {}, {}
            await asyncio.sleep(0)  # transports close in the loop's next turn


class _Pool:
    """The connections of one event loop to one server."""

    def __init__(self, kind: type[Any], options: dict[str, Any], size: int, trust: Trust | None) -> None:
        self._kind = kind
        self._options = options
        self._size = size
        self._trust = trust
        self._room = asyncio.Semaphore(size)
        self._free: list[Any] = []
        self._is_closed = False

    async def take(self, ends_at: float) -> Any:
        """Give a connection, which may still have to connect. Raises Busy."""
        if self._room.locked():
            try:
                async with asyncio.timeout(ends_at - monotonic()):
                    await self._room.acquire()
            except TimeoutError:
                raise Busy(f"all {self._size} connections are in use (max_connections)") from None
        else:
            await self._room.acquire()
        try:
            while self._free:
                connection = self._free.pop()
                try:
                    is_spoilt = await _is_spoilt(connection)
                except BaseException:
                    _close(connection)
                    raise
                if not is_spoilt:
                    return connection
                _close(connection)
            return self.make()
        except BaseException:
            self._room.release()
            raise

    def make(self) -> Any:
        """Make a connection that is not the pool's, without connecting it. Raises ConfigurationError."""
        connection = make_connection(self._kind, self._options)
        if self._trust is not None:
            connection.ssl_context.context = self._trust.context()
        return connection

    def give_back(self, connection: Any, *, is_clean: bool) -> None:
        """Take a connection back; close it unless it *is_clean*, which it is not while a reply is outstanding."""
        if is_clean and not self._is_closed:
            self._free.append(connection)
        else:
            _close(connection)
        self._room.release()

    def drop(self) -> None:
        """Close what is not in use."""
        while self._free:
            _close(self._free.pop())

    def close(self) -> None:
        """Close what is not in use now, and the rest when it is given back."""
        self._is_closed = True
        self.drop()


def _close(connection: Any) -> None:
    if connection._writer is not None:  # noqa: SLF001  it gives it to nobody
        connection._writer.transport.abort()  # noqa: SLF001  a TLS transport would wait for the server's goodbye
    connection._parser.on_disconnect()  # noqa: SLF001  redis-py closes without waiting only where no task runs
    connection._close()  # noqa: SLF001  the same


async def _is_spoilt(connection: Any) -> bool:
    """Say whether a connection has been closed by the server, or has a reply that nobody has asked for."""
    try:
        return not connection.is_connected or await connection.can_read()
    except LostConnection:
        return True


async def _greet_primary(connection: Any) -> None:
    """Set up a new connection to the server that Sentinel has named. Raises NotPrimary."""
    await connection.on_connect()
    await connection.send_command("HELLO")
    refuse_replica(await connection.read_response())
