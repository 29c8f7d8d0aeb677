"""What the trials need around a peer: a store that can be killed, a wire that can hold a write, a gate, a browser."""

import asyncio
import os
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import redis

import coatcheck
from coatcheck.runtime._embedded_host import find_server

ROOT: Final = Path(__file__).parents[2]
_WRITE: Final = re.compile(rb"\r\n(SET|SETEX|HSET|HSETEX|EVAL|EVALSHA|FCALL)\r\n", re.IGNORECASE)
_PATIENCE: Final = 20.0


class Store:
    """A Valkey server that syncs every write to its disk, on a unix socket."""

    def __init__(self, folder: Path) -> None:
        """Name its folder; start nothing."""
        self._folder = folder
        self.socket = folder / "valkey"
        self.client = redis.Redis(unix_socket_path=str(self.socket))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, with the data that it had."""
        command = ("--port", "0", "--unixsocket", self.socket, "--dir", self._folder, "--save", "")
        durable = ("--appendonly", "yes", "--appendfsync", "always", "--logfile", "valkey.log")
        self._process = await asyncio.create_subprocess_exec(find_server(), *command, *durable)

        async def answers() -> bool:
            with suppress(redis.RedisError):
                return bool(self.client.ping())
            return False

        await until(answers)

    async def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def content(self) -> dict[bytes, bytes]:
        """Read everything: the names of keys and their values as the store dumps them."""
        return {key: self._value(key) for key in self.client.scan_iter(count=1000)}

    def _value(self, key: bytes) -> bytes:
        match self.client.type(key):
            case b"string":
                return self.client.get(key) or b""
            case b"hash":
                return b"\n".join(self.client.hgetall(key).values())
            case _:
                return b""


class Wire:
    """The TCP way from a peer to the store; it can be cut, and it can hold the next write back."""

    def __init__(self, socket_path: Path, port: int) -> None:
        """Lead from *port* to *socket_path*."""
        self._path = socket_path
        self._port = port
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._is_armed = False
        self._caught = asyncio.Event()
        self._released = asyncio.Event()

    async def connect(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self._port)

    def cut(self) -> None:
        """Close every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
        for end in self._ends:
            end.close()

    def hold_next_write(self) -> None:
        """Keep the next command that writes on the wire until `release`."""
        self._caught.clear()
        self._released.clear()
        self._is_armed = True

    async def caught(self) -> None:
        """Wait until a write is held."""
        await asyncio.wait_for(self._caught.wait(), _PATIENCE)

    def release(self) -> None:
        """Let the held write go on."""
        self._is_armed = False
        self._released.set()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(self._path)
        except OSError:
            writer.close()
            return
        ends = {writer, far_writer}
        self._ends |= ends
        await asyncio.gather(
            self._pump(reader, far_writer, self._hold), self._pump(far_reader, writer), return_exceptions=True
        )
        self._ends -= ends

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        look: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> None:
        try:
            while data := await reader.read(1 << 16):
                if look is not None:
                    await look(data)
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    async def _hold(self, data: bytes) -> None:
        if self._is_armed and _WRITE.search(data):
            self._is_armed = False
            self._caught.set()
            await self._released.wait()


class Gate:
    """Where the apps' handlers stop (bench.field.gate) until `open`."""

    def __init__(self) -> None:
        """Wait for nobody yet."""
        self._waiting: list[asyncio.StreamWriter] = []

    async def serve(self, path: Path) -> None:
        """Listen at *path*."""
        await asyncio.start_unix_server(self._arrive, path)

    async def _arrive(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._waiting.append(writer)

    async def arrivals(self, count: int) -> None:
        """Wait until *count* handlers stand here."""

        async def have_come() -> bool:
            return len(self._waiting) >= count

        await until(have_come)

    def open(self) -> None:
        """Let all go on."""
        for writer in self._waiting:
            writer.close()
        self._waiting.clear()


@dataclass(frozen=True, slots=True)
class Reply:
    """A response: how it went, and every Set-Cookie header."""

    status: int
    data: dict[str, Any]
    set_cookies: list[str]
    seconds: float


@dataclass(slots=True)
class Browser:
    """A browser behind a proxy that ends TLS: it sends and keeps cookies."""

    client: httpx.AsyncClient
    cookies: dict[str, str] = field(default_factory=dict)

    def copy(self) -> "Browser":
        """Give another with the same cookies, such as a thief's."""
        return Browser(self.client, dict(self.cookies))

    async def get(self, path: str, **query: str) -> Reply:
        """Ask, over "https", and do with the cookies what the answer says."""
        headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "127.0.0.1"}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        begin = time.monotonic()
        response = await self.client.get(path, params=query, headers=headers)
        seconds = time.monotonic() - begin
        self.client.cookies.clear()
        set_cookies = response.headers.get_list("set-cookie")
        for header in set_cookies:
            pair, _, attributes = header.partition(";")
            name, _, value = pair.partition("=")
            if re.search(r"max-age=0|1970", attributes, re.IGNORECASE) or value in {"", '""', "null"}:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        is_json = response.is_success and response.headers.get("content-type", "").startswith("application/json")
        return Reply(response.status_code, response.json() if is_json else {}, set_cookies, seconds)


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything a trial of one running peer uses."""

    store: Store
    wire: Wire
    gate: Gate
    client: httpx.AsyncClient
    folder: Path

    def browser(self) -> Browser:
        """Give a browser without cookies."""
        return Browser(self.client)


@asynccontextmanager
async def staged(folder: Path, venv: str, command: str, variant: str) -> AsyncIterator[Stage]:
    """Run a store and a peer; *command* may say {port}."""
    port, store_port = free_port(), free_port()
    store, gate = Store(folder), Gate()
    wire = Wire(store.socket, store_port)
    await gate.serve(folder / "gate")
    await store.start()
    await wire.connect()
    environment = {
        "PATH": os.environ["PATH"],
        "COATCHECK_KEYS": coatcheck.new_key(),
        "FIELD_FOLDER": str(folder),
        "FIELD_GATE": str(folder / "gate"),
        "FIELD_STORE": f"redis://127.0.0.1:{store_port}/0",
        "FIELD_VARIANT": variant,
    }
    program = (str(ROOT / venv / "bin" / "python"), "-m", *command.format(port=port).split())
    with (folder / "peer.log").open("wb") as log:
        peer = await asyncio.create_subprocess_exec(*program, cwd=ROOT, env=environment, stdout=log, stderr=log)
    alone = httpx.Limits(max_keepalive_connections=0)  # a server may close a connection after an error
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=_PATIENCE, limits=alone) as client:
            stage = Stage(store, wire, gate, client, folder)

            async def serves() -> bool:
                if peer.returncode is not None:
                    sys.exit(f"{command} has ended:\n{(folder / 'peer.log').read_text()}")
                with suppress(httpx.TransportError):
                    return (await stage.browser().get("/show")).status < 500  # noqa: PLR2004 (a server error)
                return False

            await until(serves)
            yield stage
    finally:
        gate.open()
        wire.release()
        await end(peer)
        wire.cut()
        await store.kill()


async def end(process: asyncio.subprocess.Process) -> None:
    """Ask *process* to end, and kill it if it has not within ten seconds."""
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), 10)
    except TimeoutError:
        process.kill()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for *condition*. Raises TimeoutError."""
    async with asyncio.timeout(_PATIENCE):
        while not await condition():  # noqa: ASYNC110 (it looks at other processes)
            await asyncio.sleep(0.005)


def free_port() -> int:
    """Find a TCP port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
