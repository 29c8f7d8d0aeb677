"""Django's own sessions; FIELD_VARIANT names the engine, and the cache for it."""

import os
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

from bench.field.gate import wait_at_gate_in_thread

engine, _, backend = os.environ["FIELD_VARIANT"].partition(" on ")
settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="of the trials, and of nothing else",  # noqa: S106
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(os.environ["FIELD_FOLDER"], "db.sqlite3")}
    },
    CACHES={
        "default": {
            "BACKEND": backend or "django.core.cache.backends.dummy.DummyCache",
            "LOCATION": os.environ["FIELD_STORE"],
        }
    },
    SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}",
)
django.setup()
call_command("migrate", verbosity=0)

from django.contrib.auth import login, logout  # noqa: E402 (needs the settings)
from django.contrib.auth.models import User  # noqa: E402

User.objects.get_or_create(username="ada")


def set_one(request: HttpRequest) -> JsonResponse:
    """Serve /set."""
    request.session.get("seed")
    if "wait" in request.GET:
        wait_at_gate_in_thread()
    request.session[request.GET["name"]] = request.GET["value"]
    return JsonResponse({})


def show(request: HttpRequest) -> JsonResponse:
    """Serve /show."""
    found = dict(request.session.items())
    if "_auth_user_id" in found:
        found["user_id"] = "ada"
    return JsonResponse(found)


def sign_in(request: HttpRequest) -> JsonResponse:
    """Serve /login."""
    if "own" in request.GET:
        login(request, User.objects.get(username="ada"), "django.contrib.auth.backends.ModelBackend")
    else:
        request.session["user_id"] = "ada"
    return JsonResponse({})


def sign_out(request: HttpRequest) -> JsonResponse:
    """Serve /logout."""
    logout(request)
    return JsonResponse({})


urlpatterns = [path("set", set_one), path("show", show), path("login", sign_in), path("logout", sign_out)]
app = get_wsgi_application()
