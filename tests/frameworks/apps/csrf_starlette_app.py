"""An app in Starlette that asks for CSRF tokens. It has the routes of csrf_flask_app."""

# ruff: noqa: D103  a handler's route and name say what it does

import hashlib

from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route, WebSocketRoute

from coatcheck import AsyncSessions, CsrfPolicy, SessionPolicy
from coatcheck.starlette import SessionMiddleware, csrf_token, session_of
from tests.frameworks.apps.common import COOKIE

sessions = AsyncSessions(policy=SessionPolicy(subject_attribute="user_id"))


async def untouched(request):
    return JSONResponse({"ok": True})


async def page(request):
    await session_of(request)
    return HTMLResponse(csrf_token(request))


async def login(request):
    (await session_of(request))["user_id"] = request.query_params["user"]
    return HTMLResponse(csrf_token(request))


async def rotate(request):
    (await session_of(request)).rotate()
    return HTMLResponse(csrf_token(request))


async def logout(request):
    (await session_of(request)).revoke()
    return HTMLResponse(csrf_token(request))


async def change(request):
    body = await request.body()
    session = await session_of(request)
    return JSONResponse({"digest": hashlib.sha256(body).hexdigest(), "user": session.get("user_id")})


async def echo(socket):
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


app = Starlette(
    routes=[
        Route("/untouched", untouched),
        Route("/page", page),
        Route("/login", login, methods=["POST"]),
        Route("/rotate", rotate, methods=["POST"]),
        Route("/logout", logout, methods=["POST"]),
        Route("/change", change, methods=["POST", "PUT", "PATCH", "DELETE"]),
        Route("/hooks/paid", change, methods=["POST"]),
        WebSocketRoute("/socket", echo),
    ]
)
app.add_middleware(
    SessionMiddleware,
    sessions=sessions,
    cookie=COOKIE,
    ahead=False,
    csrf=CsrfPolicy(exempt=("/hooks",), trusted_origins=("https://partner.example",)),
)
