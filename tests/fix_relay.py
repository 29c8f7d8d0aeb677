"""A relay before the server: it sees what arrives on each connection, and a test keeps replies, or all of it, back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import hiredis
import pytest

Words = list[bytes]


class Carried:
    """A connection through the relay. commands: what has arrived on it. kept: replies that are held back."""

    def __init__(self, writer: asyncio.StreamWriter, holds: "Callable[[Carried], bool]") -> None:
        self.commands: list[Words] = []
        self.kept = bytearray()
        self._writer = writer
        self._holds = holds
        self._requests = hiredis.Reader()

    def take(self, piece: bytes) -> None:
        """Note what a client sends."""
        self._requests.feed(piece)
        while (command := self._requests.gets()) is not False:
            self.commands.append(command)

    def give(self, piece: bytes) -> None:
        """Hand on, or keep, what the server replies."""
        self.kept += piece
        if not self._holds(self):
            self.release()

    def release(self, count: int | None = None) -> None:
        """Hand on the first *count* bytes of what was kept; by default all."""
        piece = bytes(self.kept[:count])
        del self.kept[: len(piece)]
        self._writer.write(piece)


class Relay:
    """Carries everything between its own socket and the server's, within the loop of the test.

    holds: whether the replies of a connection are kept. reads: cleared, nothing more is read of what clients send.
    """

    def __init__(self, server: Any, path: Path) -> None:
        self.url: str = server.url.replace(server.socket, str(path))
        self.name = f"unix://{path}"  # the same without user and password
        self.connections: list[Carried] = []
        self.holds: Callable[[Carried], bool] = lambda _: False
        self.reads = asyncio.Event()
        self.reads.set()
        self._upstream, self._path = server.socket, path
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def commands(self) -> list[Words]:
        """What has arrived on all connections."""
        return [command for connection in self.connections for command in connection.commands]

    def count(self, name: bytes) -> int:
        """Say how many commands of this name have arrived."""
        return sum(command[0] == name for command in self.commands)

    def release(self) -> None:
        """Hold nothing any more."""
        self.holds = lambda _: False
        for connection in self.connections:
            connection.release()

    async def open(self) -> None:
        """Listen."""
        self._listener = await asyncio.start_unix_server(self._accept, str(self._path))

    async def close(self) -> None:
        """Close every connection."""
        self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)  # transports close in the loop's next turn

    def _is_held(self, connection: Carried) -> bool:
        return self.holds(connection)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(self._upstream)
        connection = Carried(writer, self._is_held)
        self.connections.append(connection)
        self._writers += [writer, there_writer]

        async def forth() -> None:
            with suppress(ConnectionError):
                while piece := await reader.read(1 << 16):
                    connection.take(piece)
                    there_writer.write(piece)
                    await there_writer.drain()
                    await self.reads.wait()
            there_writer.close()

        async def back() -> None:
            with suppress(ConnectionError):
                while piece := await there_reader.read(1 << 16):
                    connection.give(piece)
            writer.close()

        for way in (forth(), back()):
            task = asyncio.create_task(way)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


@pytest.fixture
async def relay(server: Any, tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[Relay]:
    """Give a relay before the server."""
    found = Relay(server, tmp_path_factory.mktemp("relay") / "s")
    await found.open()
    yield found
    await found.close()
