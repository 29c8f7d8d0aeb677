"""The endpoint to which an issuer sends its logout tokens: its answers, and whole sites from sign-in to logout."""

import asyncio
import json

import jwt
import pytest
from django.contrib.auth import get_user_model
from django.test import AsyncClient, Client, override_settings
from flask import Flask, request, session
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from coatcheck import AsyncSessions, CsrfPolicy, IssuerSession, SessionPolicy, Sessions
from coatcheck.flask import SessionInterface, session_of, sessions_of
from coatcheck.oidc import abackchannel_logout, backchannel_logout
from coatcheck.starlette import SessionMiddleware
from tests.fix_issuer import CLIENT
from tests.oidc import fix_django_site

BY_ATTRIBUTE = SessionPolicy(subject_attribute="user_id")
EXEMPT = CsrfPolicy(exempt=("/backchannel-logout",))
HTTPS = "https://shop.example.org"

pytestmark = pytest.mark.requirement("R27")


# Answers


@pytest.fixture(params=["sync", "async"])
def answer_to(request, verifier, key):
    """Give a function that answers a logout request with a form, over the store at a URL."""

    def blocking(url, form):
        with Sessions(url, keys=key) as sessions:
            return backchannel_logout(sessions, verifier, form)

    async def on_a_loop(url, form):
        async with AsyncSessions(url, keys=key) as sessions:
            return await abackchannel_logout(sessions, verifier, form)

    return blocking if request.param == "sync" else lambda url, form: asyncio.run(on_a_loop(url, form))


def test_done(answer_to, issuer, server):
    """A logout that was carried out is answered with 200, not to be stored by any cache."""
    answer = answer_to(server.url, {"logout_token": issuer.logout_token(sid="s-1")})

    assert (answer.status, answer.headers, answer.body) == (200, {"Cache-Control": "no-store"}, b"")


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ({}, "the request has no field logout_token"),
        ({"logout_token": ""}, "the request has no field logout_token"),
        ({"logout_token": b"file"}, "the request has no field logout_token"),
        ({"logout_token": "a.b.c"}, "it is not a signed JWT"),
        (b"", "the request has no field logout_token"),
        (b"\xff&&logout_token", "the request has no field logout_token"),
        (b"other=1&logout_token=a.b.c", "it is not a signed JWT"),
        (b"logout_token=" + b"a" * 40_000, "it is longer than 16384 characters"),
    ],
)
def test_refused(answer_to, server, caplog, form, why):
    """A request that is no good is answered with 400, and says why, in JSON and in the log."""
    answer = answer_to(server.url, form)

    text = f"the logout token was refused: {why}"
    assert (answer.status, answer.headers["Cache-Control"]) == (400, "no-store")
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(answer.body) == {"error": "invalid_request", "error_description": text}
    assert caplog.messages == [f"backchannel_logout_refused: {text}"]


def test_store_is_away(answer_to, issuer, tmp_path, caplog):
    """Where sessions cannot be ended the issuer is told so, with 503: it may try again."""
    answer = answer_to(f"unix://{tmp_path}/nobody", {"logout_token": issuer.logout_token(sid="s-1")})

    assert (answer.status, answer.body) == (503, b"")
    assert answer.headers == {"Cache-Control": "no-store", "Retry-After": "1"}
    assert caplog.messages[-1].startswith("backchannel_logout_failed: ")


def test_issuer_is_away(answer_to, issuer, server):
    """So is one whose keys cannot be fetched: the token may be good."""
    issuer.works = False

    assert answer_to(server.url, {"logout_token": issuer.logout_token(sid="s-1")}).status == 503


# Whole sites


def claims_of(issuer, token):
    """Verify an ID token, as an OpenID Connect client does."""
    return jwt.decode(token, issuer.key.public_key(), [issuer.algorithm], audience=CLIENT)


def test_flask(issuer, verifier, server, key):
    """Flask: who signed in at the issuer is signed out on another server when the issuer says so."""

    def site():
        app = Flask(__name__)
        SessionInterface(app, sessions=Sessions(server.url, keys=key, policy=BY_ATTRIBUTE), csrf=EXEMPT)

        @app.get("/callback")
        def callback():
            session["user_id"] = "ada"
            session_of().issuer_session = IssuerSession.of(claims_of(issuer, request.args["id_token"]))
            return "ok"

        @app.get("/who")
        def who():
            return {"user": session.get("user_id")}

        @app.post("/backchannel-logout")
        def end_sessions():
            answer = backchannel_logout(sessions_of(), verifier, request.form)
            return answer.body, answer.status, answer.headers

        return app

    one, other = site(), site()
    browsers = {sid: one.test_client() for sid in ("s-1", "s-2")}
    for sid, browser in browsers.items():
        browser.get("/callback", base_url=HTTPS, query_string={"id_token": issuer.sign(issuer.id_claims(sid=sid))})
        assert browser.get("/who", base_url=HTTPS).json == {"user": "ada"}

    form = {"logout_token": issuer.logout_token(sid="s-1", sub="ada@idp")}
    answer = other.test_client().post("/backchannel-logout", base_url=HTTPS, data=form)

    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    seen = {sid: browser.get("/who", base_url=HTTPS).json["user"] for sid, browser in browsers.items()}
    assert seen == {"s-1": None, "s-2": "ada"}
    assert other.test_client().post("/backchannel-logout", base_url=HTTPS, data={}).status_code == 400
    for app in (one, other):
        sessions_of(app).close()


def test_starlette(issuer, verifier, server, key):
    """Starlette: the same, with a key that the issuer has begun to use meanwhile."""

    def site():
        sessions = AsyncSessions(server.url, keys=key)

        async def callback(request):
            request.session.issuer_session = IssuerSession.of(claims_of(issuer, request.query_params["id_token"]))
            await sessions.bind(request.session, "ada")
            return Response("ok")

        async def who(request):
            return JSONResponse({"user": request.session.subject})

        async def end_sessions(request):
            answer = await abackchannel_logout(sessions, verifier, await request.body())
            return Response(answer.body, answer.status, answer.headers)

        routes = [
            Route("/callback", callback),
            Route("/who", who),
            Route("/backchannel-logout", end_sessions, methods=["POST"]),
        ]
        app = Starlette(routes=routes)
        app.add_middleware(SessionMiddleware, sessions=sessions, csrf=EXEMPT)
        return TestClient(app, base_url=HTTPS)

    with site() as browser, site() as other:
        browser.get("/callback", params={"id_token": issuer.sign(issuer.id_claims(sid="s-1"))})
        assert browser.get("/who").json() == {"user": "ada"}
        issuer.rotate("EdDSA")

        answer = other.post("/backchannel-logout", data={"logout_token": issuer.logout_token(sub="ada@idp")})

        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
        assert browser.get("/who").json() == {"user": None}
        assert other.post("/backchannel-logout", data={"logout_token": "x"}).json()["error"] == "invalid_request"


@pytest.mark.django
@pytest.mark.parametrize("kind", ["", "async/"], ids=["sync", "async"])
@pytest.mark.usefixtures("project", "ada")
def test_django(issuer, verifier, monkeypatch, loop, kind):
    """Django: the same, in views of both kinds; its CSRF protection is told to let the endpoint be."""
    monkeypatch.setattr(fix_django_site, "verifier", verifier)
    assert get_user_model().objects.get().get_username() == "ada"

    def browser():
        client = Client(enforce_csrf_checks=True) if not kind else AsyncClient(enforce_csrf_checks=True)
        if not kind:
            return client.get, client.post
        return (
            lambda *args, **options: loop.run_until_complete(client.get(*args, **options)),
            lambda *args, **options: loop.run_until_complete(client.post(*args, **options)),
        )

    with override_settings(ROOT_URLCONF="tests.oidc.fix_django_site"):
        (get, _), (_, send) = browser(), browser()
        answer = get(f"/{kind}callback", {"id_token": issuer.sign(issuer.id_claims(sid="s-1"))})
        assert answer.json() == get("/who").json() == {"user": "ada"}

        answer = send(f"/{kind}backchannel-logout", {"logout_token": issuer.logout_token(sid="s-1")})

        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
        assert get("/who").json() == {"user": ""}
        assert send(f"/{kind}backchannel-logout", {"logout_token": issuer.logout_token()}).status_code == 400


@pytest.mark.django
@pytest.mark.usefixtures("project", "ada")
def test_django_again(issuer, verifier, monkeypatch):
    """Django: the same user's next sign-in is linked to the new session at the issuer."""
    monkeypatch.setattr(fix_django_site, "verifier", verifier)
    client = Client()
    with override_settings(ROOT_URLCONF="tests.oidc.fix_django_site"):
        for sid in ("s-1", "s-2"):
            client.get("/callback", {"id_token": issuer.sign(issuer.id_claims(sid=sid))})
        client.post("/backchannel-logout", {"logout_token": issuer.logout_token(sid="s-1")})
        assert client.get("/who").json() == {"user": "ada"}

        client.post("/backchannel-logout", {"logout_token": issuer.logout_token(sid="s-2")})
        assert client.get("/who").json() == {"user": ""}
