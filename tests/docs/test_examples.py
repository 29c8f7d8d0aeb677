"""The examples of the documents, run as a reader would run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from coatcheck import Durability, Level
from tests.fix_certificate import write_certificate
from tests.fix_store import Server

ROOT = Path(__file__).parents[2]
EXAMPLE = re.compile(r"<!-- example: ([\w-]+) -->\n```python\n(.*?)```", re.DOTALL)

# What visits each example: it puts two things into a cart, in two requests of one browser.
_ASGI = """
from starlette.testclient import TestClient
with TestClient(app, base_url="https://testserver") as client:
    client.post("/cart/book")
    print(client.post("/cart/pen").json())
"""
_VISITS = {
    "fastapi": _ASGI,
    "litestar": _ASGI,
    "flask": """
client = app.test_client()
client.post("/cart/book", base_url="https://localhost")
print(client.post("/cart/pen", base_url="https://localhost").json)
""",
    "aiohttp": """
import asyncio
from aiohttp.test_utils import TestClient, TestServer

async def visit():
    async with TestClient(TestServer(app)) as client:
        first = await client.post("/cart/book")
        cookie = first.headers["Set-Cookie"].partition(";")[0]
        print(await (await client.post("/cart/pen", headers={"Cookie": cookie})).json())

asyncio.run(visit())
""",
    "django": """
import django
from django.conf import settings
from django.http import JsonResponse
from django.urls import path

def add(request, item):
    cart = request.session.setdefault("cart", {})
    cart[item] = cart.get(item, 0) + 1
    return JsonResponse(cart)

urlpatterns = [path("cart/<item>", add)]
settings.configure(
    MIDDLEWARE=MIDDLEWARE[1:-1] + ["django.contrib.auth.middleware.AuthenticationMiddleware"],
    SESSION_ENGINE=SESSION_ENGINE, ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"],
    SECRET_KEY="of the test, and thirty-two characters long",
    INSTALLED_APPS=INSTALLED_APPS[1:-1] + ["django.contrib.auth", "django.contrib.contenttypes"],
)
django.setup()
from django.test import Client
from django.core.management import call_command
call_command("check", "--fail-level", "WARNING")
client = Client()
client.post("/cart/book", secure=True)
print(client.post("/cart/pen", secure=True).json())
""",
    "library": """
assert sessions.load(cookie) is None
bag = sessions.create({"cart": {"book": 1, "pen": 1}})
print(sessions.load(sign_in(bag.identifier, "ada", "laptop"))["cart"])
""",
}

# What visits those of docs/ that do nothing by themselves.
_TRIALS = {
    "devices": """
from fastapi.testclient import TestClient

def browser(name, **more):
    client = TestClient(app, base_url="https://testserver", headers={"User-Agent": name})
    answer = client.post("/sign-in", json={"user": "ada", **more})
    assert answer.status_code == 200, answer.text
    assert ("Max-Age" in answer.headers["Set-Cookie"]) == bool(more)
    return client

def seen(client):
    return {line["device"]: line["handle"] for line in client.get("/devices").json()}

with TestClient(app):
    first, second, third = browser("first"), browser("second", remember=True), browser("third")
    assert set(seen(first)) == {"first", "second", "third"}
    fourth = browser("fourth")
    assert (seen(first), set(seen(fourth))) == ({}, {"second", "third", "fourth"})
    assert second.post("/devices/end", json={"handle": seen(second)["third"]}).json() is True
    assert (seen(third), set(seen(fourth))) == ({}, {"second", "fourth"})
    second.post("/sign-out")
    assert (len(second.cookies), set(seen(fourth))) == (0, {"fourth"})
    fifth = browser("fifth")
    answer = fourth.post("/sign-out-everywhere")
    assert (seen(fourth), seen(fifth), "Set-Cookie" in answer.headers) == ({}, {}, True)
""",
    "on-error": """
from fastapi import Request
from fastapi.testclient import TestClient
from coatcheck import SessionConflict, StoreUnavailable

@app.get("/{kind}")
async def fail(kind: str):
    raise {"outage": StoreUnavailable, "conflict": SessionConflict}[kind]

client = TestClient(app, base_url="https://testserver")
answer = client.get("/outage")
assert (answer.status_code, answer.headers["Retry-After"], "moment" in answer.text) == (503, "5", True)
assert client.get("/conflict").status_code == 409
""",
    "near-refresh": """
from fastapi.testclient import TestClient
from coatcheck import Sessions

with TestClient(app, base_url="https://testserver") as client:
    client.post("/sign-in")
    assert client.delete("/everything").json() == "gone"
    Sessions().revoke_everyone()
    assert client.delete("/everything").status_code == 403
""",
    "sources": """
from fastapi.testclient import TestClient

with TestClient(app, base_url="https://testserver", client=("192.0.2.7", 5000)) as client:
    def visit():
        client.cookies.clear()
        return client.post("/cart/book").status_code

    assert [visit() for _ in range(102)] == [200] * 100 + [429] * 2
""",
    "django": """
from django.conf import settings
settings.configure(COATCHECK=COATCHECK, SECRET_KEY="of the test, and thirty-two characters long")
from coatcheck.django import sessions
assert (sessions().policy.limit, sessions().policy.subject_attribute) == (5, "_auth_user_id")
""",
    "sharing": """
import django
from django.conf import settings
from django.contrib.auth import get_user_model, login
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path
from starlette.testclient import TestClient
from werkzeug.test import Client

def sign_in(request):
    login(request, get_user_model().objects.get())
    return JsonResponse({})

def who(request):
    return JsonResponse({"user": request.user.get_username(), "cart": request.session.get("cart")})

urlpatterns = [path("sign-in", sign_in), path("who", who)]
settings.configure(
    MIDDLEWARE=MIDDLEWARE[1:-1] + ["django.contrib.auth.middleware.AuthenticationMiddleware"],
    SESSION_ENGINE=SESSION_ENGINE, SESSION_COOKIE_NAME=SESSION_COOKIE_NAME, COATCHECK=COATCHECK,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of the test, and thirty-two characters long",
)
django.setup()
call_command("migrate", verbosity=0)
get_user_model().objects.create_user("ada")

site, shop_client = Client(get_wsgi_application(), use_cookies=False), Client(shop, use_cookies=False)
answer = site.post("/sign-in", base_url="https://shop.example.com")
cookie = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}
shop_client.post("/shop/cart/book", base_url="https://shop.example.com", headers=cookie)
with TestClient(api, base_url="https://shop.example.com", headers=cookie) as client:
    assert client.get("/api/me").json() == {"user": "1", "cart": ["book"]}
    seen = site.get("/who", base_url="https://shop.example.com", headers=cookie).json
    assert seen == {"user": "ada", "cart": ["book"]}, seen
    client.post("/api/sign-out")
assert site.get("/who", base_url="https://shop.example.com", headers=cookie).json == {"user": "", "cart": None}
""",
}

_ENDPOINT = """
from starlette.testclient import TestClient

with TestClient(app, base_url="https://testserver") as client:
    answer = client.post("/backchannel-logout", data={"logout_token": "x"})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (400, "no-store"), answer.text
    assert answer.json()["error"] == "invalid_request"
"""
_TRIALS |= {f"back-channel-{name}": _ENDPOINT for name in ("starlette", "fastapi", "litestar")} | {
    "back-channel-flask": """
answer = app.test_client().post("/backchannel-logout", data={"logout_token": "x"})
assert (answer.status_code, answer.headers["Cache-Control"]) == (400, "no-store")
assert answer.json["error"] == "invalid_request"
""",
    "back-channel-django": """
import django
from django.conf import settings
from django.urls import path

urlpatterns = [path("backchannel-logout", end_sessions)]
settings.configure(
    MIDDLEWARE=["coatcheck.django.SessionMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
    SESSION_ENGINE="coatcheck.django", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"],
    SECRET_KEY="of the test, and thirty-two characters long",
)
django.setup()
from django.test import Client
answer = Client(enforce_csrf_checks=True).post("/backchannel-logout", {"logout_token": "x"})
assert (answer.status_code, answer["Cache-Control"], answer.json()["error"]) == (400, "no-store", "invalid_request")
""",
    "back-channel-aiohttp": """
import asyncio
from aiohttp.test_utils import TestClient, TestServer

async def visit():
    async with TestClient(TestServer(app)) as client:
        answer = await client.post("/backchannel-logout", data={"logout_token": "x"})
        assert (answer.status, answer.headers["Cache-Control"]) == (400, "no-store")
        assert (await answer.json())["error"] == "invalid_request"

asyncio.run(visit())
""",
}

# What the store's user must be allowed to do besides, for which examples.
_NEEDS = {
    "near-cache": pytest.mark.access(near_cache=True),
    "near-refresh": pytest.mark.access(near_cache=True),
    "durability": pytest.mark.access(durability=Durability(sign_in=Level.DISK)),
}


def _examples() -> list[object]:
    found = EXAMPLE.findall((ROOT / "README.md").read_text())
    return [pytest.param(name, code, id=name) for name, code in found]


def _examples_of_docs() -> list[object]:
    """List the examples of docs/*.md; those of one name in one document are one program."""
    programs: dict[tuple[str, str], str] = {}
    for document in sorted((ROOT / "docs").glob("*.md")):
        for name, code in EXAMPLE.findall(document.read_text()):
            programs[document.stem, name] = programs.get((document.stem, name), "") + code
    return [
        pytest.param(name, code, id=f"{document}-{name}", marks=_NEEDS.get(name, ()))
        for (document, name), code in programs.items()
    ]


def _run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command, environment = [sys.executable, *arguments], {**os.environ, **variables}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("name", "code"), _examples())
def test_example_of_the_readme(name: str, code: str, server: Server, key: str) -> None:
    """An example of the README does what it is there for, with no other settings than the store and a key."""
    done = _run("-W", "error", "-c", code + _VISITS[name], COATCHECK_URL=server.url, COATCHECK_KEYS=key)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "{'book': 1, 'pen': 1}"


@pytest.mark.parametrize(("name", "code"), _examples_of_docs())
def test_example_of_the_docs(name: str, code: str, server: Server, key: str, tmp_path: Path) -> None:
    """An example of docs/ runs, does what the text beside it says, and prints what its comments say (# -> text)."""
    code = code.replace("/etc/ssl/our-ca.pem", str(write_certificate(tmp_path)[0]))  # which the reader has
    program, said = code + _TRIALS.get(name, ""), re.findall(r"# -> (.*)$", code, re.MULTILINE)

    done = _run("-W", "error", "-c", program, COATCHECK_URL=server.url, COATCHECK_KEYS=key)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[: len(said)] == said


@pytest.mark.parametrize("name", ["library", "devices"])
def test_types_of_an_example(name: str) -> None:
    """An example that spells out its types satisfies mypy as strictly as the library itself."""
    (code,) = [parameter.values[1] for parameter in (*_examples(), *_examples_of_docs()) if parameter.values[0] == name]

    done = _run("-m", "mypy", "--config-file=", "--cache-dir=.mypy_cache/examples", "--strict", "-c", code)

    assert done.returncode == 0, done.stdout


def test_the_readme_has_an_example_for_each_framework() -> None:
    """Every adapter has its example."""
    assert {parameter.id for parameter in _examples()} == set(_VISITS)


def test_each_trial_has_an_example() -> None:
    """No trial is left without the example that it was written for."""
    assert {parameter.values[0] for parameter in _examples_of_docs()} >= set(_TRIALS)
