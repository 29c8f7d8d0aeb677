"""WebSockets and event streams in aiohttp whose client or handler is not as one wishes, when the session ends."""

import asyncio
import socket
from contextlib import suppress
from threading import Event

import pytest
from aiohttp import WSMsgType, web

from coatcheck import AsyncSessions, CookiePolicy, SessionPolicy, Sessions
from coatcheck.aiohttp import guard, session_of, setup
from tests.waiting import PATIENCE_SECONDS, a_wait_until, wait_until

POLICY = SessionPolicy(subject_attribute="user_id")
UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
KEY = "MDEyMzQ1Njc4OWFiY2RlZg=="


def wait_until_backed_up(transports):
    """Wait until there is a transport whose handler, to send more, has to wait for the client."""
    wait_until(lambda: transports, "a transport has begun")
    (transport,) = transports
    _, most = transport.get_write_buffer_limits()
    wait_until(lambda: transport.get_write_buffer_size() > most, "its buffer is full")


@pytest.fixture
def elsewhere(server, key):
    """Give sessions as another process has them."""
    with Sessions(server.url, keys=key, policy=POLICY) as sessions:
        yield sessions


@pytest.fixture
def session(elsewhere):
    """Give a session of somebody signed in."""
    return elsewhere.create({"user_id": "ada"})


@pytest.fixture
def make_app(server, key):
    """Give a function that makes an app whose only route is *handler*."""

    def make(handler, **options):
        app = web.Application(**options)
        sessions = AsyncSessions(server.url, keys=key, policy=POLICY)
        setup(app, sessions=sessions, cookie=CookiePolicy(secure=False))
        app.router.add_get("/", handler)
        app.on_cleanup.append(lambda _: sessions.close())
        return app

    return make


@pytest.fixture
def connect(serve_aiohttp, session):
    """Give a function that serves an app, and opens its route in the session by a plain connection."""
    opened = []

    def open_line(app, headers="", **serving):
        client = serve_aiohttp(app, **serving)
        line = socket.create_connection((client.base_url.host, client.base_url.port))
        opened.append(line)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        cookie = f"Cookie: session={session.identifier}\r\n"
        line.sendall(f"GET / HTTP/1.1\r\nHost: {client.base_url.host}\r\n{cookie}{headers}\r\n".encode())
        return line

    yield open_line
    for line in opened:
        line.close()


def test_client_that_does_not_read(make_app, connect, elsewhere, session, monkeypatch):
    """A client that reads nothing cannot keep its WebSocket open; the handler learns that it is gone, and no more."""
    monkeypatch.setattr(guard, "_PATIENCE_SECONDS", 0.1)
    transports, told = [], []

    async def talk(request):
        channel = web.WebSocketResponse(compress=False)
        await session_of(request)
        await channel.prepare(request)
        transports.append(request.transport)
        pushing = asyncio.create_task(push(channel))
        told.append((await channel.receive()).type)
        await asyncio.wait({pushing})
        told.append(type(pushing.exception()))
        return channel

    async def push(channel):
        while True:
            await channel.send_bytes(bytes(65536))

    connect(make_app(talk), UPGRADE.format(key=KEY))
    wait_until_backed_up(transports)

    elsewhere.revoke(session.handle)

    wait_until(lambda: len(told) == 2, "it is told")
    assert told[0] in {WSMsgType.CLOSING, WSMsgType.CLOSED}
    assert issubclass(told[1], ConnectionResetError)


def test_wait_that_was_given_up(make_app, connect, elsewhere, session):
    """The same where the handler has given up waiting for the client, which aiohttp takes ill from then on."""
    has_given_up, told = Event(), Event()

    async def talk(request):
        channel = web.WebSocketResponse(compress=False)
        await session_of(request)
        await channel.prepare(request)
        with suppress(TimeoutError):
            while True:
                await asyncio.wait_for(channel.send_bytes(bytes(65536)), 0.1)
        has_given_up.set()
        await channel.receive()
        told.set()
        return channel

    connect(make_app(talk), UPGRADE.format(key=KEY))
    assert has_given_up.wait(PATIENCE_SECONDS)

    elsewhere.revoke(session.handle)

    assert told.wait(PATIENCE_SECONDS)


def test_client_that_does_not_answer(make_app, connect, elsewhere, session, monkeypatch):
    """A client that leaves the closing of its WebSocket unanswered loses the connection; it has got the code.

    The handler is cancelled where the server is told to cancel handlers whose client is gone.
    """
    monkeypatch.setattr(guard, "_PATIENCE_SECONDS", 0.1)
    cancelled = Event()

    async def push(request):
        channel = web.WebSocketResponse()
        await session_of(request)
        await channel.prepare(request)
        await channel.send_str("open")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    line = connect(make_app(push), UPGRADE.format(key=KEY), handler_cancellation=True).makefile("rb")
    while line.readline() != b"\r\n":
        pass
    assert line.read(6) == b"\x81\x04open"

    elsewhere.revoke(session.handle)

    assert line.read(17) == b"\x88\x0f" + (4401).to_bytes(2) + b"session ended"
    assert line.read() == b""
    assert cancelled.wait(PATIENCE_SECONDS)


def test_stream_that_is_not_read(make_app, connect, elsewhere, session, monkeypatch):
    """A handler whose client does not read learns that it is gone."""
    monkeypatch.setattr(guard, "_PATIENCE_SECONDS", 0.1)
    transports, told = [], Event()

    async def stream(request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await session_of(request)
        await response.prepare(request)
        transports.append(request.transport)
        try:
            while True:
                await response.write(bytes(65536))
        except ConnectionResetError:
            told.set()
            raise

    connect(make_app(stream))
    wait_until_backed_up(transports)

    elsewhere.revoke(session.handle)

    assert told.wait(PATIENCE_SECONDS)


def test_end_before_the_beginning(make_app, connect, elsewhere, session):
    """A WebSocket whose session ends while it is being opened does not open."""
    opened, told = Event(), Event()

    async def talk(request):
        channel = web.WebSocketResponse()
        await session_of(request)
        try:
            await channel.prepare(request)
            while (await channel.receive()).type is WSMsgType.TEXT:
                opened.set()
        finally:
            told.set()
        return channel

    async def be_slow(request, response):
        await asyncio.to_thread(elsewhere.revoke, session.handle)
        await a_wait_until(lambda: request.transport is None, "the connection is closed")

    app = make_app(talk)
    app.on_response_prepare.append(be_slow)
    line = connect(app, UPGRADE.format(key=KEY))

    assert line.recv(1) == b""
    assert told.wait(PATIENCE_SECONDS)
    assert not opened.is_set()


def test_handler_that_asks_too_late(make_app, serve_aiohttp, server, session):
    """A session that is asked for after the handler of a stream has returned is not watched for ever."""

    @web.middleware
    async def look(request, handler):
        response = await handler(request)
        await session_of(request)
        return response

    async def stream(request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        return response

    client = serve_aiohttp(make_app(stream, middlewares=[look]))
    client.get("/", headers={"Cookie": f"session={session.identifier}"})
    client.get("/", headers={"Cookie": f"session={session.identifier}"})

    wait_until(lambda: not server.listeners(), "nobody listens")
