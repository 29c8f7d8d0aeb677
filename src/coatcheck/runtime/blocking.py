"""The transport for code without an event loop."""

import select
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from os import getpid
from socket import socket
from ssl import SSLSocket
from threading import Condition, Event
from time import monotonic
from typing import Any, Final

import hiredis
import redis
from redis._parsers.hiredis import NOT_ENOUGH_DATA, _HiredisParser
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as NoAnswer
from redis.retry import Retry
from redis.utils import SENTINEL

from coatcheck.engine import deadline
from coatcheck.engine.transport import Command
from coatcheck.model.errors import ConfigurationError
from coatcheck.runtime.address import Address, Kind, Node
from coatcheck.runtime.batch import WAITING, Batch
from coatcheck.runtime.carrier import COMMANDS_A_DEADLINE, Carrier
from coatcheck.runtime.errors import FOREIGN, Busy, NoHandshake, NotPrimary
from coatcheck.runtime.tls import Trust
from coatcheck.runtime.topology import share

_SHORTEST: Final = 0.001  # to a socket, 0 means not to wait at all
_PIECE: Final = 65536


class BlockingTransport(Carrier):
    """A transport for code without an event loop; safe to share among threads and across forks.

    Its coroutines never suspend, so that they can be run by stepping them once.
    """

    def __init__(self, address: Address, options: dict[str, Any]) -> None:
        """See `Carrier`."""
        super().__init__(address, options)
        self._pid = getpid()
        self._pools: dict[tuple[Node, bool], _Pool] = {}
        self._generation = 0

    async def pause(self, seconds: float) -> None:
        """Wait, blocking the thread."""
        time.sleep(seconds)  # noqa: ASYNC251  blocking is what this transport is for

    def signal(self) -> "_Signal":
        """See `Transport.signal`."""
        return _Signal(self.patience())

    async def call(self, *commands: Command) -> list[Any]:
        """See `Transport.call`. What nearly every call is, goes this shorter way: to the one server there is."""
        topology, now, operation = self.topology, monotonic(), deadline.current()
        left, node, replies = self.settings.deadline, topology.sole, []
        if operation is not None:
            left = self._left(operation, now)
        if (
            node is None
            or topology.is_stale
            or now >= topology.renew_at
            or self._breakers
            or not 0 < len(commands) <= COMMANDS_A_DEADLINE
            or commands[-1][0] in WAITING
        ):
            return await super().call(*commands)
        self._budget.count()
        pool = self._pool(node, is_sentinel=False)
        connection = failure = None
        is_clean = False
        try:
            connection = pool.take(now + left)
            connection.limit.ends_at = min(now + left, monotonic() + self.settings.attempt)  # to take one may take time
            if not connection.is_connected:
                connection.connect()
            connection.send(commands)
            for _ in commands:
                replies.append(connection.receive())  # noqa: PERF401  those before one that fails are kept
            is_clean = True
        except (*FOREIGN, Busy) as error:
            failure = error
        finally:
            if connection is not None:
                pool.give_back(connection, is_clean=is_clean)
        for reply in replies:
            is_clean = is_clean and not isinstance(reply, Exception)
        if is_clean:
            return replies
        return await self._go_on(commands, now + left, now, Batch.of(node, commands, replies=replies, error=failure))

    async def exchange(self, batches: list[Batch], ends_at: float) -> None:
        """See `Carrier.exchange`. Everything is sent before anything is read.

        Of several sentinels one that cannot be connected to leaves the others their share of the time.
        """
        if len(batches) > 1 and not batches[0].is_sentinel:
            # in the same order by all threads: none has what another waits for
            batches = sorted(batches, key=lambda batch: batch.node)
        sent: list[tuple[Batch, _Pool, Any]] = []
        try:
            for remaining, batch in zip(range(len(batches), 0, -1), batches, strict=True):
                try:
                    pool = self._pool(batch.node, is_sentinel=batch.is_sentinel)
                    connection = pool.take(ends_at)
                    sent.append((batch, pool, connection))
                    limit = min(ends_at, monotonic() + self.settings.attempt) if batch.wait is None else ends_at
                    if not connection.is_connected:
                        connection.limit.ends_at = share(limit, remaining) if batch.is_sentinel else limit
                        connection.connect()
                    connection.limit.ends_at = limit
                    batch.close(connection.limit.ends_at - monotonic())
                    connection.send(batch.commands)
                except (*FOREIGN, Busy) as error:
                    batch.error = error
            while sent:
                batch, pool, connection = sent[-1]
                if batch.error is None:
                    _receive(connection, batch)
                sent.pop()
                pool.give_back(connection, is_clean=batch.error is None)
        finally:
            for _, pool, connection in sent:  # something else was raised, by a signal for example
                pool.give_back(connection, is_clean=False)

    def drop(self, node: Node) -> None:
        """See `Carrier.drop`."""
        if pool := self._pools.get((node, False)):
            pool.drop()

    def close(self) -> None:
        """Close every connection; the next call opens new ones."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()

    async def _join(self) -> Node:
        return self.address.join()

    async def _revive(self) -> Node | None:
        return self.address.revive()

    def _pool(self, node: Node, *, is_sentinel: bool) -> "_Pool":
        if self._pid != getpid():  # the connections are the parent's
            self._pools, self._pid = {}, getpid()
        if self._generation != self.topology.generation:
            self._generation = self.topology.generation
            for name in list(self._pools):
                if not name[1] and name[0] not in self.topology.nodes and (pool := self._pools.pop(name, None)):
                    pool.close()
        found = self._pools.get((node, is_sentinel))
        if found is None:
            found = self._pools.setdefault((node, is_sentinel), _Pool(self, node, is_sentinel=is_sentinel))
        return found


class _Signal:
    """See `coatcheck.engine.transport.Signal`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._event = Event()

    async def wait(self) -> bool:
        return self._event.wait(self._seconds)

    def give(self) -> bool:
        self._event.set()
        return True


class _Pool:
    """The connections to one server."""

    def __init__(self, transport: BlockingTransport, node: Node, *, is_sentinel: bool) -> None:
        self._recipe = Recipe.of(transport, node, is_sentinel=is_sentinel)
        self._size = transport.settings.max_connections
        self._free: deque[Any] = deque()
        self._made = 0
        self._waiting = 0
        self._returned = Condition()
        self._is_closed = False

    def take(self, ends_at: float) -> Any:
        """Give a connection, which may still have to connect. Raises Busy.

        The one that was given back last, and without a lock: under load that is as a rule the thread's own.
        """
        try:
            connection = self._free.pop()
        except IndexError:
            return self._take_another(ends_at)
        if connection.is_spoilt:
            connection.disconnect()
        return connection

    def give_back(self, connection: Any, *, is_clean: bool) -> None:
        """Take a connection back; close it unless it *is_clean*, which it is not while a reply is outstanding."""
        if not is_clean or self._is_closed:
            connection.disconnect()
        self._free.append(connection)
        if self._waiting:
            with self._returned:
                self._returned.notify()

    def drop(self) -> None:
        """Close what is not in use."""
        for _ in range(len(self._free)):
            try:
                connection = self._free.popleft()
            except IndexError:  # another thread was faster
                return
            self.give_back(connection, is_clean=False)

    def close(self) -> None:
        """Close what is not in use now, and the rest when it is given back."""
        self._is_closed = True
        self.drop()

    def _take_another(self, ends_at: float) -> Any:
        """Make a connection, or wait for one where there are as many as there may be."""
        with self._returned:
            self._waiting += 1  # before it looks: from then on nobody gives one back in silence
            try:
                while self._made == self._size:
                    with suppress(IndexError):
                        return self._free.pop()
                    if not self._returned.wait(max(0, ends_at - monotonic())):
                        raise Busy(f"all {self._size} connections are in use (max_connections)")
            finally:
                self._waiting -= 1
            connection = self._recipe.make()
            self._made += 1
        return connection


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a connection to one server is made of: redis-py's class for it, its options, and what it trusts."""

    kind: type[Any]
    options: dict[str, Any] = field(repr=False)
    trust: Trust | None

    @classmethod
    def of(cls, carrier: Carrier, node: Node, *, is_sentinel: bool) -> "Recipe":
        """Give that of *node*, as *carrier* is set up."""
        settings, address = carrier.settings, carrier.address
        kind: type[Any] = _TLS if address.has_tls else _Plain
        options: dict[str, Any] = {"host": node.host, "port": node.port}
        if not node.port:
            kind, options = _Socket, {"path": node.host}
        options |= settings.sentinel if is_sentinel else settings.connection
        is_checked = address.kind is Kind.SENTINEL and not is_sentinel
        options |= {"retry": Retry(NoBackoff(), 0), "redis_connect_func": _greet_primary if is_checked else _greet}
        return cls(
            kind, options, (carrier.sentinel_trust if is_sentinel else carrier.trust) if address.has_tls else None
        )

    def make(self, **other: Any) -> Any:
        """Make a connection, with *other* options, without connecting it. Raises ConfigurationError."""
        connection = make_connection(self.kind, self.options | other)
        connection.trust = self.trust
        return connection


def make_connection(kind: type[Any], options: dict[str, Any]) -> Any:
    """Make a connection of redis-py, without connecting it. Raises ConfigurationError for options it does not take."""
    try:
        return kind(**options)
    except (TypeError, ValueError, RedisError) as error:
        raise ConfigurationError(f"redis-py does not take these options: {error}") from None


class _Limit:
    """Until when a connection may wait; its parser has it too."""

    __slots__ = ("ends_at",)

    def __init__(self) -> None:
        self.ends_at = inf

    def left(self) -> float | None:
        return None if self.ends_at == inf else max(_SHORTEST, self.ends_at - monotonic())


class _Parser(_HiredisParser):
    """redis-py's, which waits for what is left of the limit however many pieces a reply comes in."""

    def on_connect(self, connection: Any, **options: Any) -> None:
        super().on_connect(connection, **options)  # type: ignore[no-untyped-call]
        self._limit = connection.limit

    def read_from_socket(self, timeout: Any = SENTINEL, raise_on_timeout: bool = True) -> bool:  # noqa: FBT001, FBT002
        timeout = self._limit.left() if timeout is SENTINEL else timeout
        return bool(super().read_from_socket(timeout, raise_on_timeout))  # type: ignore[no-untyped-call]


class _Limited(AbstractConnection):
    """A connection of redis-py whose timeouts are what is left of a limit."""

    def __init__(self, **options: Any) -> None:
        self.limit = _Limit()
        self._polled: Any = None
        super().__init__(**options, parser_class=_Parser)

    @property
    def socket_timeout(self) -> float | None:
        return self.limit.left()

    @socket_timeout.setter
    def socket_timeout(self, value: float | None) -> None: ...

    @property
    def socket_connect_timeout(self) -> float | None:
        return self.limit.left()

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: float | None) -> None: ...

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002
        if sock := self._get_socket():
            sock.settimeout(self.limit.left())
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]

    # What follows is for each call. redis-py's own ways do the same for more kinds of connections, in three times the
    # time.

    def send(self, commands: Sequence[Command]) -> None:
        """Send *commands*. Raises redis-py's errors."""
        sock: Any = self._sock
        try:
            self._set_timeout(sock)
            sock.sendall(b"".join(map(hiredis.pack_command, commands)))  # type: ignore[arg-type]
        except TimeoutError:
            raise NoAnswer("the server takes no more commands") from None
        except OSError as error:
            raise LostConnection(str(error)) from error

    def receive(self) -> Any:
        """Give the next reply; an error of the server is one too. Raises redis-py's errors."""
        sock: Any = self._sock
        reader = self._parser._reader  # noqa: SLF001  the parser has no other use for it
        while (reply := reader.gets()) is NOT_ENOUGH_DATA:
            try:
                self._set_timeout(sock)
                data = sock.recv(_PIECE)
            except TimeoutError:
                raise NoAnswer("no answer in time") from None
            except OSError as error:
                raise LostConnection(str(error)) from error
            if not data:
                raise LostConnection("the server has closed the connection")
            reader.feed(data)
        return reply

    @property
    def is_spoilt(self) -> bool:
        """Whether it is closed, by the server too, or has a reply that nobody has asked for."""
        sock: Any = self._sock
        reader = self._parser._reader  # noqa: SLF001  see above
        if sock is None or reader is None or reader.has_data():
            return True
        if sock is not self._polled:
            self._poll, self._polled = select.poll(), sock
            self._poll.register(sock, select.POLLIN)
        return bool(self._poll.poll(0)) or (isinstance(sock, SSLSocket) and sock.pending() > 0)

    def _set_timeout(self, sock: socket) -> None:
        """Have *sock* wait for what is left. To set it is a system call, so what is nearly right stays."""
        left, present = self.limit.left(), sock.gettimeout()
        if left is None or present is None or not left * 0.9 <= present <= left * 1.02:
            sock.settimeout(left)


class _Plain(_Limited, redis.Connection):
    pass


class _TLS(_Limited, redis.SSLConnection):
    trust: Trust

    def _wrap_socket_with_ssl(self, sock: socket) -> Any:
        if self.ssl_validate_ocsp or self.ssl_validate_ocsp_stapled:  # redis-py alone knows how
            return super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
        context = self.trust.context()
        try:
            return context.wrap_socket(sock, server_hostname=self.host)
        except TimeoutError:
            raise NoHandshake("no TLS handshake in time") from None


class _Socket(_Limited, redis.UnixDomainSocketConnection):
    pass


def _greet(connection: Any) -> None:
    """Set up a new connection, and over TLS exchange a command on it.

    Over TLS 1.3 the server sends session tickets after the handshake, which look like a stray reply as long as they
    are unread; a reply that is read takes them along.
    """
    connection.on_connect()
    if isinstance(connection, redis.SSLConnection):
        _hello(connection)


def _greet_primary(connection: Any) -> None:
    """Set up a new connection to the server that Sentinel has named. Raises NotPrimary."""
    connection.on_connect()
    refuse_replica(_hello(connection))


def _hello(connection: Any) -> Any:
    connection.send_command("HELLO")
    return connection.read_response()


def refuse_replica(hello: list[Any]) -> None:
    """Raise NotPrimary unless *hello*, the reply to HELLO, is a primary's."""
    role = dict(zip(hello[::2], hello[1::2], strict=True)).get(b"role", b"master")
    if role != b"master":
        raise NotPrimary(f"Sentinel names a server that is a {role.decode()}: a failover may be under way")


def _receive(connection: Any, batch: Batch) -> None:
    try:
        for _ in batch.commands:
            batch.replies.append(connection.receive())
    except FOREIGN as error:
        batch.error = error
