"""Pages that a policy serves without their session, through each adapter, on a store that cannot be reached."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient as AiohttpClient
from aiohttp.test_utils import TestServer
from flask import Flask
from litestar import Litestar, Request, get, post
from litestar.testing import TestClient as LitestarClient
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import coatcheck
from coatcheck import CookiePolicy, OutagePolicy, SessionPolicy
from coatcheck.aiohttp import session_of as aiohttp_session_of
from coatcheck.aiohttp import setup
from coatcheck.flask import SessionInterface, session_of
from coatcheck.litestar import SessionConfig
from coatcheck.model.ticket import Handle, Ticket
from coatcheck.starlette import SessionMiddleware

NOWHERE = {
    "url": "redis://127.0.0.1:1",
    "keys": coatcheck.new_key(),
    "policy": SessionPolicy(outage=OutagePolicy(anonymous=("/about",))),
}
PAGES = (("GET", "/about"), ("GET", "/account"), ("POST", "/about"))
COOKIE = f"session={Ticket.new(Handle.new()).identifier}"
EXPECTED = [(200, None), (503, None), (503, None)]


def seen(session):
    """Look at a session, as a handler does, and change it."""
    session["seen"] = True
    return str(len(session))


@pytest.mark.requirement("R45")
def test_starlette():
    """Starlette: the page is served, another one and another method are not; the cookie stays as it is."""
    app = Starlette(
        routes=[
            Route(path, lambda request: PlainTextResponse(seen(request.state.s)), methods=["GET", "POST"])
            for path in ("/about", "/account")
        ]
    )

    class Hand:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            if scope["type"] == "http":
                scope.setdefault("state", {})["s"] = scope["session"]
            await self.app(scope, receive, send)

    app = SessionMiddleware(Hand(app), cookie=CookiePolicy(secure=False), **NOWHERE)
    client = TestClient(app, headers={"Cookie": COOKIE})

    answers = [client.request(method, path) for method, path in PAGES]
    assert [(answer.status_code, answer.headers.get("Set-Cookie")) for answer in answers] == EXPECTED


@pytest.mark.requirement("R45")
def test_flask():
    """Flask: the same."""
    app = Flask(__name__)
    SessionInterface(app, cookie=CookiePolicy(secure=False), **NOWHERE)
    for path in ("/about", "/account"):
        app.add_url_rule(path, path, lambda: seen(session_of()), methods=["GET", "POST"])

    client = app.test_client(use_cookies=False)
    answers = [client.open(path, method=method, headers={"Cookie": COOKIE}) for method, path in PAGES]
    assert [(answer.status_code, answer.headers.get("Set-Cookie")) for answer in answers] == EXPECTED


@pytest.mark.requirement("R45")
def test_litestar():
    """Litestar: the same."""

    @get(["/about", "/account"], sync_to_thread=False)
    def read(request: Request) -> str:
        return seen(request.session)

    @post("/about", sync_to_thread=False)
    def write(request: Request) -> str:
        return seen(request.session)

    config = SessionConfig(cookie=CookiePolicy(secure=False), **NOWHERE)
    with LitestarClient(Litestar([read, write], middleware=[config.middleware])) as client:
        answers = [client.request(method, path, headers={"Cookie": COOKIE}) for method, path in PAGES]
    assert [(answer.status_code, answer.headers.get("Set-Cookie")) for answer in answers] == EXPECTED


@pytest.mark.requirement("R45")
def test_aiohttp():
    """aiohttp: the same."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=seen(await aiohttp_session_of(request)))

    async def visit() -> list[tuple[int, str | None]]:
        app = web.Application()
        setup(app, cookie=CookiePolicy(secure=False), **NOWHERE)
        for path in ("/about", "/account"):
            app.router.add_route("*", path, page)
        async with AiohttpClient(TestServer(app)) as client:
            answers = [await client.request(method, path, headers={"Cookie": COOKIE}) for method, path in PAGES]
            return [(answer.status, answer.headers.get("Set-Cookie")) for answer in answers]

    assert asyncio.run(visit()) == EXPECTED
