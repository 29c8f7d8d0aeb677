"""An app in aiohttp that asks for CSRF tokens. It has the routes of csrf_flask_app, and a WebSocket."""

# ruff: noqa: D103  a handler's route and name say what it does

import hashlib

from aiohttp import web

from coatcheck import AsyncSessions, SessionPolicy
from coatcheck.aiohttp import CsrfPolicy, csrf_token, session_of, setup
from tests.frameworks.apps.common import COOKIE

sessions = AsyncSessions(policy=SessionPolicy(subject_attribute="user_id"))


async def untouched(request):
    return web.json_response({"ok": True})


async def page(request):
    return web.Response(text=await csrf_token(request))


async def login(request):
    (await session_of(request))["user_id"] = request.query["user"]
    return await page(request)


async def rotate(request):
    (await session_of(request)).rotate()
    return await page(request)


async def logout(request):
    (await session_of(request)).revoke()
    return await page(request)


async def change(request):
    form = await request.post()
    body = form["file"].file.read() if "file" in form else await request.read()
    session = await session_of(request)
    return web.json_response({"digest": hashlib.sha256(body).hexdigest(), "user": session.get("user_id")})


async def greet(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str("hello")
    await socket.close()
    return socket


async def close(app):
    await sessions.close()


app = web.Application(client_max_size=16 * 1024 * 1024)
setup(
    app,
    sessions=sessions,
    cookie=COOKIE,
    csrf=CsrfPolicy(exempt=("/hooks",), trusted_origins=("https://partner.example",)),
)
app.on_cleanup.append(close)
app.router.add_get("/untouched", untouched)
app.router.add_get("/page", page)
app.router.add_get("/socket", greet)
app.router.add_post("/login", login)
app.router.add_post("/rotate", rotate)
app.router.add_post("/logout", logout)
app.router.add_post("/hooks/paid", change)
for method in ("POST", "PUT", "PATCH", "DELETE"):
    app.router.add_route(method, "/change", change)
