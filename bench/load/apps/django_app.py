"""Django, WSGI or ASGI (LOAD_FORM): bare, its engines on several stores, coatcheck.

LOAD_VARIANT is "bare", "coatcheck", "coatcheck near", "db", or an engine and a cache: "cache on <backend>".
"""

import os

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from bench.load.content import SESSION, add_one
from bench.load.near import POLICY

_URL, _VARIANT = os.environ["LOAD_STORE"], os.environ["LOAD_VARIANT"]
_engine, _, _backend = _VARIANT.partition(" on ")
_folder, _, _port = os.environ["LOAD_DATABASE"].rpartition(":")
_is_ours = _engine.startswith("coatcheck")
_is_bare = _VARIANT == "bare"
_ENGINE = "coatcheck.django" if _is_ours else f"django.contrib.sessions.backends.{_engine}"
_MIDDLEWARE = {
    "bare": [],
    "coatcheck": ["coatcheck.django.SessionMiddleware"],
    "coatcheck near": ["coatcheck.django.SessionMiddleware"],
}

settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="of the load, and of nothing else",  # noqa: S106
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.sessions"],
    MIDDLEWARE=_MIDDLEWARE.get(_engine, ["django.contrib.sessions.middleware.SessionMiddleware"]),
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "load",
            "HOST": _folder,
            "PORT": _port,
            "USER": "load",
            "CONN_MAX_AGE": None,
        }
    },
    CACHES={
        "default": {
            "BACKEND": _backend or "django.core.cache.backends.dummy.DummyCache",
            "LOCATION": _URL,
        }
    },
    SESSION_ENGINE=_ENGINE,
    SESSION_SAVE_EVERY_REQUEST=True,  # without it the idle timeout does not slide
    COATCHECK={"URL": _URL, "POLICY": POLICY} if _is_ours else {},
)
django.setup()
if _engine in {"db", "cached_db"}:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def fill(request: HttpRequest) -> HttpResponse:
    """Serve /fill."""
    if not _is_bare:
        request.session.update(SESSION)
    return HttpResponse("filled", content_type="text/plain")


def read(request: HttpRequest) -> HttpResponse:
    """Serve /read."""
    return HttpResponse("Ada Lovelace" if _is_bare else request.session["name"], content_type="text/plain")


def write(request: HttpRequest) -> HttpResponse:
    """Serve /write."""
    if not _is_bare:
        add_one(request.session.session if _is_ours else request.session)
    return HttpResponse("written", content_type="text/plain")


async def async_fill(request: HttpRequest) -> HttpResponse:
    """Serve /fill."""
    if not _is_bare:
        await request.session.aupdate(SESSION)
    return HttpResponse("filled", content_type="text/plain")


async def async_read(request: HttpRequest) -> HttpResponse:
    """Serve /read."""
    name = "Ada Lovelace" if _is_bare else await request.session.aget("name")
    return HttpResponse(name, content_type="text/plain")


async def async_write(request: HttpRequest) -> HttpResponse:
    """Serve /write."""
    if not _is_bare:
        if _is_ours:
            add_one(await request.session.asession())
        else:
            await request.session.aset("hits", await request.session.aget("hits") + 1)
    return HttpResponse("written", content_type="text/plain")


def hits(request: HttpRequest) -> HttpResponse:
    """Serve /hits."""
    return HttpResponse(str(request.session["hits"]), content_type="text/plain")


if os.environ["LOAD_FORM"] == "asgi":
    urlpatterns = [
        path("fill", async_fill),
        path("read", async_read),
        path("write", async_write),
        path("hits", hits),
    ]
    app = get_asgi_application()
else:
    urlpatterns = [path("fill", fill), path("read", read), path("write", write), path("hits", hits)]
    app = get_wsgi_application()
