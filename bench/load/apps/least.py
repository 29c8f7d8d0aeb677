"""The least that a sealed session in a store takes: a yardstick, and nothing to use.

Middleware that reads the cookie, asks the store (what is asked for in one turn of the loop leaves in one write),
compares the digest of the secret, opens the record (AES-256-GCM with a key of its own, msgpack), and writes it back
where it has changed. No deadlines but the store's, no timeouts, retries or outages, no index, no merging: the last
write wins. Kept in memory, it asks the store for no session that it has seen, and hears of no write of others.
"""

import asyncio
import hashlib
import hmac
import os
import secrets
from collections import deque
from typing import Any, Final
from urllib.parse import urlsplit

import hiredis
import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_URL: Final = urlsplit(os.environ["LOAD_STORE"])
_MASTER: Final = os.urandom(32)
_COOKIE: Final = b"least="
_NAME: Final = 32  # characters of an identifier that name the record; its secret follows
_DIGEST: Final = 32
_NONCE: Final = 12
_ALIKE: Final = [(b"vary", b"Cookie"), (b"cache-control", b"private")]
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode


class _Connection(asyncio.Protocol):
    """A connection to the store that all requests share."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._outgoing: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def call(self, *command: str | bytes) -> asyncio.Future[Any]:
        if not self._outgoing:
            self._loop.call_soon(self._send)
        self._outgoing.append(hiredis.pack_command(command))
        reply = self._loop.create_future()
        self._waiting.append(reply)
        return reply

    def _send(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        self._transport.write(b"".join(outgoing))

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(reply)


class LeastMiddleware:
    """Gives every request a dict as its session."""

    def __init__(self, app: ASGIApp, *, keeps: bool = False) -> None:
        """Wrap *app*. keeps: sessions in memory."""
        self._app = app
        self._connection: _Connection | None = None
        self._keeps = keeps
        self._kept: dict[bytes, tuple[bytes, bytes]] = {}  # the digest of the secret, and what is in the record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._connection is None:
            self._connection = await _connected()
        connection, identifier = self._connection, _identifier(scope)
        name, secret = identifier[:_NAME], identifier[_NAME:]
        digest, known = hashlib.sha256(secret).digest(), self._kept.get(name)
        if known is None and identifier:
            known = self._read(name, await connection.call("GET", b"least:" + name))
        stored = known[1] if known is not None and hmac.compare_digest(known[0], digest) else None
        scope["session"] = session = {} if stored is None else _decode(stored)

        async def send_with_session(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"], *_ALIKE]
                body = _encode(session)
                if session and body != stored:
                    its_name, its_digest = name, digest
                    if stored is None:
                        its_name, its_secret = secrets.token_hex(_NAME // 2).encode(), secrets.token_hex(24).encode()
                        its_digest = hashlib.sha256(its_secret).digest()
                        headers.append((b"set-cookie", _COOKIE + its_name + its_secret))
                    self._kept.pop(its_name, None)
                    await connection.call(
                        "SET", b"least:" + its_name, _sealed(its_name, its_digest, body), "EX", "1800"
                    )
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_with_session)

    def _read(self, name: bytes, record: bytes | None) -> tuple[bytes, bytes] | None:
        if record is None:
            return None
        known = record[:_DIGEST], _opened(name, record)
        if self._keeps:
            self._kept[name] = known
        return known


async def _connected() -> _Connection:
    _, connection = await asyncio.get_running_loop().create_connection(_Connection, _URL.hostname, _URL.port)
    return connection


def _identifier(scope: Scope) -> bytes:
    for header, value in scope["headers"]:
        if header == b"cookie":
            for part in value.split(b"; "):
                if part.startswith(_COOKIE):
                    found: bytes = part[len(_COOKIE) :]
                    return found
    return b""


def _cipher(name: bytes) -> AESGCM:
    return AESGCM(hmac.digest(_MASTER, name, "sha256"))


def _sealed(name: bytes, digest: bytes, body: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return digest + nonce + _cipher(name).encrypt(nonce, body, digest + name)


def _opened(name: bytes, record: bytes) -> bytes:
    digest, nonce, sealed = record[:_DIGEST], record[_DIGEST : _DIGEST + _NONCE], record[_DIGEST + _NONCE :]
    return _cipher(name).decrypt(nonce, sealed, digest + name)
