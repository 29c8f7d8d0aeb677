"""A Django site whose users sign in at an issuer; the views of both kinds. The test sets `verifier`."""

# ruff: noqa: D103  a handler's route and name say what it does

import jwt
from django.contrib.auth import alogin, get_user_model, login
from django.http import HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from coatcheck import IssuerSession
from coatcheck.django import async_sessions, sessions
from coatcheck.oidc import abackchannel_logout, backchannel_logout

verifier = None


def claims_of(request):
    return jwt.decode(request.GET["id_token"], options={"verify_signature": False})


def callback(request):
    login(request, get_user_model().objects.get())
    request.session.session.issuer_session = IssuerSession.of(claims_of(request))
    return who(request)


async def acallback(request):
    await alogin(request, await get_user_model().objects.aget())
    (await request.session.asession()).issuer_session = IssuerSession.of(claims_of(request))
    return JsonResponse({"user": (await request.auser()).get_username()})


def who(request):
    return JsonResponse({"user": request.user.get_username()})


@csrf_exempt
@require_POST
def end_sessions(request):
    answer = backchannel_logout(sessions(), verifier, request.POST)
    return HttpResponse(answer.body, status=answer.status, headers=answer.headers)


@csrf_exempt
@require_POST
async def aend_sessions(request):
    answer = await abackchannel_logout(async_sessions(), verifier, request.POST)
    return HttpResponse(answer.body, status=answer.status, headers=answer.headers)


urlpatterns = [
    path("callback", callback),
    path("async/callback", acallback),
    path("who", who),
    path("backchannel-logout", end_sessions),
    path("async/backchannel-logout", aend_sessions),
]
