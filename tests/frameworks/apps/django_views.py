"""The routes of the framework tests, in Django."""

# ruff: noqa: D103  a handler's route and name say what it does

from django.http import JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from coatcheck.django import require_fresh, sessions
from tests.frameworks.apps.common import METHODS, TYPES, shown, wait_at


def untouched(request):
    return JsonResponse({"ok": True})


def read(request):
    handle = request.session.session.handle
    return JsonResponse({"attributes": dict(request.session), "handle": str(handle) if handle else None})


def peek(request):
    return JsonResponse({"value": request.session.get("a")})


def set_value(request):
    request.session[request.GET["name"]] = request.GET["value"]
    return JsonResponse({"ok": True})


def nested(request):
    request.session.setdefault("list", [])
    request.session["list"].append(request.GET["value"])
    return JsonResponse({"ok": True})


def nested_key(request):
    request.session.setdefault("map", {})
    request.session["map"][request.GET["key"]] = request.GET["value"]
    return JsonResponse({"ok": True})


def increment(request):
    return JsonResponse({"value": request.session.session.increment(request.GET["name"])})


def delete(request):
    request.session.pop(request.GET["name"], None)
    return JsonResponse({"ok": True})


def clear(request):
    request.session.clear()
    return JsonResponse({"ok": True})


def login(request):
    request.session["user_id"] = request.GET["user"]
    request.session["device"] = request.GET["device"]
    return JsonResponse({"ok": True})


def logout(request):
    request.session.pop("user_id", None)
    request.session.clear()
    return JsonResponse({"ok": True})


def rotate(request):
    request.session.session.rotate()
    return JsonResponse({"ok": True})


@require_fresh(5)
def fresh(request):
    return JsonResponse({"ok": True})


@require_fresh(0)
def this_moment(request):
    return JsonResponse({"ok": True})


@require_fresh(5, assurance=2)
def strong(request):
    return JsonResponse({"ok": True})


def step_up(request):
    sessions().bind(request.session.session, request.session["user_id"], assurance=2)
    return JsonResponse({"ok": True})


def revoke_all(request):
    return JsonResponse({"ended": sessions().revoke_all(request.session["user_id"])})


def devices(request):
    found = sessions().list_for(request.session["user_id"])
    return JsonResponse({"devices": [str(info.handle) for info in found]})


def slow_set(request):
    len(request.session.session)
    wait_at(request.GET["gate"])
    return set_value(request)


def strict(request):
    request.session.session.strict = True
    return slow_set(request)


def types(request):
    if request.method == "GET":
        return JsonResponse({"repr": shown(request.session["types"])})
    request.session["types"] = TYPES
    return JsonResponse({"ok": True})


def mapping(request, method):
    METHODS[method](request.session.session)
    return JsonResponse({"ok": True})


def boom(request):
    request.session["boom"] = 1
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
