"""Connections that stay open, in Starlette."""

# ruff: noqa: D103  a handler's route and name say what it does

from datetime import timedelta

from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from coatcheck import AsyncSessions
from coatcheck.starlette import SessionMiddleware
from tests.frameworks.apps.common import COOKIE, OPEN, open_stream, ticks

sessions = AsyncSessions(policy=OPEN)
seen = []


async def untouched(request):
    return JSONResponse({"ok": True})


async def begin(request):
    request.session["a"] = 1
    return JSONResponse({"ok": True})


async def login(request):
    request.session["user_id"] = request.query_params["user"]
    return JSONResponse({"ok": True})


async def again(request):
    await sessions.bind(request.session, request.session["user_id"], assurance=2)
    return JSONResponse({"ok": True})


async def rotate(request):
    request.session.rotate()
    return JSONResponse({"ok": True})


async def logout_everywhere(request):
    return JSONResponse({"ended": await sessions.revoke_all(request.session["user_id"])})


async def shorten(request):
    request.session.set_timeouts(idle=timedelta(milliseconds=int(request.query_params["idle"])))
    return JSONResponse({"ok": True})


async def what_was_seen(request):
    return JSONResponse(seen)


async def echo(socket):
    await socket.accept()
    await socket.send_text("open")
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect as gone:
        seen.append(gone.code)


async def pushing(socket):
    """Never receives."""
    await socket.accept()
    await socket.send_text("open")
    try:
        async for tick in ticks():
            await socket.send_text(tick)
    except WebSocketDisconnect:
        seen.append("pushing ended")


async def events(request):
    return StreamingResponse(open_stream(seen), media_type=request.query_params.get("type", "text/event-stream"))


app = Starlette(
    routes=[
        Route("/untouched", untouched),
        Route("/begin", begin, methods=["POST"]),
        Route("/login", login, methods=["POST"]),
        Route("/again", again, methods=["POST"]),
        Route("/rotate", rotate, methods=["POST"]),
        Route("/logout-everywhere", logout_everywhere, methods=["POST"]),
        Route("/shorten", shorten, methods=["POST"]),
        Route("/seen", what_was_seen),
        Route("/events", events),
        WebSocketRoute("/echo", echo),
        WebSocketRoute("/pushing", pushing),
    ]
)
app.add_middleware(SessionMiddleware, sessions=sessions, cookie=COOKIE)
