"""Litestar: bare, its own sessions in its RedisStore, the least that a sealed session takes, coatcheck, also near."""

import os

from litestar import Litestar, MediaType, Request, get
from litestar.middleware import DefineMiddleware
from litestar.middleware.session.server_side import ServerSideSessionConfig

from bench.load.content import SESSION, add_one

_URL, _VARIANT = os.environ["LOAD_STORE"], os.environ["LOAD_VARIANT"]
_is_bare = _VARIANT == "bare"


@get("/fill", media_type=MediaType.TEXT)
async def fill(request: Request) -> str:
    """Serve /fill."""
    if not _is_bare:
        request.session.update(SESSION)
    return "filled"


@get("/read", media_type=MediaType.TEXT)
async def read(request: Request) -> str:
    """Serve /read."""
    return "Ada Lovelace" if _is_bare else request.session["name"]


@get("/write", media_type=MediaType.TEXT)
async def write(request: Request) -> str:
    """Serve /write."""
    if not _is_bare:
        add_one(request.session)
    return "written"


@get("/hits", media_type=MediaType.TEXT)
async def hits(request: Request) -> str:
    """Serve /hits."""
    return str(request.session["hits"])


_ROUTES = [fill, read, write, hits]

if _is_bare:
    app = Litestar(_ROUTES)
elif _VARIANT.startswith("least"):
    from bench.load.apps.least import LeastMiddleware

    app = Litestar(_ROUTES, middleware=[DefineMiddleware(LeastMiddleware, keeps=_VARIANT == "least, kept")])
elif _VARIANT.startswith("coatcheck"):
    from bench.load.near import POLICY
    from coatcheck.litestar import SessionConfig

    app = Litestar(_ROUTES, middleware=[SessionConfig(url=_URL, policy=POLICY).middleware])
else:
    from litestar.stores.redis import RedisStore

    app = Litestar(
        _ROUTES,
        middleware=[ServerSideSessionConfig(renew_on_access=True, max_age=1800).middleware],
        stores={"sessions": RedisStore.with_client(url=_URL)},
    )
