"""The routes of the framework tests, in asynchronous Django: a-methods everywhere, so nothing leaves the loop."""

# ruff: noqa: D103  a handler's route and name say what it does

from django.http import JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from coatcheck.django import async_sessions, require_fresh
from tests.frameworks.apps.common import METHODS, TYPES, a_wait_at, shown


async def untouched(request):
    return JsonResponse({"ok": True})


async def read(request):
    attributes = dict(await request.session.aitems())
    handle = (await request.session.asession()).handle
    return JsonResponse({"attributes": attributes, "handle": str(handle) if handle else None})


async def peek(request):
    return JsonResponse({"value": await request.session.aget("a")})


async def set_value(request):
    await request.session.aset(request.GET["name"], request.GET["value"])
    return JsonResponse({"ok": True})


async def nested(request):
    (await request.session.asetdefault("list", [])).append(request.GET["value"])
    return JsonResponse({"ok": True})


async def nested_key(request):
    (await request.session.asetdefault("map", {}))[request.GET["key"]] = request.GET["value"]
    return JsonResponse({"ok": True})


async def increment(request):
    return JsonResponse({"value": (await request.session.asession()).increment(request.GET["name"])})


async def delete(request):
    await request.session.apop(request.GET["name"], None)
    return JsonResponse({"ok": True})


async def clear(request):
    request.session.clear()
    return JsonResponse({"ok": True})


async def login(request):
    await request.session.aset("user_id", request.GET["user"])
    await request.session.aset("device", request.GET["device"])
    return JsonResponse({"ok": True})


async def logout(request):
    await request.session.apop("user_id", None)
    request.session.clear()
    return JsonResponse({"ok": True})


async def rotate(request):
    (await request.session.asession()).rotate()
    return JsonResponse({"ok": True})


@require_fresh(5)
async def fresh(request):
    return JsonResponse({"ok": True})


@require_fresh(0)
async def this_moment(request):
    return JsonResponse({"ok": True})


@require_fresh(5, assurance=2)
async def strong(request):
    return JsonResponse({"ok": True})


async def step_up(request):
    session = await request.session.asession()
    await async_sessions().bind(session, session["user_id"], assurance=2)
    return JsonResponse({"ok": True})


async def revoke_all(request):
    return JsonResponse({"ended": await async_sessions().revoke_all(await request.session.aget("user_id"))})


async def devices(request):
    found = await async_sessions().list_for(await request.session.aget("user_id"))
    return JsonResponse({"devices": [str(info.handle) for info in found]})


async def slow_set(request):
    len(await request.session.asession())
    await a_wait_at(request.GET["gate"])
    return await set_value(request)


async def strict(request):
    (await request.session.asession()).strict = True
    return await slow_set(request)


async def types(request):
    if request.method == "GET":
        return JsonResponse({"repr": shown(await request.session.aget("types"))})
    await request.session.aset("types", TYPES)
    return JsonResponse({"ok": True})


async def mapping(request, method):
    METHODS[method](await request.session.asession())
    return JsonResponse({"ok": True})


async def boom(request):
    await request.session.aset("boom", 1)
    raise RuntimeError("boom")


urlpatterns = [
    path("untouched", untouched),
    path("read", read),
    path("peek", peek),
    path("set", csrf_exempt(set_value)),
    path("nested", csrf_exempt(nested)),
    path("nested-key", csrf_exempt(nested_key)),
    path("increment", csrf_exempt(increment)),
    path("delete", csrf_exempt(delete)),
    path("clear", csrf_exempt(clear)),
    path("login", csrf_exempt(login)),
    path("logout", csrf_exempt(logout)),
    path("rotate", csrf_exempt(rotate)),
    path("fresh", fresh),
    path("this-moment", this_moment),
    path("strong", strong),
    path("step-up", csrf_exempt(step_up)),
    path("revoke-all", csrf_exempt(revoke_all)),
    path("devices", devices),
    path("slow-set", csrf_exempt(slow_set)),
    path("strict", csrf_exempt(strict)),
    path("types", csrf_exempt(types)),
    path("mapping/<method>", mapping),
    path("boom", boom),
]
