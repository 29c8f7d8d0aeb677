"""flask.session as Flask documents it; test_scenarios.py has what is common to all frameworks."""

from datetime import timedelta

import pytest
from flask import (
    Flask,
    flash,
    get_flashed_messages,
    render_template_string,
    session,
)
from markupsafe import Markup

from coatcheck import ConfigurationError, SessionPolicy
from coatcheck.flask import SessionInterface, session_of, sessions_of
from tests.frameworks.fix_flask import FLASK_DEFAULT, changing, cookie_of, max_age, names, view

# The mapping


def test_value(client):
    """What one request has set, the next one reads."""
    client.get("/set/1")

    assert client.get("/get").json == {"a": "1"}


def test_nested_change(flask_app, client):
    """A change inside a nested value is saved without `modified`."""
    view(flask_app, changing(lambda: session.setdefault("cart", {"items": []})), "/begin")
    view(flask_app, changing(lambda: session["cart"]["items"].append("pen")), "/add")
    view(flask_app, lambda: session["cart"], "/cart")
    client.get("/begin")

    client.get("/add")

    assert client.get("/cart").json == {"items": ["pen"]}


def test_clear(flask_app, client, server):
    """Clearing the session ends it and removes the cookie."""
    view(flask_app, changing(lambda: session.clear()))  # noqa: PLW0108  outside a request there is no session.clear
    client.get("/set/1")

    answer = client.get("/view")

    assert "Max-Age=0" in cookie_of(answer)
    assert server.left() == []


@pytest.mark.parametrize("text", ["saved", Markup("<b>saved</b>")], ids=["str", "Markup"])
def test_flash(flask_app, client, text):
    """A flashed message is shown by one later request, in its category, and safe HTML stays safe."""
    view(flask_app, changing(lambda: flash(text, "info")), "/flash")
    template = "{% for category, text in get_flashed_messages(true) %}{{ category }}: {{ text }}{% endfor %}"
    view(flask_app, lambda: render_template_string(template), "/page")
    client.get("/flash")

    shown = [client.get("/page").text for _ in range(2)]

    assert shown == [f"info: {text}", ""]


def test_flash_accumulates(flask_app, client):
    """Messages of several requests are shown together, in their order."""
    view(flask_app, changing(lambda: flash("one")), "/one")
    view(flask_app, changing(lambda: flash("two")), "/two")
    view(flask_app, get_flashed_messages, "/page")
    client.get("/one")
    client.get("/two")

    assert client.get("/page").json == ["one", "two"]


def test_unknown_type(flask_app, client):
    """What a session cannot hold is refused in the view that assigns it."""

    def assign():
        with pytest.raises(TypeError, match="attribute a"):
            session["a"] = object()
        return "refused"

    view(flask_app, assign)

    assert client.get("/view").text == "refused"


# Laziness


@pytest.mark.requirement("R39")
@pytest.mark.parametrize(
    ("path", "sent"),
    [("/untouched", []), ("/get", ["MGET"]), ("/set/1", ["MGET"]), ("/set/2", ["MGET", "EVALSHA"])],
    ids=["untouched", "read", "the same value", "change"],
)
def test_round_trips(client, server, path, sent):
    """A request that does not touch the session sends nothing, a read one command, a change two."""
    client.get("/set/1")

    with server.commands() as commands:
        client.get(path)

    assert names(commands) == sent


@pytest.mark.requirement("R55")
@pytest.mark.parametrize("path", ["/untouched", "/get"])
def test_no_cookie_sends_nothing(client, server, path):
    """Without a cookie nothing is sent, even if the session is read, and no cookie is set."""
    with server.commands() as commands:
        answer = client.get(path)

    assert names(commands) == []
    assert cookie_of(answer) is None


def test_template_untouched(flask_app, client, server):
    """A template that does not use the session, which Flask hands to every one, does not load it."""
    view(flask_app, lambda: render_template_string("plain"))
    client.get("/set/1")

    with server.commands() as commands:
        answer = client.get("/view")

    assert names(commands) == []
    assert "Vary" not in answer.headers


# permanent, new, modified, accessed


def test_not_permanent(flask_app, client):
    """A session is not permanent by itself: the browser forgets the cookie when it closes."""
    view(flask_app, lambda: {"permanent": session.permanent})

    assert max_age(client.get("/set/1")) is None
    assert client.get("/view").json == {"permanent": False}


def test_default_policy(server, monkeypatch):
    """An app that gives no policy has Flask's default, not the library's: not permanent."""
    monkeypatch.setenv("COATCHECK_URL", server.url)
    app = Flask(__name__)
    app.secret_key = "secret"
    with SessionInterface(app).sessions as sessions:
        assert sessions.policy == FLASK_DEFAULT


def test_policy_decides_default(make_flask):
    """A policy that the app gives decides what sessions are by default."""
    client = make_flask(policy=SessionPolicy()).test_client()

    assert max_age(client.get("/set/1")) == 12 * 3600


def make_permanent():
    """Store something for longer."""
    session.permanent = True
    session["a"] = "1"


def test_permanent_cookie(make_flask):
    """The browser keeps the cookie of a permanent session for PERMANENT_SESSION_LIFETIME."""
    app = make_flask(PERMANENT_SESSION_LIFETIME=timedelta(days=7))
    view(app, changing(make_permanent))

    assert max_age(app.test_client().get("/view")) == 7 * 86400


def test_permanent_lives_longer(make_flask, clock):
    """A permanent session lives for PERMANENT_SESSION_LIFETIME, unused, and no longer."""
    app = make_flask(PERMANENT_SESSION_LIFETIME=timedelta(days=7))
    view(app, changing(make_permanent))
    client = app.test_client()
    client.get("/view")

    clock.advance(timedelta(days=6))
    assert client.get("/get").json == {"a": "1"}
    clock.advance(timedelta(days=2))
    assert client.get("/get").json == {"a": None}


@pytest.mark.requirement("R10")
def test_permanent_slides(make_flask, clock):
    """A short PERMANENT_SESSION_LIFETIME slides with use, as it does in Flask."""
    app = make_flask(PERMANENT_SESSION_LIFETIME=timedelta(minutes=10))
    view(app, changing(make_permanent))
    client = app.test_client()
    client.get("/view")

    for _ in range(3):
        clock.advance(timedelta(minutes=8))
        assert client.get("/get").json == {"a": "1"}
    clock.advance(timedelta(minutes=11))
    assert client.get("/get").json == {"a": None}


@pytest.mark.requirement("R11")
def test_permanent_ends(make_flask, clock):
    """The policy's absolute timeout ends a permanent session however much it is used."""
    app = make_flask(PERMANENT_SESSION_LIFETIME=600, policy=SessionPolicy(absolute_timeout=timedelta(minutes=30)))
    view(app, changing(make_permanent))
    client = app.test_client()
    client.get("/view")

    seen = []
    for _ in range(4):
        clock.advance(timedelta(minutes=8))
        seen.append(client.get("/get").json["a"])

    assert seen == ["1", "1", "1", None]


def test_permanent_taken_back(flask_app, client):
    """A session that is permanent no more has the policy's timeouts, and a cookie until the browser closes."""

    def take_back():
        session.permanent = False

    view(flask_app, changing(make_permanent), "/permanent")
    view(flask_app, changing(take_back), "/not")
    view(flask_app, lambda: {"minutes": session_of().idle_timeout // timedelta(minutes=1)}, "/idle")
    client.get("/permanent")

    assert max_age(client.get("/not")) is None
    assert client.get("/idle").json == {"minutes": 30}


def test_permanent_for_everybody(flask_app, client, server):
    """`session.permanent = True` before every request stores nothing, and no second time, for who brings nothing."""

    @flask_app.before_request
    def make_all_permanent():
        session.permanent = True

    assert cookie_of(client.get("/get")) is None
    assert server.left() == []
    client.get("/set/1")

    with server.commands() as commands:
        client.get("/get")

    assert names(commands) == ["MGET"]


def test_new(flask_app, client):
    """A session is new until it is stored."""
    view(flask_app, lambda: {"new": session.new})
    before = client.get("/view").json
    client.get("/set/1")

    assert (before, client.get("/view").json) == ({"new": True}, {"new": False})


@pytest.mark.parametrize(
    ("change", "modified"),
    [
        (lambda: None, False),
        (lambda: session.get("a"), False),
        (lambda: session.update(a="1"), False),
        (lambda: session.update(a="2"), True),
        (lambda: session.pop("a"), True),
        (lambda: session["list"].append(1), True),
        (lambda: session_of().revoke(), True),
    ],
    ids=["nothing", "read", "the same value", "another value", "removal", "nested", "revocation"],
)
def test_modified(flask_app, client, change, modified):
    """`session.modified` tells whether the session has changed."""

    def begin():
        session["a"], session["list"] = "1", []

    def look():
        change()
        return {"modified": session.modified}

    view(flask_app, changing(begin), "/begin")
    view(flask_app, look)
    client.get("/begin")

    assert client.get("/view").json == {"modified": modified}


def test_modified_given_up(flask_app, client):
    """`session.modified = False` gives up what the request has changed, and what follows counts."""

    def change():
        session["a"], session["b"] = "2", "2"
        session.modified = False
        session["c"] = "2"

    view(flask_app, changing(change))
    view(flask_app, lambda: dict(session), "/all")
    client.get("/set/1")

    client.get("/view")

    assert client.get("/all").json == {"a": "1", "c": "2"}


def test_modified_by_hand(flask_app, client):
    """`session.modified = True`, which Flask asks for after a nested change, does no harm."""

    def change():
        session["cart"].append("pen")
        session.modified = True

    view(flask_app, changing(lambda: session.setdefault("cart", [])), "/begin")
    view(flask_app, changing(change))
    client.get("/begin")

    assert client.get("/view").status_code == 200
    with client.session_transaction() as stored:
        assert stored["cart"] == ["pen"]


# More than the mapping


def test_session_of(flask_app, client):
    """`session_of()` gives the whole session: here it counts, and rotates, which sends a new cookie."""

    def rotate():
        session_of().increment("n", 2)
        session_of().rotate()
        return {"n": session["n"]}

    view(flask_app, rotate)
    before = cookie_of(client.get("/set/1"))[0]

    answer = client.get("/view")

    assert answer.json == {"n": 2}
    assert cookie_of(answer)[0] != before
    assert client.get("/get").json == {"a": "1"}


def test_bind(flask_app, client):
    """`sessions_of()` signs in by hand: the session goes on under a new identifier, listed."""
    view(flask_app, changing(lambda: sessions_of().bind(session_of(), "ada")), "/login")
    view(flask_app, lambda: [str(info.handle) for info in sessions_of().list_for("ada")], "/devices")
    view(flask_app, lambda: [str(session_of().handle)], "/handle")
    before = cookie_of(client.get("/set/1"))[0]

    assert cookie_of(client.get("/login"))[0] != before
    assert client.get("/devices").json == client.get("/handle").json
    assert client.get("/get").json == {"a": "1"}


def test_revoke_all(flask_app, client):
    """Signed out everywhere, a session is gone for the next request."""
    view(flask_app, changing(lambda: sessions_of().bind(session_of(), "ada")), "/login")
    client.get("/set/1")
    client.get("/login")

    assert sessions_of(flask_app).revoke_all("ada") == 1

    assert client.get("/get").json == {"a": None}


@pytest.mark.parametrize("ask", [session_of, sessions_of])
def test_app_without(ask):
    """An app whose sessions are Flask's own is told what to do."""
    app = Flask(__name__)

    with app.test_request_context(), pytest.raises(ConfigurationError, match="SessionInterface"):
        ask()
