"""The transport for code without an event loop."""

import time
from collections import deque
from math import inf
from os import getpid
from socket import socket
from threading import Event, Semaphore
from time import monotonic
from typing import Any, Final

import redis
from redis._parsers.hiredis import _HiredisParser
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry
from redis.utils import SENTINEL

from coatcheck.model.errors import ConfigurationError
from coatcheck.runtime.address import Address, Kind, Node
from coatcheck.runtime.batch import Batch
from coatcheck.runtime.carrier import Carrier
from coatcheck.runtime.errors import FOREIGN, Busy, NotPrimary
from coatcheck.runtime.tls import Trust
from coatcheck.runtime.topology import share

_SHORTEST: Final = 0.001  # to a socket, 0 means not to wait at all


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
        return _Signal(self.settings.deadline / 4)

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
                    limit = min(ends_at, monotonic() + self.settings.attempt)
                    connection.limit.ends_at = share(limit, remaining) if batch.is_sentinel else limit
                    connection.connect()  # where it is not
                    connection.limit.ends_at = limit
                    batch.close(connection.limit.ends_at - monotonic())
                    connection.send_packed_command(_packed(connection, batch), check_health=False)
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
        settings, address = transport.settings, transport.address
        self._kind: type[Any] = _TLS if address.has_tls else _Plain
        self._options: dict[str, Any] = {"host": node.host, "port": node.port}
        if not node.port:
            self._kind, self._options = _Socket, {"path": node.host}
        self._options |= settings.sentinel if is_sentinel else settings.connection
        is_checked = address.kind is Kind.SENTINEL and not is_sentinel
        self._options |= {
            "retry": Retry(NoBackoff(), 0),
            "redis_connect_func": _greet_primary if is_checked else _greet,
        }
        self._trust = (transport.sentinel_trust if is_sentinel else transport.trust) if address.has_tls else None
        self._size = settings.max_connections
        self._room = Semaphore(self._size)
        self._free: deque[Any] = deque()
        self._is_closed = False

    def take(self, ends_at: float) -> Any:
        """Give a connection, which may still have to connect. Raises Busy."""
        if not self._room.acquire(blocking=False) and not self._room.acquire(timeout=max(0, ends_at - monotonic())):
            raise Busy(f"all {self._size} connections are in use (max_connections)")
        try:
            while True:
                try:
                    connection = self._free.pop()
                except IndexError:
                    connection = make_connection(self._kind, self._options)
                    connection.trust = self._trust
                    return connection
                if not _is_spoilt(connection):
                    return connection
                connection.disconnect()
        except BaseException:
            self._room.release()
            raise

    def give_back(self, connection: Any, *, is_clean: bool) -> None:
        """Take a connection back; close it unless it *is_clean*, which it is not while a reply is outstanding."""
        if is_clean and not self._is_closed:
            self._free.append(connection)
        else:
            connection.disconnect()
        self._room.release()

    def drop(self) -> None:
        """Close what is not in use."""
        while self._free:
            try:
                self._free.popleft().disconnect()
            except IndexError:  # another thread was faster
                return

    def close(self) -> None:
        """Close what is not in use now, and the rest when it is given back."""
        self._is_closed = True
        self.drop()


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


class _Plain(_Limited, redis.Connection):
    pass


class _TLS(_Limited, redis.SSLConnection):
    trust: Trust

    def _wrap_socket_with_ssl(self, sock: socket) -> Any:
        if self.ssl_validate_ocsp or self.ssl_validate_ocsp_stapled:  # redis-py alone knows how
            return super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
        return self.trust.context().wrap_socket(sock, server_hostname=self.host)


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


def _is_spoilt(connection: Any) -> bool:
    """Say whether a connection has been closed by the server, or has a reply that nobody has asked for."""
    try:
        return not connection.is_connected or connection.can_read()
    except LostConnection:
        return True


def _packed(connection: Any, batch: Batch) -> Any:
    if len(batch.commands) == 1:
        return connection.pack_command(*batch.commands[0])
    return connection.pack_commands(batch.commands)


def _receive(connection: Any, batch: Batch) -> None:
    for _ in batch.commands:
        try:
            batch.replies.append(connection.read_response())
        except ResponseError as error:
            batch.replies.append(error)
        except FOREIGN as error:
            batch.error = error
            return
