"""Litestar's server-side sessions in its RedisStore."""

import os
from typing import Any

from litestar import Litestar, Request, get
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.stores.redis import RedisStore

from bench.field.gate import wait_at_gate


@get("/set")
async def set_one(request: Request) -> dict[str, Any]:
    """Serve /set."""
    request.session.get("seed")
    if "wait" in request.query_params:
        await wait_at_gate()
    request.session[request.query_params["name"]] = request.query_params["value"]
    return {}


@get("/show")
async def show(request: Request) -> dict[str, Any]:
    """Serve /show."""
    return dict(request.session)


@get("/login")
async def sign_in(request: Request) -> dict[str, Any]:
    """Serve /login. There is no call for a new id."""
    request.session["user_id"] = "ada"
    return {}


@get("/logout")
async def sign_out(request: Request) -> dict[str, Any]:
    """Serve /logout."""
    request.clear_session()
    return {}


app = Litestar(
    [set_one, show, sign_in, sign_out],
    middleware=[ServerSideSessionConfig().middleware],
    stores={"sessions": RedisStore.with_client(url=os.environ["FIELD_STORE"])},
)
