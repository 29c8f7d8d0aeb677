"""Starlette: bare, the least that a sealed session takes, starsessions, coatcheck, the same with its near cache."""

import os

from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starsessions import SessionAutoloadMiddleware
from starsessions import SessionMiddleware as Starsessions
from starsessions.stores.redis import RedisStore

from bench.load.apps.least import LeastMiddleware
from bench.load.content import SESSION, add_one
from bench.load.near import POLICY
from coatcheck.starlette import SessionMiddleware

_URL = os.environ["LOAD_STORE"]
_MIDDLEWARE = {
    "bare": list,
    "least": lambda: [Middleware(LeastMiddleware)],
    "least, kept": lambda: [Middleware(LeastMiddleware, keeps=True)],
    "starsessions": lambda: [
        Middleware(Starsessions, store=RedisStore(connection=Redis.from_url(_URL)), rolling=True, lifetime=1800),
        Middleware(SessionAutoloadMiddleware),
    ],
    "coatcheck": lambda: [Middleware(SessionMiddleware, url=_URL, policy=POLICY)],
}
_MIDDLEWARE["coatcheck near"] = _MIDDLEWARE["coatcheck"]
_is_bare = os.environ["LOAD_VARIANT"] == "bare"


async def fill(request: Request) -> PlainTextResponse:
    """Serve /fill."""
    if not _is_bare:
        request.session.update(SESSION)
    return PlainTextResponse("filled")


async def read(request: Request) -> PlainTextResponse:
    """Serve /read."""
    return PlainTextResponse("Ada Lovelace" if _is_bare else request.session["name"])


async def write(request: Request) -> PlainTextResponse:
    """Serve /write."""
    if not _is_bare:
        add_one(request.session)
    return PlainTextResponse("written")


async def hits(request: Request) -> PlainTextResponse:
    """Serve /hits."""
    return PlainTextResponse(str(request.session["hits"]))


app = Starlette(
    routes=[Route("/fill", fill), Route("/read", read), Route("/write", write), Route("/hits", hits)],
    middleware=_MIDDLEWARE[os.environ["LOAD_VARIANT"]](),
)
