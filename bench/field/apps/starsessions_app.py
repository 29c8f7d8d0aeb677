"""starsessions with Redis."""

import os

from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starsessions import SessionAutoloadMiddleware, SessionMiddleware, regenerate_session_id
from starsessions.stores.redis import RedisStore

from bench.field.gate import wait_at_gate


async def set_one(request: Request) -> JSONResponse:
    """Serve /set."""
    request.session.get("seed")
    if "wait" in request.query_params:
        await wait_at_gate()
    request.session[request.query_params["name"]] = request.query_params["value"]
    return JSONResponse({})


async def show(request: Request) -> JSONResponse:
    """Serve /show."""
    return JSONResponse(dict(request.session))


async def sign_in(request: Request) -> JSONResponse:
    """Serve /login."""
    if "own" in request.query_params:
        regenerate_session_id(request)
    request.session["user_id"] = "ada"
    return JSONResponse({})


async def sign_out(request: Request) -> JSONResponse:
    """Serve /logout."""
    request.session.clear()
    return JSONResponse({})


app = Starlette(
    routes=[Route("/set", set_one), Route("/show", show), Route("/login", sign_in), Route("/logout", sign_out)],
    middleware=[
        Middleware(SessionMiddleware, store=RedisStore(connection=Redis.from_url(os.environ["FIELD_STORE"]))),
        Middleware(SessionAutoloadMiddleware),
    ],
)
