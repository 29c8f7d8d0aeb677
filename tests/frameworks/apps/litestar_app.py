"""The routes of the framework tests, in Litestar."""

# ruff: noqa: D103  a handler's route and name say what it does

from typing import Any

from litestar import Litestar, Request, get, post

from coatcheck import AsyncSessions
from coatcheck.litestar import SessionConfig, require_fresh
from tests.frameworks.apps.common import COOKIE, METHODS, POLICY, TYPES, a_wait_at, shown

sessions = AsyncSessions(policy=POLICY)


@get("/untouched", skip_session=True)
async def untouched() -> dict[str, Any]:
    return {"ok": True}


@get("/read")
async def read(request: Request) -> dict[str, Any]:
    handle = request.session.handle
    return {"attributes": dict(request.session), "handle": str(handle) if handle else None}


@get("/peek")
async def peek(request: Request) -> dict[str, Any]:
    return {"value": request.session.get("a")}


@post("/set", status_code=200)
async def set_value(request: Request, name: str, value: str) -> dict[str, Any]:
    request.session[name] = value
    return {"ok": True}


@post("/nested", status_code=200)
async def nested(request: Request, value: str) -> dict[str, Any]:
    request.session.setdefault("list", [])
    request.session["list"].append(value)
    return {"ok": True}


@post("/nested-key", status_code=200)
async def nested_key(request: Request, key: str, value: str) -> dict[str, Any]:
    request.session.setdefault("map", {})
    request.session["map"][key] = value
    return {"ok": True}


@post("/increment", status_code=200)
async def increment(request: Request, name: str) -> dict[str, Any]:
    return {"value": request.session.increment(name)}


@post("/delete", status_code=200)
async def delete(request: Request, name: str) -> dict[str, Any]:
    request.session.pop(name, None)
    return {"ok": True}


@post("/clear", status_code=200)
async def clear(request: Request) -> dict[str, Any]:
    request.session.clear()
    return {"ok": True}


@post("/login", status_code=200)
async def login(request: Request, user: str, device: str) -> dict[str, Any]:
    request.session["user_id"] = user
    request.session["device"] = device
    return {"ok": True}


@post("/logout", status_code=200)
async def logout(request: Request) -> dict[str, Any]:
    request.session.pop("user_id", None)
    request.session.clear()
    return {"ok": True}


@post("/rotate", status_code=200)
async def rotate(request: Request) -> dict[str, Any]:
    request.session.rotate()
    return {"ok": True}


@get("/fresh", guards=[require_fresh(5)])
async def fresh() -> dict[str, Any]:
    return {"ok": True}


@get("/this-moment", guards=[require_fresh(0)])
async def this_moment() -> dict[str, Any]:
    return {"ok": True}


@get("/strong", guards=[require_fresh(5, assurance=2)])
async def strong() -> dict[str, Any]:
    return {"ok": True}


@post("/step-up", status_code=200)
async def step_up(request: Request) -> dict[str, Any]:
    await sessions.bind(request.session, request.session["user_id"], assurance=2)
    return {"ok": True}


@post("/revoke-all", status_code=200)
async def revoke_all(request: Request) -> dict[str, Any]:
    return {"ended": await sessions.revoke_all(request.session["user_id"])}


@get("/devices")
async def devices(request: Request) -> dict[str, Any]:
    return {"devices": [str(info.handle) for info in await sessions.list_for(request.session["user_id"])]}


@post("/slow-set", status_code=200)
async def slow_set(request: Request, name: str, value: str, gate: str) -> dict[str, Any]:
    len(request.session)
    await a_wait_at(gate)
    request.session[name] = value
    return {"ok": True}


@post("/strict", status_code=200)
async def strict(request: Request, name: str, value: str, gate: str) -> dict[str, Any]:
    request.session.strict = True
    len(request.session)
    await a_wait_at(gate)
    request.session[name] = value
    return {"ok": True}


@post("/types", status_code=200)
async def store_types(request: Request) -> dict[str, Any]:
    request.session["types"] = TYPES
    return {"ok": True}


@get("/types")
async def show_types(request: Request) -> dict[str, Any]:
    return {"repr": shown(request.session["types"])}


@get("/mapping/{method:str}")
async def mapping(request: Request, method: str) -> dict[str, Any]:
    METHODS[method](request.session)
    return {"ok": True}


@get("/boom")
async def boom(request: Request) -> None:
    request.session["boom"] = 1
    raise RuntimeError("boom")


app = Litestar(
    [
        *(untouched, read, peek, set_value, nested, nested_key, increment, delete, clear, login, logout, rotate),
        *(fresh, this_moment, strong, step_up),
        *(revoke_all, devices, slow_set, strict, store_types, show_types, mapping, boom),
    ],
    middleware=[SessionConfig(sessions=sessions, cookie=COOKIE).middleware],
    openapi_config=None,
    logging_config=None,
)
