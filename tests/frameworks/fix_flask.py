"""Flask apps on the tests' server, made as each test needs them, and ways to look at their answers."""

import pytest
from flask import Flask, session

from coatcheck import AtLimit, SessionPolicy, Sessions
from coatcheck.flask import SessionInterface

FLASK_DEFAULT = SessionPolicy(persistent=False)
ONE_SESSION = SessionPolicy(subject_attribute="user_id", limit=1, at_limit=AtLimit.REFUSE)


@pytest.fixture
def make_flask(server, key, clock):
    """Give a function that makes a Flask app with sessions on the server."""
    opened = []

    def make(*, url=server.url, policy=FLASK_DEFAULT, cookie=None, prefix=None, **config):
        app = Flask(__name__)
        app.config.update(config)
        opened.append(Sessions(url, keys=key, clock=clock, policy=policy, prefix=prefix))
        SessionInterface(app, sessions=opened[-1], cookie=cookie)
        view(app, lambda: "ok", "/untouched")
        view(app, lambda: {"a": session.get("a")}, "/get")
        view(app, set_value, "/set/<value>")
        return app

    yield make
    for sessions in opened:
        sessions.close()


def set_value(value):
    """Set the session's attribute "a"."""
    session["a"] = value
    return "ok"


@pytest.fixture
def flask_app(make_flask):
    """Give such an app."""
    return make_flask()


@pytest.fixture
def client(flask_app):
    """Give a client that keeps the cookies of that app."""
    return flask_app.test_client()


@pytest.fixture
def lost_flask(make_flask, tmp_path):
    """Give an app whose store cannot be reached."""
    return make_flask(url=f"unix://{tmp_path}/nobody")


def view(app, function, rule="/view"):
    """Serve *function* at *rule*."""
    app.add_url_rule(rule, endpoint=rule, view_func=function)


def changing(function):
    """Make a view of a function that gives nothing back."""

    def call():
        function()
        return "ok"

    return call


def cookie_of(answer):
    """Give the session's cookie that *answer* sets, as its parts; None if it sets none."""
    lines = answer.headers.getlist("Set-Cookie")
    assert len(lines) <= 1
    return lines[0].split("; ") if lines else None


def names(commands):
    """Give the names of recorded commands."""
    return [command.partition(" ")[0] for command in commands]


def max_age(answer):
    """Give the life of the cookie that *answer* sets, rounded to ten seconds; None for until the browser closes."""
    found = [part for part in cookie_of(answer) if part.startswith(("Max-Age", "Expires"))]
    return round(int(found[0].partition("=")[2]), -1) if found else None
