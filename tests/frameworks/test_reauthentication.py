"""Authenticating again in a web application, whose clock the test moves."""

from datetime import timedelta

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from coatcheck import AsyncSessions, CookiePolicy, SessionPolicy
from coatcheck.starlette import SessionMiddleware

MINUTE = timedelta(minutes=1)
COOKIE = "session"


@pytest.fixture
def client(server, key, clock):
    """Give a client of an application in which users sign in, and again, and of which sessions live an hour."""
    policy = SessionPolicy(
        idle_timeout=30 * MINUTE, absolute_timeout=60 * MINUTE, subject_attribute="user_id", persistent=False
    )
    sessions = AsyncSessions(server.url, keys=key, clock=clock, policy=policy)

    async def sign_in(request):
        await sessions.bind(request.session, "ada")
        return JSONResponse({})

    async def who(request):
        return JSONResponse(request.session.subject)

    app = Starlette(routes=[Route("/sign-in", sign_in, methods=["POST"]), Route("/who", who)])
    app.add_middleware(SessionMiddleware, sessions=sessions, cookie=CookiePolicy(secure=False))
    with TestClient(app) as client:
        yield client


@pytest.mark.requirement("R12")
def test_both_clocks_begin_anew(client, clock):
    """A user who signs in again before the hour is over gets a new cookie and another hour; the old cookie is dead."""
    client.post("/sign-in")
    first = client.cookies[COOKIE]
    clock.advance(29 * MINUTE)
    assert client.get("/who").json() == "ada"
    clock.advance(29 * MINUTE)

    client.post("/sign-in")

    second = client.cookies[COOKIE]
    assert second != first
    for _ in range(2):
        clock.advance(29 * MINUTE)
        assert client.get("/who").json() == "ada"
    client.cookies.set(COOKIE, first)
    assert client.get("/who").json() is None
    client.cookies.set(COOKIE, second)
    clock.advance(3 * MINUTE)
    assert client.get("/who").json() is None
