"""Who uses a session from where, as every framework states it: over real HTTP, with several worker processes.

`guarded` ends a session whose user agent changes, and asks for a step-up where the address does; see apps/common.py.
"""

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient

from coatcheck import AsyncSessions, ClientPolicy, OnChange, SessionPolicy
from coatcheck.starlette import SessionMiddleware
from tests.waiting import wait_until

FIREFOX = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
UPDATED = {"User-Agent": FIREFOX["User-Agent"].replace("140", "141")}
OTHER = {"User-Agent": "curl/8.1"}
ELSEWHERE = "127.0.1.1"


@pytest.fixture
def events(guarded):
    """Give a function that lists what was told of clients: type and why."""
    with guarded.sessions() as sessions:
        yield lambda: [
            (event.type.value, event.why)
            for event in sessions.read_events("test", "one")
            if event.type.value in {"client changed", "revoked"}
        ]


@pytest.fixture
def browser(guarded):
    """Give the browser in which ada has signed in."""
    browser = guarded.browser()
    browser.request("POST", "/login", params={"user": "ada", "device": "laptop"}, headers=FIREFOX)
    return browser


def test_same_client(guarded, browser, events):
    """The same browser, updated, on every worker, is no event; "where am I logged in" shows it."""
    for worker in guarded.workers(browser.cookie):
        assert worker.request("GET", "/fresh", headers=UPDATED).status_code == 200

    assert events() == []
    with guarded.sessions() as sessions:
        (info,) = sessions.list_for("ada")
    assert (info.client.user_agent, info.client.address) == ("Firefox on Linux", "127.0.0.0/24")


@pytest.mark.requirement("R20")
def test_another_browser(guarded, browser, events):
    """A copied cookie in another browser ends the session before the handler sees it, and the cookie is removed."""
    thief = guarded.browser(browser.cookie)

    answer = thief.request("GET", "/read", headers=OTHER)

    assert answer.json() == {"attributes": {}, "handle": None}
    assert thief.cookie == ""
    assert browser.request("GET", "/read", headers=FIREFOX).json() == {"attributes": {}, "handle": None}
    assert events() == [("revoked", "client changed: user agent: Firefox on Linux -> curl")]


@pytest.mark.requirement("R32")
def test_another_address(guarded, browser, events):
    """From another network the session goes on, but is not fresh until the subject authenticates anew."""
    away = guarded.browser(browser.cookie, address=ELSEWHERE)

    assert away.request("GET", "/fresh", headers=FIREFOX).status_code == 401
    assert away.request("GET", "/read", headers=FIREFOX).json()["attributes"]["user_id"] == "ada"
    away.request("POST", "/step-up", headers=FIREFOX)
    assert away.request("GET", "/fresh", headers=FIREFOX).status_code == 200

    assert [event for event in events() if event[0] == "client changed"] == [("client changed", "address")]


@pytest.mark.requirement("R45")
def test_outage(guarded, browser, frail):
    """While the store is down another browser is answered with 503, and the session is neither served nor lost."""
    frail.kill()

    def read():
        return browser.request("GET", "/read", headers=FIREFOX)

    answer = guarded.browser(browser.cookie).request("GET", "/read", headers=OTHER)
    frail.start()

    assert (answer.status_code, "set-cookie" in answer.headers) == (503, False)
    wait_until(lambda: read().status_code == 200, "the store is asked again")
    assert read().json()["attributes"]["user_id"] == "ada"


def test_websocket(server, key):
    """A WebSocket is a request like another: opened by another browser, it finds the session ended."""

    async def begin(request):
        request.session["a"] = 1
        return JSONResponse({})

    async def show(socket):
        await socket.accept()
        await socket.send_json(dict(socket.session))
        await socket.close()

    policy = SessionPolicy(client=ClientPolicy(user_agent=OnChange.END))
    sessions = AsyncSessions(server.url, keys=key, policy=policy)
    app = Starlette(routes=[Route("/begin", begin), WebSocketRoute("/show", show)])
    app.add_middleware(SessionMiddleware, sessions=sessions)

    def held(headers):
        with client.websocket_connect("wss://testserver/show", headers=headers) as socket:
            return socket.receive_json()

    with TestClient(app, base_url="https://testserver") as client:
        client.get("/begin", headers=FIREFOX)
        assert [held(UPDATED), held(OTHER), held(FIREFOX)] == [{"a": 1}, {}, {}]
        client.portal.call(sessions.close)
