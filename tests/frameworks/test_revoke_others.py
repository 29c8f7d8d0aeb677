"""A changed password in an application: the browser that changed it stays signed in, all others are signed out."""

from typing import Annotated

import pytest
from fastapi import Body, FastAPI
from fastapi.testclient import TestClient

from coatcheck import AsyncSessions
from coatcheck.fastapi import CurrentSession, SessionMiddleware
from tests.frameworks.apps.common import POLICY


@pytest.fixture
def browsers(server, key):
    """Give a function that opens a browser of an application, and signs ada in."""
    sessions = AsyncSessions(server.url, keys=key, policy=POLICY)
    app = FastAPI()
    app.add_middleware(SessionMiddleware, sessions=sessions)

    @app.post("/sign-in")
    async def sign_in(session: CurrentSession, *, remember: Annotated[bool, Body(embed=True)]) -> None:
        session["user_id"] = "ada"
        session.set_timeouts(persistent=remember)

    @app.get("/who")
    async def who(session: CurrentSession) -> str | None:
        return session.subject

    @app.post("/password")
    async def password(session: CurrentSession) -> int:
        return await sessions.revoke_others(session, by="ada", why="password changed")

    with TestClient(app) as running:

        def sign_in_again(*, remember=False):
            browser = TestClient(app, base_url="https://testserver")
            browser.portal = running.portal
            browser.post("/sign-in", json={"remember": remember})
            return browser

        yield sign_in_again


@pytest.mark.requirement("R22")
def test_password_changed(browsers):
    """The browser that changed the password gets a new cookie; the others, and copies of its own, are signed out."""
    mine, other, remembered = browsers(), browsers(), browsers(remember=True)
    copy = browsers()
    copy.cookies.update(mine.cookies)
    before = dict(mine.cookies)

    answer = mine.post("/password")

    assert answer.json() == 3
    assert "Set-Cookie" in answer.headers
    assert dict(mine.cookies) != before
    assert [browser.get("/who").json() for browser in (mine, other, remembered, copy)] == ["ada", None, None, None]
