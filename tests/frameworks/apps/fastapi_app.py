"""The routes of the framework tests, in FastAPI."""

# ruff: noqa: D103  a handler's route and name say what it does

from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket

from coatcheck import AsyncSessions, Session
from coatcheck.fastapi import CurrentSession, SessionMiddleware, require_fresh
from tests.frameworks.apps.common import COOKIE, METHODS, POLICY, TYPES, a_wait_at, shown

sessions = AsyncSessions(policy=POLICY)
app = FastAPI()
app.add_middleware(SessionMiddleware, sessions=sessions, cookie=COOKIE, ahead=False)


@app.get("/untouched")
async def untouched():
    return {"ok": True}


@app.get("/read")
async def read(session: CurrentSession):
    return {"attributes": dict(session), "handle": str(session.handle) if session.handle else None}


@app.get("/peek")
async def peek(session: CurrentSession):
    return {"value": session.get("a")}


@app.post("/set")
async def set_value(session: CurrentSession, name: str, value: str):
    session[name] = value
    return {"ok": True}


@app.post("/nested")
async def nested(session: CurrentSession, value: str):
    session.setdefault("list", [])
    session["list"].append(value)
    return {"ok": True}


@app.post("/nested-key")
async def nested_key(session: CurrentSession, key: str, value: str):
    session.setdefault("map", {})
    session["map"][key] = value
    return {"ok": True}


@app.post("/increment")
async def increment(session: CurrentSession, name: str):
    return {"value": session.increment(name)}


@app.post("/delete")
async def delete(session: CurrentSession, name: str):
    session.pop(name, None)
    return {"ok": True}


@app.post("/clear")
async def clear(session: CurrentSession):
    session.clear()
    return {"ok": True}


@app.post("/login")
async def login(session: CurrentSession, user: str, device: str):
    session["user_id"] = user
    session["device"] = device
    return {"ok": True}


@app.post("/logout")
async def logout(session: CurrentSession):
    session.pop("user_id", None)
    session.clear()
    return {"ok": True}


@app.post("/rotate")
async def rotate(session: CurrentSession):
    session.rotate()
    return {"ok": True}


@app.get("/fresh", dependencies=[Depends(require_fresh(5))])
async def fresh():
    return {"ok": True}


@app.get("/this-moment", dependencies=[Depends(require_fresh(0))])
def this_moment():
    return {"ok": True}


@app.get("/strong")
async def strong(session: Annotated[Session, Depends(require_fresh(5, assurance=2))]):
    return {"ok": session.assurance >= 2}


@app.post("/step-up")
async def step_up(session: CurrentSession):
    await sessions.bind(session, session["user_id"], assurance=2)
    return {"ok": True}


@app.post("/revoke-all")
async def revoke_all(session: CurrentSession):
    return {"ended": await sessions.revoke_all(session["user_id"])}


@app.get("/devices")
async def devices(session: CurrentSession):
    return {"devices": [str(info.handle) for info in await sessions.list_for(session["user_id"])]}


@app.post("/slow-set")
async def slow_set(session: CurrentSession, name: str, value: str, gate: str):
    len(session)
    await a_wait_at(gate)
    session[name] = value
    return {"ok": True}


@app.post("/strict")
async def strict(session: CurrentSession, name: str, value: str, gate: str):
    session.strict = True
    return await slow_set(session, name, value, gate)


@app.post("/types")
async def store_types(session: CurrentSession):
    session["types"] = TYPES
    return {"ok": True}


@app.get("/types")
async def show_types(session: CurrentSession):
    return {"repr": shown(session["types"])}


@app.get("/mapping/{method}")
async def mapping(session: CurrentSession, method: str):
    METHODS[method](session)
    return {"ok": True}


@app.get("/boom")
async def boom(session: CurrentSession):
    session["boom"] = 1
    raise RuntimeError("boom")


@app.websocket("/echo")
async def echo(socket: WebSocket, session: CurrentSession):
    """Send what the session holds, then set what comes."""
    await socket.accept()
    await socket.send_json(dict(session))
    session["said"] = await socket.receive_text()
    await socket.close()
