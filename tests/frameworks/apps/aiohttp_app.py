"""The routes of the framework tests, in aiohttp."""

# ruff: noqa: D103  a handler's route and name say what it does

from aiohttp import web

from coatcheck import AsyncSessions
from coatcheck.aiohttp import require_fresh, session_of, setup
from tests.frameworks.apps.common import COOKIE, HTTPS, METHODS, POLICY, TYPES, a_wait_at, shown

sessions = AsyncSessions(policy=POLICY)
routes = web.RouteTableDef()


@routes.get("/untouched")
async def untouched(request):
    return web.json_response({"ok": True})


@routes.get("/read")
async def read(request):
    session = await session_of(request)
    handle = session.handle
    return web.json_response({"attributes": dict(session), "handle": str(handle) if handle else None})


@routes.get("/peek")
async def peek(request):
    return web.json_response({"value": (await session_of(request)).get("a")})


@routes.post("/set")
async def set_value(request):
    session = await session_of(request)
    session[request.query["name"]] = request.query["value"]
    return web.json_response({"ok": True})


@routes.post("/nested")
async def nested(request):
    session = await session_of(request)
    session.setdefault("list", [])
    session["list"].append(request.query["value"])
    return web.json_response({"ok": True})


@routes.post("/nested-key")
async def nested_key(request):
    session = await session_of(request)
    session.setdefault("map", {})
    session["map"][request.query["key"]] = request.query["value"]
    return web.json_response({"ok": True})


@routes.post("/increment")
async def increment(request):
    return web.json_response({"value": (await session_of(request)).increment(request.query["name"])})


@routes.post("/delete")
async def delete(request):
    (await session_of(request)).pop(request.query["name"], None)
    return web.json_response({"ok": True})


@routes.post("/clear")
async def clear(request):
    (await session_of(request)).clear()
    return web.json_response({"ok": True})


@routes.post("/login")
async def login(request):
    session = await session_of(request)
    session["user_id"] = request.query["user"]
    session["device"] = request.query["device"]
    return web.json_response({"ok": True})


@routes.post("/logout")
async def logout(request):
    session = await session_of(request)
    session.pop("user_id", None)
    session.clear()
    return web.json_response({"ok": True})


@routes.post("/rotate")
async def rotate(request):
    (await session_of(request)).rotate()
    return web.json_response({"ok": True})


@routes.get("/fresh")
@require_fresh(5)
async def fresh(request):
    return web.json_response({"ok": True})


@routes.get("/this-moment")
@require_fresh(0)
async def this_moment(request):
    return web.json_response({"ok": True})


@routes.view("/strong")
class Strong(web.View):
    """The same in a class."""

    @require_fresh(5, assurance=2)
    async def get(self):
        """Answer."""
        return web.json_response({"ok": True})


@routes.post("/step-up")
async def step_up(request):
    session = await session_of(request)
    await sessions.bind(session, session["user_id"], assurance=2)
    return web.json_response({"ok": True})


@routes.post("/revoke-all")
async def revoke_all(request):
    session = await session_of(request)
    return web.json_response({"ended": await sessions.revoke_all(session["user_id"])})


@routes.get("/devices")
async def devices(request):
    session = await session_of(request)
    return web.json_response({"devices": [str(info.handle) for info in await sessions.list_for(session["user_id"])]})


@routes.post("/slow-set")
async def slow_set(request):
    len(await session_of(request))
    await a_wait_at(request.query["gate"])
    return await set_value(request)


@routes.post("/strict")
async def strict(request):
    (await session_of(request)).strict = True
    return await slow_set(request)


@routes.post("/types")
async def store_types(request):
    (await session_of(request))["types"] = TYPES
    return web.json_response({"ok": True})


@routes.get("/types")
async def show_types(request):
    return web.json_response({"repr": shown((await session_of(request))["types"])})


@routes.get("/mapping/{method}")
async def mapping(request):
    METHODS[request.match_info["method"]](await session_of(request))
    return web.json_response({"ok": True})


@routes.get("/boom")
async def boom(request):
    (await session_of(request))["boom"] = 1
    raise RuntimeError("boom")


@web.middleware
async def trust_proxy(request, handler):
    scheme = request.headers.get("X-Forwarded-Proto", request.scheme)
    return await handler(request.clone(scheme=scheme))


async def close(app):
    await sessions.close()


app = web.Application(middlewares=[trust_proxy] if HTTPS else [])
setup(app, sessions=sessions, cookie=COOKIE)
app.on_cleanup.append(close)
app.add_routes(routes)
