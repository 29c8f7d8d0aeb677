"""What a Flask app's responses say to caches, and what it answers when a session cannot be served."""

import pytest
from flask import Blueprint, Flask, Response, session
from werkzeug.exceptions import HTTPException

import coatcheck
from coatcheck import Sessions
from coatcheck.flask import SessionInterface, session_of
from tests.frameworks.apps.common import METHODS
from tests.frameworks.fix_flask import ONE_SESSION, changing, cookie_of, view

STALE = "AQ" + "A" * 49


# Caches


@pytest.mark.requirement("R8")
@pytest.mark.parametrize(
    "use",
    [
        *(pytest.param(use, id=name) for name, use in METHODS.items()),
        pytest.param(lambda session: session.permanent, id="permanent"),
        pytest.param(lambda session: session.new, id="new"),
        pytest.param(lambda _: session_of().handle, id="session_of"),
    ],
)
def test_vary(flask_app, client, use):
    """Whatever a view asks of the session, no cache hands its answer to somebody else."""
    view(flask_app, changing(lambda: use(session)))
    client.get("/set/1")

    answer = client.get("/view")

    assert (answer.headers["Vary"], answer.headers["Cache-Control"]) == ("Cookie", "private, no-store")


@pytest.mark.requirement("R8")
def test_vary_without_cookie(client):
    """The answer to somebody without a session depends on that too."""
    assert client.get("/get").headers["Vary"] == "Cookie"


def test_untouched_can_be_cached(client):
    """A response that does not depend on the session says nothing to caches."""
    client.get("/set/1")

    answer = client.get("/untouched")

    assert not {"Vary", "Cache-Control", "Set-Cookie"} & set(answer.headers.keys())


def test_headers_of_the_app(flask_app, client):
    """The app's own Vary, Cache-Control and cookies stay."""

    def answer():
        response = Response(session.get("a"), headers={"Cache-Control": "private, max-age=5"})
        response.vary.add("Accept")
        response.set_cookie("theme", "dark")
        return response

    view(flask_app, answer)
    client.get("/set/1")

    headers = client.get("/view").headers

    assert (headers["Vary"], headers["Cache-Control"]) == ("Accept, Cookie", "private, max-age=5")
    assert headers["Set-Cookie"].startswith("theme=dark")


def test_cookie_is_added(flask_app, client):
    """The session's cookie stands beside the app's own."""

    def answer():
        session["a"] = "1"
        response = Response()
        response.set_cookie("theme", "dark")
        return response

    view(flask_app, answer)

    lines = client.get("/view").headers.getlist("Set-Cookie")

    assert [line.partition("=")[0] for line in lines] == ["theme", "__Host-session"]


# Failures


def visitor(app):
    """Give a client that brings a cookie."""
    client = app.test_client()
    client.set_cookie("__Host-session", STALE)
    return client


FAILING = pytest.mark.parametrize("path", ["/get", "/set/1"], ids=["in the view", "at the end"])


def failing(app, path):
    """Ask for *path* when the store cannot be reached: with a cookie the view fails, without it the save."""
    return (visitor(app) if path == "/get" else app.test_client()).get(path)


@pytest.mark.requirement("R45")
@FAILING
def test_outage(lost_flask, path):
    """An outage is a 503 that asks for another try, not a logout."""
    answer = failing(lost_flask, path)

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["Cache-Control"] == "no-store"
    assert cookie_of(answer) is None
    assert "You have not been signed out" in answer.text


def test_outage_elsewhere(lost_flask):
    """Requests that do not touch the session do not notice an outage."""
    assert visitor(lost_flask).get("/untouched").status_code == 200


@FAILING
@pytest.mark.parametrize("error", [coatcheck.StoreUnavailable, coatcheck.SessionError])
def test_own_handler(lost_flask, path, error):
    """An app may answer for itself."""
    lost_flask.register_error_handler(error, lambda error: (f"sorry: {type(error).__name__}", 418))

    answer = failing(lost_flask, path)

    assert (answer.status_code, answer.text) == (418, "sorry: StoreUnavailable")


def test_handler_from_before(server, key):
    """A handler that the app had registered before stays."""
    app = Flask(__name__)

    @app.errorhandler(coatcheck.SessionError)
    def answer(error):
        return "mine"

    with Sessions(server.url, keys=key) as sessions:
        SessionInterface(app, sessions=sessions)

    assert app.error_handler_spec[None][None][coatcheck.SessionError] is answer


@FAILING
@pytest.mark.parametrize("error", [503, HTTPException])
def test_own_page(lost_flask, path, error):
    """An app with a page of its own for the status, or for every one, shows that."""
    lost_flask.register_error_handler(error, lambda error: (f"page {error.code}", error.code))

    answer = failing(lost_flask, path)

    assert (answer.status_code, answer.text) == (503, "page 503")


@FAILING
def test_catch_all(lost_flask, path):
    """A handler for every exception that passes on those of HTTP, as Flask advises, passes an outage on."""
    lost_flask.register_error_handler(
        Exception, lambda error: error if isinstance(error, HTTPException) else ("broken", 500)
    )

    assert failing(lost_flask, path).status_code == 503


def test_blueprint_handler(lost_flask):
    """A blueprint's handler answers for its views, also when only the save fails."""
    shop = Blueprint("shop", __name__)
    shop.register_error_handler(coatcheck.StoreUnavailable, lambda error: ("shop is closed", 503))
    shop.add_url_rule("/shop", view_func=changing(lambda: session.update(a=1)))
    lost_flask.register_blueprint(shop)

    assert lost_flask.test_client().get("/shop").text == "shop is closed"


@pytest.mark.parametrize("switch", ["TESTING", "DEBUG"])
def test_outage_while_testing(lost_flask, switch):
    """It is answered in the same way where Flask lets other exceptions through."""
    lost_flask.config[switch] = True

    assert visitor(lost_flask).get("/set/1").status_code == 503


def test_failed_save_replaces_response(lost_flask):
    """Of a response whose session could not be saved nothing is sent; after_request functions see the new one."""

    def answer():
        session["a"] = 1
        return Response("secret", headers={"Location": "/welcome", "Set-Cookie": "remember=1"})

    view(lost_flask, answer)
    lost_flask.after_request(lambda response: (response.headers.add("X-App", "shop"), response)[1])

    answer = lost_flask.test_client().get("/view")

    assert "secret" not in answer.text
    assert not {"Location", "Set-Cookie"} & set(answer.headers.keys())
    assert answer.headers["X-App"] == "shop"


@pytest.mark.parametrize("path", ["/untouched", "/get"])
def test_outage_in_hook(lost_flask, path):
    """An after_request function that uses the session, as Flask-Login's does, gets a 503 too, and still runs."""

    @lost_flask.after_request
    def remember(response):
        session["seen"] = "_remember" in session
        response.headers["X-Hook"] = "ran"
        return response

    answer = visitor(lost_flask).get(path)

    assert (answer.status_code, answer.headers["X-Hook"]) == (503, "ran")
    assert cookie_of(answer) is None


@FAILING
def test_page_that_reads(lost_flask, path):
    """A page for the outage may be made of a template that asks the session, which is empty then."""
    lost_flask.register_error_handler(503, lambda error: (f"sorry, {session.get('name', 'stranger')}", 503))

    answer = failing(lost_flask, path)

    assert (answer.status_code, answer.text) == (503, "sorry, stranger")


def test_handler_that_fails(lost_flask):
    """An error in the app's own handler is the 500 that Flask makes of it."""

    @lost_flask.errorhandler(coatcheck.StoreUnavailable)
    def fail(error):
        raise RuntimeError

    assert [failing(lost_flask, path).status_code for path in ("/get", "/set/1")] == [500, 500]


def test_outage_asked_once(lost_flask):
    """A request that has met an outage does not wait for the store again."""

    def ask():
        try:
            return session["a"]
        except coatcheck.StoreUnavailable as error:
            return error

    view(lost_flask, lambda: {"same": ask() is ask()})

    assert visitor(lost_flask).get("/view").json == {"same": True}


def test_page_of_a_refusal(make_flask):
    """A page for a refused sign-in shows the session as it was before."""
    app = make_flask(policy=ONE_SESSION)
    app.register_error_handler(403, lambda error: (dict(session), 403))
    view(app, changing(lambda: session.update(user_id="ada")), "/login")
    app.test_client().get("/login")
    second = app.test_client()
    second.get("/set/1")

    assert second.get("/login").json == {"a": "1"}


@pytest.mark.requirement("R17")
def test_limit(make_flask):
    """A sign-in beyond the limit is refused with 403, and the visitor stays who they were."""
    app = make_flask(policy=ONE_SESSION)
    view(app, changing(lambda: session.update(user_id="ada")), "/login")
    assert app.test_client().get("/login").status_code == 200
    second = app.test_client()
    second.get("/set/1")

    answer = second.get("/login")

    assert (answer.status_code, cookie_of(answer)) == (403, None)
    assert second.get("/get").json == {"a": "1"}


def test_exception_in_view(flask_app, client):
    """What a view has changed before it failed is saved, as Flask does it."""

    def fail():
        session["a"] = "failed"
        raise RuntimeError

    view(flask_app, fail)
    client.get("/set/1")

    assert client.get("/view").status_code == 500

    assert client.get("/get").json == {"a": "failed"}


def test_untrusted_host(flask_app, client):
    """A host that is not trusted gets Flask's own answer."""
    flask_app.config["TRUSTED_HOSTS"] = ["example.org"]

    assert client.get("/get").status_code == 400
