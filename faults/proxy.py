"""A line between clients and servers that can fall silent, lose a reply, or tell when a command passes.

It also reaches into network namespaces: a server that runs in one of its own is cut off from all others, at the address
that it has always had, by one call. Linux, and root for the namespaces.
"""

import asyncio
import ctypes
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Final, Self

from coatcheck.runtime.local.settings import HOST

_CLONE_NEWNET: Final = 0x40000000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network namespace with nothing in it but its own loopback."""

    def __init__(self) -> None:
        """Make one. Raises CalledProcessError or FileNotFoundError where that is not allowed, or there is no `ip`."""
        self.name: Final = f"coatcheck-{secrets.token_hex(4)}"
        subprocess.run(["ip", "netns", "add", self.name], check=True, capture_output=True)
        subprocess.run([*self.launcher, "ip", "link", "set", "lo", "up"], check=True, capture_output=True)

    @property
    def launcher(self) -> tuple[str, ...]:
        """The words before a command that is to run in it."""
        return ("ip", "netns", "exec", self.name)

    def remove(self) -> None:
        """Give it up; what runs in it keeps it until it ends."""
        subprocess.run(["ip", "netns", "del", self.name], check=True, capture_output=True)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread make its sockets there."""
        with Path("/proc/thread-self/ns/net").open() as home, Path(f"/run/netns/{self.name}").open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "the network namespace cannot be entered")


@dataclass(eq=False)
class Way:
    """A way through the proxy, from a port to a port."""

    port: int
    target: int
    listens_in: Namespace | None = None
    leads_to: Namespace | None = None
    is_silent: bool = False
    """What comes is held back, and new connections are taken and get no answer: as if packets were lost."""
    delay: float = 0.0
    """Seconds that each piece of a reply takes longer."""
    sees: Callable[[bytes], bool] | None = None
    """Is handed each piece from a client before it passes; True: the piece passes, and its reply is lost."""
    singles_out: Callable[[bytes], bool] | None = None
    """Is handed each piece from a client before it passes. Then only connections can be silent that it was True for."""
    links: set[asyncio.StreamWriter] = field(default_factory=set)


class Proxy:
    """Carries bytes, in a thread of its own, while the block runs."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="proxy")
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.ways: Final[list[Way]] = []

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close everything."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def lay(
        self,
        target: int,
        *,
        port: int = 0,
        listens_in: Namespace | None = None,
        leads_to: Namespace | None = None,
    ) -> Way:
        """Lay a way from *port* (0: any free one) to *target*."""
        way = Way(port, target, listens_in, leads_to)
        asyncio.run_coroutine_threadsafe(self._listen(way), self._loop).result()
        self.ways.append(way)
        return way

    def heal(self) -> None:
        """Let everything through again. What was held back arrives now, as packets do that are sent again."""
        for way in self.ways:
            way.is_silent = False

    def cut(self) -> None:
        """Close every connection; new ones are carried as before."""
        for way in self.ways:
            for link in list(way.links):
                self._loop.call_soon_threadsafe(link.transport.abort)

    async def _listen(self, way: Way) -> None:
        listener = _make_socket(way.listens_in)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, way.port))
        way.port = listener.getsockname()[1]

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            self._tasks.add(task)
            way.links.add(writer)
            try:
                with suppress(OSError):
                    await self._carry(way, reader, writer)
            except asyncio.CancelledError:
                pass  # the proxy closes
            finally:
                way.links.discard(writer)
                self._tasks.discard(task)
                writer.transport.abort()

        self._servers.append(await asyncio.start_server(accept, sock=listener, backlog=500))

    async def _carry(self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        outgoing = _make_socket(way.leads_to)
        outgoing.setblocking(False)  # noqa: FBT003  the name of the parameter is flag
        try:
            await self._loop.sock_connect(outgoing, (HOST, way.target))
        except OSError:
            outgoing.close()
            raise
        there_reader, there_writer = await asyncio.open_connection(sock=outgoing)
        way.links.add(there_writer)
        is_lost, held = False, _Held(way)

        async def forth() -> None:
            nonlocal is_lost
            while piece := await reader.read(65_536):
                held.look_at(piece)
                await held.wait()
                is_lost |= way.sees is not None and way.sees(piece)
                there_writer.write(piece)
                await there_writer.drain()

        async def back() -> None:
            while piece := await there_reader.read(65_536):
                await held.wait()
                if way.delay:
                    await asyncio.sleep(way.delay)
                if is_lost:
                    return
                writer.write(piece)
                await writer.drain()

        tasks = [asyncio.create_task(forth()), asyncio.create_task(back())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            way.links.discard(there_writer)
            there_writer.transport.abort()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Held:
    """Whether a connection on a way is held back."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._is_meant = way.singles_out is None

    def look_at(self, piece: bytes) -> None:
        if self._way.singles_out is not None:
            self._is_meant |= self._way.singles_out(piece)

    async def wait(self) -> None:
        while self._way.is_silent and self._is_meant:  # noqa: ASYNC110  set from other threads
            await asyncio.sleep(0.01)


def _make_socket(namespace: Namespace | None) -> socket.socket:
    if namespace is None:
        return socket.socket()
    with namespace.entered():
        return socket.socket()
