"""aiohttp-session with its RedisStorage; `python -m` this, with the port."""

import os
import sys

from aiohttp import web
from aiohttp_session import get_session, new_session, setup
from aiohttp_session.redis_storage import RedisStorage
from redis.asyncio import Redis

from bench.field.gate import wait_at_gate

routes = web.RouteTableDef()


@routes.get("/set")
async def set_one(request: web.Request) -> web.Response:
    """Serve /set."""
    session = await get_session(request)
    if "wait" in request.query:
        await wait_at_gate()
    session[request.query["name"]] = request.query["value"]
    return web.json_response({})


@routes.get("/show")
async def show(request: web.Request) -> web.Response:
    """Serve /show."""
    return web.json_response(dict(await get_session(request)))


@routes.get("/login")
async def sign_in(request: web.Request) -> web.Response:
    """Serve /login."""
    session = await (new_session if "own" in request.query else get_session)(request)
    session["user_id"] = "ada"
    return web.json_response({})


@routes.get("/logout")
async def sign_out(request: web.Request) -> web.Response:
    """Serve /logout."""
    (await get_session(request)).invalidate()
    return web.json_response({})


async def make_app() -> web.Application:
    """Make the app, on the loop that serves it."""
    app = web.Application()
    setup(app, RedisStorage(Redis.from_url(os.environ["FIELD_STORE"])))
    app.add_routes(routes)
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=int(sys.argv[1]), print=None)
