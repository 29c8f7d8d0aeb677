"""The routes of the framework tests, in Starlette."""

# ruff: noqa: D103  a handler's route and name say what it does

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute

from coatcheck import AsyncSessions
from coatcheck.starlette import SessionMiddleware, require_fresh, session_of
from tests.frameworks.apps.common import COOKIE, METHODS, POLICY, TYPES, a_wait_at, shown

sessions = AsyncSessions(policy=POLICY)


async def untouched(request):
    return JSONResponse({"ok": True})


async def read(request):
    handle = request.session.handle
    return JSONResponse({"attributes": dict(request.session), "handle": str(handle) if handle else None})


async def peek(request):
    return JSONResponse({"value": request.session.get("a")})


async def set_value(request):
    request.session[request.query_params["name"]] = request.query_params["value"]
    return JSONResponse({"ok": True})


async def nested(request):
    request.session.setdefault("list", [])
    request.session["list"].append(request.query_params["value"])
    return JSONResponse({"ok": True})


async def nested_key(request):
    request.session.setdefault("map", {})
    request.session["map"][request.query_params["key"]] = request.query_params["value"]
    return JSONResponse({"ok": True})


async def increment(request):
    return JSONResponse({"value": request.session.increment(request.query_params["name"])})


async def delete(request):
    request.session.pop(request.query_params["name"], None)
    return JSONResponse({"ok": True})


async def clear(request):
    request.session.clear()
    return JSONResponse({"ok": True})


async def login(request):
    request.session["user_id"] = request.query_params["user"]
    request.session["device"] = request.query_params["device"]
    return JSONResponse({"ok": True})


async def logout(request):
    request.session.pop("user_id", None)
    request.session.clear()
    return JSONResponse({"ok": True})


async def rotate(request):
    request.session.rotate()
    return JSONResponse({"ok": True})


@require_fresh(5)
async def fresh(request):
    return JSONResponse({"ok": True})


@require_fresh(0)
async def this_moment(request):
    return JSONResponse({"ok": True})


@require_fresh(5, assurance=2)
def strong(request):
    return JSONResponse({"ok": True})


async def step_up(request):
    await sessions.bind(request.session, request.session["user_id"], assurance=2)
    return JSONResponse({"ok": True})


async def revoke_all(request):
    return JSONResponse({"ended": await sessions.revoke_all(request.session["user_id"])})


async def devices(request):
    found = await sessions.list_for(request.session["user_id"])
    return JSONResponse({"devices": [str(info.handle) for info in found]})


async def slow_set(request):
    len(request.session)
    await a_wait_at(request.query_params["gate"])
    return await set_value(request)


async def strict(request):
    request.session.strict = True
    return await slow_set(request)


async def store_types(request):
    request.session["types"] = TYPES
    return JSONResponse({"ok": True})


async def show_types(request):
    return JSONResponse({"repr": shown(request.session["types"])})


async def mapping(request):
    METHODS[request.path_params["method"]](request.session)
    return JSONResponse({"ok": True})


async def boom(request):
    request.session["boom"] = 1
    raise RuntimeError("boom")


async def echo(socket):
    """Send what the session holds, then set what comes."""
    session = await session_of(socket)
    await socket.accept()
    await socket.send_json(dict(session))
    session["said"] = await socket.receive_text()
    await socket.close()


app = Starlette(
    routes=[
        Route("/untouched", untouched),
        Route("/read", read),
        Route("/peek", peek),
        Route("/set", set_value, methods=["POST"]),
        Route("/nested", nested, methods=["POST"]),
        Route("/nested-key", nested_key, methods=["POST"]),
        Route("/increment", increment, methods=["POST"]),
        Route("/delete", delete, methods=["POST"]),
        Route("/clear", clear, methods=["POST"]),
        Route("/login", login, methods=["POST"]),
        Route("/logout", logout, methods=["POST"]),
        Route("/rotate", rotate, methods=["POST"]),
        Route("/fresh", fresh),
        Route("/this-moment", this_moment),
        Route("/strong", strong),
        Route("/step-up", step_up, methods=["POST"]),
        Route("/revoke-all", revoke_all, methods=["POST"]),
        Route("/devices", devices),
        Route("/slow-set", slow_set, methods=["POST"]),
        Route("/strict", strict, methods=["POST"]),
        Route("/types", store_types, methods=["POST"]),
        Route("/types", show_types),
        Route("/mapping/{method}", mapping),
        Route("/boom", boom),
        WebSocketRoute("/echo", echo),
    ]
)
app.add_middleware(SessionMiddleware, sessions=sessions, cookie=COOKIE)
