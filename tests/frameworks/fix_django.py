"""Django in the tests' own process: its database, its settings over the tests' server, and its test clients."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connections
from django.test import AsyncClient, Client, override_settings

from coatcheck.django import SessionStore
from tests.fix_store import MovableClock, Server
from tests.frameworks.apps import django_app

assert django_app.wsgi  # its import has set Django up


class Stepped:
    """An object whose methods are those with an "a" before the name (aget for get), run on a loop."""

    def __init__(self, inner: Any, loop: asyncio.AbstractEventLoop, *, prefix: str = "a") -> None:
        self._inner = inner
        self._loop = loop
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        twin = getattr(self._inner, f"{self._prefix}{name}", None)
        if not asyncio.iscoroutinefunction(twin):
            return getattr(self._inner, name)
        return lambda *args, **options: self._loop.run_until_complete(twin(*args, **options))


class Blocking:
    """A SessionStore that has `set` for ``store[name] = value``, as the asynchronous one has aset."""

    def __init__(self, inner: SessionStore) -> None:
        self._inner = inner

    def set(self, name: str, value: Any) -> None:
        """Set an attribute."""
        self._inner[name] = value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Visitor:
    """Somebody's browser: Django's test client, on the synchronous views or on the asynchronous ones."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.client: Any = Client() if loop is None else AsyncClient()
        self._calls = self.client if loop is None else Stepped(self.client, loop, prefix="")
        self._path = "/" if loop is None else "/async/"

    def get(self, path: str) -> Any:
        """Follow a link."""
        return self.visit(self._path + path)

    def visit(self, path: str) -> Any:
        """Follow a link to any *path*, of either kind of views."""
        return self._calls.get(path)

    def post(self, path: str, **form: str) -> Any:
        """Send a form."""
        return self._calls.post(self._path + path, form)

    def sign_in(self, user: str = "ada", password: str = "first") -> "Visitor":
        """Sign in, which must succeed."""
        assert self.post("sign-in", user=user, password=password).json()["user"] == user
        return self

    @property
    def user(self) -> str:
        """Whom the site takes this visitor for."""
        return self.get("who").json()["user"]

    @property
    def handle(self) -> str | None:
        """The handle of the session."""
        return self.get("who").json()["handle"]

    @property
    def attributes(self) -> dict[str, Any]:
        """What the session holds, but for Django's own."""
        return self.get("show").json()

    @property
    def cookie(self) -> str | None:
        """The cookie's value, or None."""
        morsel = self.client.cookies.get("sessionid")
        return morsel.value or None if morsel else None

    @cookie.setter
    def cookie(self, value: str) -> None:
        self.client.cookies["sessionid"] = value


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make the database."""
    connections.settings["default"]["NAME"] = str(tmp_path_factory.mktemp("django") / "db.sqlite3")
    call_command("migrate", verbosity=0)
    yield
    connections.close_all()
    asyncio.run(sync_to_async(connections.close_all)())


@pytest.fixture
def ada(database: None) -> Iterator[Any]:
    """Give the user ada, an administrator, whose password is "first"."""
    users = get_user_model().objects
    yield users.create_superuser("ada", password="first")
    users.all().delete()


@pytest.fixture
def project(server: Server, clock: MovableClock) -> Iterator[dict[str, Any]]:
    """Set Django's sessions up on the tests' server, with the views of django_auth_views; give settings.COATCHECK."""
    coatcheck = {"URL": server.url, "OPTIONS": {"clock": clock}}
    with override_settings(COATCHECK=coatcheck, ROOT_URLCONF="tests.frameworks.apps.django_auth_views"):
        yield coatcheck


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Give an event loop."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture(params=["sync", "async"])
def open_store(
    request: pytest.FixtureRequest, project: dict[str, Any], loop: asyncio.AbstractEventLoop
) -> Callable[..., Any]:
    """Give a function that makes a SessionStore, to be used by its methods or by its a-methods."""
    if request.param == "sync":
        return lambda key=None: Blocking(SessionStore(key))
    return lambda key=None: Stepped(SessionStore(key), loop)


@pytest.fixture(params=["sync", "async"])
def open_visitor(
    request: pytest.FixtureRequest, project: dict[str, Any], ada: Any, loop: asyncio.AbstractEventLoop
) -> Callable[[], Visitor]:
    """Give a function that makes a visitor."""
    return lambda: Visitor(loop if request.param == "async" else None)
