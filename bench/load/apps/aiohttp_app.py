"""aiohttp: bare, aiohttp-session's Redis storage, coatcheck. `python -m bench.load.apps.aiohttp_app PORT`."""

import os
import sys

import uvloop
from aiohttp import web
from aiohttp_session import get_session as get_peer_session
from aiohttp_session import setup as set_up_peer
from aiohttp_session.redis_storage import RedisStorage
from redis.asyncio import Redis

from bench.load.content import SESSION, add_one
from coatcheck import aiohttp as coatcheck_aiohttp

_URL, _VARIANT = os.environ["LOAD_STORE"], os.environ["LOAD_VARIANT"]
_is_bare = _VARIANT == "bare"
get_session = get_peer_session if _VARIANT == "aiohttp-session" else coatcheck_aiohttp.session_of


async def fill(request: web.Request) -> web.Response:
    """Serve /fill."""
    if not _is_bare:
        (await get_session(request)).update(SESSION)
    return web.Response(text="filled")


async def read(request: web.Request) -> web.Response:
    """Serve /read."""
    return web.Response(text="Ada Lovelace" if _is_bare else (await get_session(request))["name"])


async def write(request: web.Request) -> web.Response:
    """Serve /write."""
    if not _is_bare:
        add_one(await get_session(request))
    return web.Response(text="written")


async def hits(request: web.Request) -> web.Response:
    """Serve /hits."""
    return web.Response(text=str((await get_session(request))["hits"]))


async def make_app() -> web.Application:
    """Make the application, on the loop that it runs on."""
    app = web.Application()
    if _VARIANT == "aiohttp-session":
        set_up_peer(app, RedisStorage(Redis.from_url(_URL), max_age=1800))
    elif not _is_bare:
        coatcheck_aiohttp.setup(app, url=_URL)
    app.router.add_get("/fill", fill)
    app.router.add_get("/read", read)
    app.router.add_get("/write", write)
    app.router.add_get("/hits", hits)
    return app


if __name__ == "__main__":
    uvloop.install()
    web.run_app(make_app(), host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
