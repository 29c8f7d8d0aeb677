"""Signing in and out with django.contrib.auth, each view twice: for WSGI, and asynchronous under async/."""

# ruff: noqa: D103  a handler's route and name say what it does

from contextlib import suppress

from django.contrib import admin, messages
from django.contrib.auth import (
    aauthenticate,
    alogin,
    alogout,
    aupdate_session_auth_hash,
    authenticate,
    login,
    logout,
    update_session_auth_hash,
)
from django.http import HttpResponse, JsonResponse
from django.urls import path

from coatcheck import StoreUnavailable
from coatcheck.django import async_sessions, sessions


def sign_in(request):
    request.session.session.device = request.POST.get("device")
    login(request, authenticate(request, username=request.POST["user"], password=request.POST["password"]))
    return who(request)


async def asign_in(request):
    (await request.session.asession()).device = request.POST.get("device")
    await alogin(request, await aauthenticate(username=request.POST["user"], password=request.POST["password"]))
    return await awho(request)


def sign_out(request):
    logout(request)
    return HttpResponse(status=int(request.POST.get("status", 200)))


async def asign_out(request):
    await alogout(request)
    return HttpResponse(status=int(request.POST.get("status", 200)))


def who(request):
    handle = request.session.session.handle
    return JsonResponse({"user": request.user.get_username(), "handle": handle and str(handle)})


async def awho(request):
    handle = (await request.session.asession()).handle
    return JsonResponse({"user": (await request.auser()).get_username(), "handle": handle and str(handle)})


def change_password(request):
    request.user.set_password(request.POST["password"])
    request.user.save()
    update_session_auth_hash(request, request.user)
    return JsonResponse({})


async def achange_password(request):
    user = request.user = await request.auser()
    user.set_password(request.POST["password"])
    await user.asave()
    await aupdate_session_auth_hash(request, user)
    return JsonResponse({})


def change_factor(request):
    return JsonResponse({"ended": sessions().revoke_others(request.session.session)})


async def achange_factor(request):
    return JsonResponse({"ended": await async_sessions().revoke_others(await request.session.asession())})


def put(request):
    request.session.update(request.POST.dict())
    return JsonResponse({})


async def aput(request):
    await request.session.aupdate(request.POST.dict())
    return JsonResponse({})


def show(request):
    return JsonResponse({name: value for name, value in request.session.items() if not name.startswith("_")})


async def ashow(request):
    return JsonResponse({name: value for name, value in await request.session.aitems() if not name.startswith("_")})


def say(request):
    messages.success(request, request.POST["text"])
    return JsonResponse({})


def hear(request):
    return JsonResponse({"said": [str(message) for message in messages.get_messages(request)]})


def stumble(request):
    with suppress(StoreUnavailable):
        request.session.get("a")
    raise RuntimeError("something else")


urlpatterns = [
    path("stumble", stumble),
    path("admin/", admin.site.urls),
    path("say", say),
    path("hear", hear),
    path("sign-in", sign_in),
    path("sign-out", sign_out),
    path("who", who),
    path("change-password", change_password),
    path("change-factor", change_factor),
    path("put", put),
    path("show", show),
    path("async/sign-in", asign_in),
    path("async/sign-out", asign_out),
    path("async/who", awho),
    path("async/change-password", achange_password),
    path("async/change-factor", achange_factor),
    path("async/put", aput),
    path("async/show", ashow),
]
