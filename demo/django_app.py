"""The shop as a Django project, in one file: coatcheck.django in use."""

import functools
import json
import secrets
from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

from coatcheck.django import sessions
from demo import shop

ME: Final = "Django"

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    COATCHECK={"POLICY": shop.POLICY, "COOKIE": shop.COOKIE},  # COATCHECK_URL and COATCHECK_KEYS say the rest
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "coatcheck.django.SessionMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_urlsafe(),  # for Django's own purposes, which this project has none of
    SESSION_ENGINE="coatcheck.django",
    USE_TZ=True,
)


def posts(view: Callable[[HttpRequest, dict[str, Any]], None]) -> Callable[[HttpRequest], HttpResponse]:
    """Make a view that takes JSON by POST, and nothing else, and answers with who it is."""

    @require_POST
    @functools.wraps(view)
    def answer(request: HttpRequest) -> HttpResponse:
        if request.content_type != "application/json":
            return HttpResponse(status=415)
        try:
            view(request, dict(json.loads(request.body)))
        except shop.Refused as error:
            return JsonResponse({**shop.answer(ME), "error": str(error)}, status=400)
        except (TypeError, ValueError):
            return HttpResponse(status=400)
        return JsonResponse(shop.answer(ME))

    return answer


@require_GET
def state(request: HttpRequest) -> HttpResponse:
    whole = request.session.session  # request.session is Django's; this knows the handle and the deadlines too
    devices = sessions().list_for(whole.subject) if whole.subject else []
    return JsonResponse(shop.state(ME, whole, devices))


@posts
def sign_in(request: HttpRequest, wish: dict[str, Any]) -> None:
    shop.sign_in(request.session, wish, request.headers.get("User-Agent", ""))
    shop.signed_by(request.session, ME)


@posts
def sign_out(request: HttpRequest, _: dict[str, Any]) -> None:
    request.session.flush()


@posts
def sign_out_everywhere(request: HttpRequest, _: dict[str, Any]) -> None:
    whole = request.session.session
    if whole.subject:
        sessions().revoke_all(whole.subject)
        whole.revoke()  # this one has ended with the others; here it also takes the cookie along


@posts
def add_to_cart(request: HttpRequest, wish: dict[str, Any]) -> None:
    shop.add_to_cart(request.session.session, wish)
    shop.signed_by(request.session, ME)


@posts
def rotate(request: HttpRequest, _: dict[str, Any]) -> None:
    request.session.cycle_key()


@posts
def end_device(request: HttpRequest, wish: dict[str, Any]) -> None:
    subject = request.session.session.subject
    if subject:
        sessions().revoke(str(wish.get("handle")), subject=subject)


@posts
def end_other_devices(request: HttpRequest, _: dict[str, Any]) -> None:
    whole = request.session.session
    if whole.subject:
        sessions().revoke_all(whole.subject, keep=whole.handle)


@require_GET
def page(_: HttpRequest, name: str = "index.html") -> HttpResponse:
    if name not in shop.PAGE:
        raise Http404
    body, headers = shop.page(name)
    return HttpResponse(body, headers=headers)


urlpatterns = [
    path("", page),
    path("page/<name>", page),
    path("api/state", state),
    path("api/sign-in", sign_in),
    path("api/sign-out", sign_out),
    path("api/sign-out-everywhere", sign_out_everywhere),
    path("api/cart", add_to_cart),
    path("api/rotate", rotate),
    path("api/devices/end", end_device),
    path("api/devices/end-others", end_other_devices),
]

app = get_wsgi_application()
