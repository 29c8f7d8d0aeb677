"""Cross-site request forgery: Starlette, Flask and aiohttp refuse it, over real HTTP; FastAPI's dependency.

Each browser is somebody's; what a page elsewhere makes it send carries its cookie, and no token of its session.
"""

import hashlib

import pytest
import websockets.sync.client
from aiohttp import web
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from websockets.exceptions import InvalidStatus

from coatcheck import ConfigurationError, CookiePolicy, CsrfPolicy
from coatcheck.aiohttp import csrf_token as aiohttp_token
from coatcheck.aiohttp import setup
from coatcheck.fastapi import CsrfToken
from coatcheck.starlette import SessionMiddleware, csrf_context, csrf_token
from tests.frameworks.fix_apps import FRAMEWORKS, Framework

GUARDED = {
    name: Framework(f"csrf-{name}", f"csrf_{name}_app:app", FRAMEWORKS[name].command)
    for name in ("starlette", "flask", "aiohttp")
}
REFUSED = "Refused, and nothing was done: "
ELSEWHERE = "the request comes from a page of another origin"
PLAIN = CookiePolicy(secure=False)


@pytest.fixture(params=sorted(GUARDED))
def guarded_app(request, running, server, shared_key):
    """Give the app of each framework that has CSRF protection of ours."""
    app = running.app(GUARDED[request.param], server, shared_key)
    yield app
    app.close_browsers()


@pytest.fixture
def browser(guarded_app):
    """Give a browser that is signed in."""
    browser = guarded_app.browser()
    browser.token = browser.get("/page").text
    answer = browser.request("POST", "/login", params={"user": "ada"}, headers={"X-CSRF-Token": browser.token})
    browser.token = answer.text
    return browser


def send(browser, token=None, *, method="POST", path="/change", headers=(), **options):
    """Send a request that changes something, with *token* in the header."""
    carried = {} if token is None else {"X-CSRF-Token": token}
    return browser.request(method, path, headers={**carried, **dict(headers)}, **options)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_without_token(browser, method):
    """A request that may change something is refused without a token, in words that help."""
    answer = send(browser, method=method)

    assert (answer.status_code, answer.headers["Cache-Control"]) == (403, "no-store")
    assert answer.text == f"{REFUSED}the request carries no CSRF token; reload the page and send it again.\n"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
    ids=str,
)
def test_form_of_another_site(browser, headers):
    """What a page of another origin sends is refused, even should it have found a token."""
    answer = send(browser, data={"csrf_token": browser.token}, headers=headers)

    assert (answer.status_code, answer.text) == (403, f"{REFUSED}{ELSEWHERE}.\n")


def test_trusted_origin(browser):
    """A page of an origin that the policy trusts gets through with a token, and not without."""
    headers = {"Origin": "https://partner.example", "Sec-Fetch-Site": "cross-site"}

    assert send(browser, browser.token, headers=headers).status_code == 200
    assert send(browser, headers=headers).status_code == 403


def test_own_page_without_token(browser):
    """The browser's word alone is not enough: markup smuggled into our own page can send a form too."""
    answer = send(browser, headers={"Sec-Fetch-Site": "same-origin"}, data={"amount": "100"})

    assert answer.status_code == 403


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}], ids=str)
def test_form(browser, headers):
    """A form of our own page gets through with the token in its field."""
    answer = send(browser, data={"amount": "100", "csrf_token": browser.token}, headers=headers)

    assert (answer.status_code, answer.json()["user"]) == (200, "ada")


def test_own_origin(browser, guarded_app):
    """An older browser that sends Origin only gets through, whatever the scheme in front of a proxy."""
    host = guarded_app.url.removeprefix("http://")

    assert send(browser, browser.token, headers={"Origin": f"https://{host}"}).status_code == 200


def test_json(browser):
    """A script sends the token in a header; its JSON arrives whole."""
    answer = send(browser, browser.token, json={"amount": 100})

    assert answer.json()["digest"] == hashlib.sha256(b'{"amount":100}').hexdigest()


def test_multipart(browser, guarded_app):
    """An upload with the token in a field of its form arrives whole, however large."""
    upload = bytes(range(256)) * 20_000  # 5 MB
    request = {"data": {"csrf_token": browser.token}, "files": {"file": ("f.bin", upload)}}

    answer = send(browser, **request)

    assert answer.status_code == 200, answer.text
    whole = answer.request.read() if guarded_app.framework.name == "csrf-starlette" else upload
    assert answer.json()["digest"] == hashlib.sha256(whole).hexdigest()


def test_form_is_left_to_the_app(browser):
    """A form that was searched for its token can still be read by the app."""
    form = f"csrf_token={browser.token}&a=1"

    answer = send(browser, content=form, headers={"Content-Type": "application/x-www-form-urlencoded"})

    assert answer.json()["digest"] == hashlib.sha256(form.encode()).hexdigest()


def test_token_of_another_session(browser, guarded_app):
    """An attacker's own token is of no use in the victim's session."""
    attacker = guarded_app.browser()
    token = attacker.get("/page").text
    assert send(attacker, token).status_code == 200

    answer = send(browser, token, headers={"Sec-Fetch-Site": "same-origin"})

    assert answer.status_code == 403
    assert answer.text.startswith(f"{REFUSED}the page is out of date or of another session")


def test_rotation(browser):
    """After a rotation the page that asked for it and pages from just before it still get through."""
    before = browser.token
    after = send(browser, before, path="/rotate").text

    assert send(browser, after).status_code == 200
    assert send(browser, before).status_code == 200


def test_sign_in_ends_former_tokens(guarded_app):
    """A token from before a sign-in is refused after it; the page that answers the sign-in has a good one."""
    browser = guarded_app.browser()
    before = browser.get("/page").text
    after = send(browser, before, path="/login", params={"user": "ada"}).text

    assert send(browser, before, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 403
    assert send(browser, after).status_code == 200


def test_new_session(guarded_app, server):
    """To ask for a token makes a session worth storing; it works at once, and the page is kept from shared caches."""
    browser = guarded_app.browser()

    page = browser.get("/page")

    assert (len(server.keys(":s:")), len(browser.identifier)) == (1, 51)
    assert (page.headers["Vary"], page.headers["Cache-Control"]) == ("Cookie", "private, no-store")
    assert send(browser, page.text).status_code == 200


def test_nothing_is_stored_without_a_token(guarded_app, server):
    """Protection alone stores nothing: a visitor who is not asked for a token has no session."""
    browser = guarded_app.browser()

    browser.get("/untouched")
    send(browser)

    assert (server.left(), browser.cookie) == ([], "")


def test_masked(browser):
    """Each page carries another token, and all of them are good."""
    tokens = {browser.get("/page").text for _ in range(3)}

    assert len(tokens) == 3
    assert [send(browser, token).status_code for token in tokens] == [200] * 3


def test_no_token_after_the_end(browser):
    """The page that answers a logout has an empty token, and the cookie is gone."""
    answer = send(browser, browser.token, path="/logout")

    assert (answer.status_code, answer.text, browser.cookie) == (200, "", "")


def test_exempt(guarded_app):
    """Callers without a cookie reach exempt paths without a token."""
    assert guarded_app.browser().post("/hooks/paid").status_code == 200


@pytest.mark.parametrize("kind", ["starlette", "aiohttp"])
def test_socket_of_another_site(running, server, shared_key, kind):
    """A page of another origin cannot open a WebSocket with the visitor's cookie; one of our own can."""
    app = running.app(GUARDED[kind], server, shared_key)
    url, own = app.url.replace("http", "ws", 1) + "/socket", app.url

    with pytest.raises(InvalidStatus, match="403"):
        websockets.sync.client.connect(url, origin="https://evil.example", proxy=None)
    with websockets.sync.client.connect(url, origin=own, proxy=None) as socket:
        assert socket.recv() == "hello"


# What each adapter does beside


def test_starlette_templates():
    """Templates get a function, so that a page without a form makes no session."""
    context = csrf_context(Request({"type": "http"}))

    with pytest.raises(ConfigurationError, match="there is no session here"):
        context["csrf_token"]()


def test_token_of_a_session_that_is_not_loaded(server, key):
    """To ask for the token of a session that was not loaded says how to load it."""

    async def page(request):
        return PlainTextResponse(csrf_token(request))

    app = Starlette(routes=[Route("/", page)])
    app.add_middleware(SessionMiddleware, url=server.url, keys=key, cookie=PLAIN, csrf=True, ahead=False)

    with TestClient(app) as client, pytest.raises(RuntimeError, match="the session is not loaded"):
        client.get("/")


def test_fastapi_dependency(server, key):
    """A FastAPI route takes a token as a parameter; forms and error pages work as in Starlette."""
    app = FastAPI()

    @app.get("/page")
    async def page(token: CsrfToken) -> str:
        return token

    @app.post("/change")
    async def change() -> str:
        return "done"

    def refuse(connection, error):
        return PlainTextResponse(type(error).__name__, 400)

    app.add_middleware(
        SessionMiddleware, url=server.url, keys=key, cookie=PLAIN, ahead=False, csrf=True, on_error=refuse
    )
    with TestClient(app) as client:
        token = client.get("/page").json()

        assert client.post("/change", data={"csrf_token": token}).json() == "done"
        assert (refused := client.post("/change")).status_code == 400
        assert refused.text == "CsrfRefused"


@pytest.fixture
def aiohttp_client(serve_aiohttp, server, key):
    """Give a client of an aiohttp app with csrf=True, and a token of its session."""

    async def page(request):
        return web.Response(text=await aiohttp_token(request))

    async def change(request):
        return web.Response(text="done")

    app = web.Application()
    setup(app, url=server.url, keys=key, cookie=PLAIN, csrf=True)
    app.router.add_get("/page", page)
    app.router.add_post("/change", change)
    client = serve_aiohttp(app)
    return client, client.get("/page").text


@pytest.mark.parametrize(
    "form",
    [
        {"files": {"csrf_token": ("token.txt", b"any")}},
        {"files": {"csrf_token": (None, b"any", "application/octet-stream")}},
        {"content": b"nothing", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"content": b"csrf_token=any", "headers": {"Content-Type": "multipart/form-data"}},
        {
            "content": b"csrf_token=any",
            "headers": {"Content-Type": "application/x-www-form-urlencoded; charset=none"},
        },
        {
            "content": b"csrf_token=any&a=\xff",
            "headers": {"Content-Type": "application/x-www-form-urlencoded"},
        },
    ],
    ids=["a file", "bytes", "no parts", "no boundary", "unknown charset", "not of its charset"],
)
def test_aiohttp_form_without_token(aiohttp_client, form):
    """In aiohttp a form that cannot be read, or whose token is no text, is refused as one that has none."""
    client, _ = aiohttp_client

    answer = client.post("/change", **form)

    assert (answer.status_code, "carries no CSRF token" in answer.text) == (403, True)


def test_aiohttp_form_too_large(aiohttp_client):
    """In aiohttp a form that is larger than the app takes is answered as anywhere; the header spares reading it."""
    client, token = aiohttp_client
    form = {"csrf_token": token, "more": "x" * 2_000_000}

    assert client.post("/change", data=form).status_code == 413
    assert client.post("/change", data=form, headers={"X-CSRF-Token": token}).text == "done"


@pytest.mark.parametrize(
    "options",
    [
        {"exempt": "/hooks"},
        {"exempt": ("hooks",)},
        {"exempt": ("/",)},
        {"trusted_origins": ("partner.example",)},
        {"trusted_origins": "https://partner.example"},
        {"field": ""},
        {"header": "X CSRF"},
    ],
)
def test_policy_is_checked(options):
    """A CSRF policy that cannot be meant is refused."""
    with pytest.raises(ConfigurationError):
        CsrfPolicy(**options)
