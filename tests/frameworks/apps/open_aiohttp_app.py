"""Connections that stay open, in aiohttp. It has the routes of open_starlette_app."""

# ruff: noqa: D103  a handler's route and name say what it does

from datetime import timedelta

from aiohttp import WSMsgType, web

from coatcheck import AsyncSessions
from coatcheck.aiohttp import session_of, setup
from tests.frameworks.apps.common import COOKIE, OPEN, ticks

sessions = AsyncSessions(policy=OPEN)
routes = web.RouteTableDef()
seen = []


@routes.get("/untouched")
async def untouched(request):
    return web.json_response({"ok": True})


@routes.post("/begin")
async def begin(request):
    (await session_of(request))["a"] = 1
    return web.json_response({"ok": True})


@routes.post("/login")
async def login(request):
    (await session_of(request))["user_id"] = request.query["user"]
    return web.json_response({"ok": True})


@routes.post("/again")
async def again(request):
    session = await session_of(request)
    await sessions.bind(session, session["user_id"], assurance=2)
    return web.json_response({"ok": True})


@routes.post("/rotate")
async def rotate(request):
    (await session_of(request)).rotate()
    return web.json_response({"ok": True})


@routes.post("/logout-everywhere")
async def logout_everywhere(request):
    return web.json_response({"ended": await sessions.revoke_all((await session_of(request))["user_id"])})


@routes.post("/shorten")
async def shorten(request):
    (await session_of(request)).set_timeouts(idle=timedelta(milliseconds=int(request.query["idle"])))
    return web.json_response({"ok": True})


@routes.get("/seen")
async def what_was_seen(request):
    return web.json_response(seen)


@routes.get("/echo")
async def echo(request):
    """Ask for the session once the socket is open."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await session_of(request)
    await socket.send_str("open")
    while (message := await socket.receive()).type is WSMsgType.TEXT:
        await socket.send_str(message.data)
    seen.append(message.type.name)
    return socket


@routes.get("/pushing")
async def pushing(request):
    """Never receives."""
    await session_of(request)
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str("open")
    try:
        async for tick in ticks():
            await socket.send_str(tick)
    except ConnectionResetError:
        seen.append("pushing ended")
    return socket


@routes.get("/events")
async def events(request):
    await session_of(request)
    stream = web.StreamResponse(headers={"Content-Type": request.query.get("type", "text/event-stream")})
    await stream.prepare(request)
    await stream.write(b"data: open\n\n")
    try:
        async for tick in ticks():
            await stream.write(f": {tick}\n\n".encode())
    except ConnectionResetError:
        seen.append("stream ended")
    return stream


async def close(app):
    await sessions.close()


app = web.Application()
setup(app, sessions=sessions, cookie=COOKIE)
app.on_cleanup.append(close)
app.add_routes(routes)
