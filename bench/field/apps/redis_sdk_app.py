"""The sessions of Redis's own fastapi-redis-sdk; FIELD_VARIANT may be "fail closed"."""

import os
from typing import Any

from fastapi import FastAPI, Request
from redis_fastapi import FastAPIRedis, get_settings
from redis_fastapi.deps import SessionDep

from bench.field.gate import wait_at_gate

get_settings().url = os.environ["FIELD_STORE"]
get_settings().session_fail_closed = os.environ["FIELD_VARIANT"] == "fail closed"
app = FastAPI()
FastAPIRedis(app).lifespan().sessions()


@app.get("/set")
async def set_one(session: SessionDep, request: Request, name: str, value: str) -> dict[str, Any]:
    """Serve /set."""
    session.get("seed")
    if "wait" in request.query_params:
        await wait_at_gate()
    session[name] = value
    return {}


@app.get("/show")
async def show(session: SessionDep) -> dict[str, Any]:
    """Serve /show."""
    return dict(session)


@app.get("/login")
async def sign_in(session: SessionDep) -> dict[str, Any]:
    """Serve /login. What the documentation has for it is this: the change of user_id is noticed."""
    session["user_id"] = "ada"
    return {}


@app.get("/logout")
async def sign_out(session: SessionDep) -> dict[str, Any]:
    """Serve /logout."""
    session.clear()
    return {}
