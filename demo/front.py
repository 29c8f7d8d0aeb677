"""The front: one port, and behind it the servers, taken in turn. No stickiness.

A server that is down is skipped. A request that no server has received yet is given to the next one; one
whose server died over it is given to the next only if it changes nothing (GET, HEAD), for it may have been
carried out.

Its own paths, for the page:

    GET  /front/servers     how the servers are
    POST /front/kill        {"name": "FastAPI"}, or "store": kill -9
    POST /front/restart     {"name": "FastAPI"}

A balancer for a demo: it reads whole requests and whole responses, and speaks to this machine only.
"""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from demo.servers import Fleet, Server

HOST: Final = "127.0.0.1"
_OWN_NAMES: Final = {"127.0.0.1", "localhost"}
_LARGEST: Final = 65_536
_ANSWER_SECONDS: Final = 20.0
_HOP_BY_HOP: Final = ("connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "expect")
_UNTRUSTED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip")


@dataclass(frozen=True, slots=True)
class Message:
    """A request or a response: its first line, its headers as they came, its body."""

    start: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    @classmethod
    def parse(cls, head: bytes) -> Self:
        """Read all but the body. Raises ValueError."""
        start, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        headers = tuple(
            (name, value.strip()) for name, colon, value in (line.partition(":") for line in lines) if colon
        )
        if len(headers) != len(lines) or len(start.split(" ", 2)) < 2:  # noqa: PLR2004  a method and a target
            raise ValueError("not HTTP")
        return cls(start, headers)

    def header(self, name: str) -> str:
        """Give the value of a header, or nothing."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    def without(self, *names: str) -> tuple[tuple[str, str], ...]:
        """Give the headers but for those of *names*."""
        return tuple((key, value) for key, value in self.headers if key.lower() not in names)

    def encode(self) -> bytes:
        """Write it down."""
        lines = (self.start, *(f"{name}: {value}" for name, value in self.headers))
        return "\r\n".join((*lines, "", "")).encode("latin-1") + self.body


class ServerDied(Exception):
    """The server went away before it had answered."""


class Front:
    """The balancer before *fleet*, as long as the ``async with`` lasts."""

    def __init__(self, fleet: Fleet, port: int = 0) -> None:
        """Listen on *port*, or on one that is free (0)."""
        self._fleet = fleet
        self.port = port
        self._listener: asyncio.Server | None = None
        self._lines: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        """Listen. Raises OSError when the port is taken."""
        self._listener = await asyncio.start_server(self._talk, HOST, self.port, limit=_LARGEST)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening, and hang up."""
        if self._listener is not None:
            self._listener.close()
        for line in set(self._lines):
            line.close()

    @property
    def address(self) -> str:
        """What to type into a browser."""
        return f"http://{HOST}:{self.port}/"

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        self._lines.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
                is_open = True
                while is_open:
                    request = await _read_request(reader)
                    is_open = request.header("connection").lower() != "close" and request.start.endswith("HTTP/1.1")
                    writer.write((await self._answer(request)).encode())
                    await writer.drain()
        finally:
            self._lines.discard(writer)
            writer.close()

    async def _answer(self, request: Message) -> Message:
        if request.header("host").rpartition(":")[0] not in _OWN_NAMES:  # another site's name made to point here
            return _plain("421 Misdirected Request", f"This demo answers at {self.address} only.\n")
        method, path, *_ = request.start.split(" ")
        if path.startswith("/front/"):
            return await self._own(method, path, request)
        for server in self._fleet.turn():
            try:
                answer = await _ask(server, request)
            except OSError:  # nobody listens: the watch has not noticed yet
                server.is_ready = False
            except ServerDied:
                if method not in {"GET", "HEAD"}:
                    text = f"The {server.framework} server died over this request, which may have been carried out.\n"
                    return _plain("502 Bad Gateway", text)
            else:
                server.answered += 1
                return answer
        return _plain("503 Service Unavailable", "No server is running. Start one again.\n")

    async def _own(self, method: str, path: str, request: Message) -> Message:
        """Answer a request that is for the front itself."""
        if (method, path) == ("GET", "/front/servers"):
            return _json("200 OK", await self._fleet.report())
        if method != "POST" or request.header("content-type") != "application/json":  # which no form can send
            return _json("415 Unsupported Media Type", {"error": "Send JSON, by POST."})
        wish = json.loads(request.body)
        name = str(wish.get("name")) if isinstance(wish, dict) else ""
        server = self._fleet.named(name)
        match path, server:
            case "/front/kill", Server():
                server.kill()
            case "/front/restart", Server():
                self._fleet.restart(server)
            case "/front/kill", None if name == "store":
                await asyncio.to_thread(self._fleet.store.kill)
            case _:
                return _json("404 Not Found", {"error": "There is nothing of that name."})
        return _json("200 OK", await self._fleet.report())


async def _read_request(reader: asyncio.StreamReader) -> Message:
    """Read one request. Raises ValueError for what the front does not speak."""
    request = Message.parse(await reader.readuntil(b"\r\n\r\n"))
    length = int(request.header("content-length") or 0)
    if request.header("transfer-encoding") or not 0 <= length <= _LARGEST:
        raise ValueError("a request with a Content-Length of at most 64 KiB is all that is needed here")
    return Message(request.start, request.headers, await reader.readexactly(length))


async def _ask(server: Server, request: Message) -> Message:
    """Give *request* to *server*. Raises OSError when nobody listens, ServerDied when no whole answer comes."""
    reader, writer = await asyncio.open_unix_connection(server.socket)
    kept = request.without(*_HOP_BY_HOP, *_UNTRUSTED)
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            writer.write(Message(request.start, (*kept, ("Connection", "close")), request.body).encode())
            raw = await reader.read(-1)
    except (ConnectionError, TimeoutError):
        raise ServerDied from None
    finally:
        writer.close()
    head, separator, body = raw.partition(b"\r\n\r\n")
    if not separator:
        raise ServerDied
    answer = Message.parse(head)
    length = answer.header("content-length")
    if answer.header("transfer-encoding"):
        is_whole = body.endswith(b"0\r\n\r\n")
    else:
        is_whole = request.start.startswith("HEAD ") or len(body) == int(length or len(body))
    if not is_whole:
        raise ServerDied
    headers = answer.without(*_HOP_BY_HOP, "server")
    if not length and not answer.header("transfer-encoding"):
        headers = (*headers, ("Content-Length", str(len(body))))
    return Message(answer.start, (*headers, ("Server", server.framework)), body)


def _plain(status: str, text: str) -> Message:
    return _message(status, "text/plain; charset=utf-8", text)


def _json(status: str, value: dict[str, Any]) -> Message:
    return _message(status, "application/json", json.dumps(value))


def _message(status: str, kind: str, text: str) -> Message:
    body = text.encode()
    headers = (("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store"))
    return Message(f"HTTP/1.1 {status}", headers, body)
