"""The examples of the documents, run as a reader would run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fix_store import Server

ROOT = Path(__file__).parents[2]
EXAMPLE = re.compile(r"<!-- example: (\w+) -->\n```python\n(.*?)```", re.DOTALL)

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
    request.session.setdefault("cart", []).append(item)
    return JsonResponse(request.session["cart"], safe=False)

urlpatterns = [path("cart/<item>", add)]
settings.configure(
    MIDDLEWARE=MIDDLEWARE, SESSION_ENGINE=SESSION_ENGINE, ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"],
    SECRET_KEY="of the test, and thirty-two characters long",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
)
django.setup()
from django.test import Client
client = Client()
client.post("/cart/book", secure=True)
print(client.post("/cart/pen", secure=True).json())
""",
    "library": 'print(["book", "pen"] if len(sessions.list_for("ada")) == 1 else sessions.list_for("ada"))\n',
}


def _examples() -> list[object]:
    found = EXAMPLE.findall((ROOT / "README.md").read_text())
    return [pytest.param(name, code, id=name) for name, code in found]


@pytest.mark.parametrize(("name", "code"), _examples())
def test_example_of_the_readme(name: str, code: str, server: Server, key: str) -> None:
    """An example of the README does what it is there for, with no other settings than the store and a key."""
    environment = {**os.environ, "COATCHECK_URL": server.url, "COATCHECK_KEYS": key}
    program = [sys.executable, "-W", "error", "-c", code + _VISITS[name]]

    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['book', 'pen']"


def test_the_readme_has_an_example_for_each_framework() -> None:
    """Every adapter has its example."""
    assert {parameter.id for parameter in _examples()} == set(_VISITS)


def _marked() -> list[object]:
    files = sorted((ROOT / "docs").glob("*.md"))
    found = [(file.stem, *example) for file in files for example in EXAMPLE.findall(file.read_text())]
    return [pytest.param(code, id=f"{file}-{name}") for file, name, code in found]


@pytest.mark.parametrize("code", _marked())
def test_example_of_the_docs(code: str, server: Server, key: str) -> None:
    """A marked example under docs/ prints what its comments say (# -> text), and nothing else."""
    environment = {**os.environ, "COATCHECK_URL": server.url, "COATCHECK_KEYS": key}
    program = [sys.executable, "-W", "error", "-c", code]

    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == re.findall(r"# -> (.*)$", code, re.MULTILINE)
