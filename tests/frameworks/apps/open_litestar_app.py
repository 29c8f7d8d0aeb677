"""Connections that stay open, in Litestar. It has the routes of open_starlette_app."""

# ruff: noqa: D103  a handler's route and name say what it does

from datetime import timedelta
from typing import Any

from litestar import Litestar, Request, WebSocket, get, post, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.response import Stream

from coatcheck import AsyncSessions
from coatcheck.litestar import SessionConfig
from tests.frameworks.apps.common import COOKIE, OPEN, open_stream, ticks

sessions = AsyncSessions(policy=OPEN)
seen = []


@get("/untouched")
async def untouched() -> dict[str, Any]:
    return {"ok": True}


@post("/begin", status_code=200)
async def begin(request: Request) -> dict[str, Any]:
    request.session["a"] = 1
    return {"ok": True}


@post("/login", status_code=200)
async def login(request: Request, user: str) -> dict[str, Any]:
    request.session["user_id"] = user
    return {"ok": True}


@post("/again", status_code=200)
async def again(request: Request) -> dict[str, Any]:
    await sessions.bind(request.session, request.session["user_id"], assurance=2)
    return {"ok": True}


@post("/rotate", status_code=200)
async def rotate(request: Request) -> dict[str, Any]:
    request.session.rotate()
    return {"ok": True}


@post("/logout-everywhere", status_code=200)
async def logout_everywhere(request: Request) -> dict[str, Any]:
    return {"ended": await sessions.revoke_all(request.session["user_id"])}


@post("/shorten", status_code=200)
async def shorten(request: Request, idle: int) -> dict[str, Any]:
    request.session.set_timeouts(idle=timedelta(milliseconds=idle))
    return {"ok": True}


@get("/seen")
async def what_was_seen() -> list[Any]:
    return seen


@websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("open")
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect as gone:
        seen.append(gone.code)


@websocket("/pushing")
async def pushing(socket: WebSocket) -> None:
    """Never receives."""
    await socket.accept()
    await socket.send_text("open")
    try:
        async for tick in ticks():
            await socket.send_text(tick)
    except OSError:
        seen.append("pushing ended")


@get("/events")
async def events(request: Request) -> Stream:
    return Stream(open_stream(seen), media_type=request.query_params.get("type", "text/event-stream"))


app = Litestar(
    [
        *(untouched, begin, login, again, rotate, logout_everywhere, shorten, what_was_seen),
        *(echo, pushing, events),
    ],
    middleware=[SessionConfig(sessions=sessions, cookie=COOKIE).middleware],
    openapi_config=None,
    logging_config=None,
)
