"""flask.session wherever Flask lets code run: hooks, threads, streams, async views, test clients."""

import threading
from datetime import timedelta

import pytest
from flask import Response, copy_current_request_context, send_file, session, stream_with_context

import coatcheck
from coatcheck.flask import session_of
from tests.frameworks.fix_flask import ONE_SESSION, view

# Contexts


def test_before_and_after(flask_app, client):
    """Functions before and after the view work on the same session, and what they change is saved."""
    flask_app.before_request(lambda: session.update(before=1))
    flask_app.after_request(lambda response: (session.update(after=session["a"]), response)[1])
    view(flask_app, lambda: dict(session), "/all")
    client.get("/set/1")

    assert client.get("/all").json == {"a": "1", "after": "1", "before": 1}


def test_async_view(flask_app, client):
    """An async view uses the same session."""

    async def answer():
        session["a"] = session["a"] + "!"
        return "ok"

    view(flask_app, answer)
    client.get("/set/1")
    client.get("/view")

    assert client.get("/get").json == {"a": "1!"}


def test_nested_context(flask_app, client):
    """A request context inside a request has a session of its own, and leaves the request's alone."""

    def answer():
        session["a"] = "2"
        with flask_app.test_request_context("/other"):
            session["a"] = "inner"
        return {"a": session["a"]}

    view(flask_app, answer)

    assert client.get("/view").json == {"a": "2"}
    assert client.get("/get").json == {"a": "2"}


def test_thread(flask_app, client):
    """A thread that works with a copy of the request's context reads its session."""

    def answer():
        seen = []
        reader = threading.Thread(target=copy_current_request_context(lambda: seen.append(session["a"])))
        reader.start()
        reader.join()
        return seen

    view(flask_app, answer)
    client.get("/set/1")

    assert client.get("/view").json == ["1"]


def test_stream(flask_app, client):
    """A response that is streamed may read the session as it goes, and no cache keeps it."""
    view(flask_app, lambda: Response(stream_with_context(session[name] for name in ["a"])))
    client.get("/set/1")

    answer = client.get("/view")

    assert answer.text == "1"
    assert (answer.headers["Vary"], answer.headers["Cache-Control"]) == ("Cookie", "private, no-store")


def test_stream_writes(flask_app, client):
    """What a streamed response changes is saved when it has ended."""

    def generate():
        yield "begun"
        session["a"] = "streamed"

    view(flask_app, lambda: Response(stream_with_context(generate())))
    client.get("/set/1")

    with client.get("/view") as answer:
        assert answer.text == "begun"

    assert client.get("/get").json == {"a": "streamed"}


def test_file(flask_app, client):
    """A file that is sent does not depend on the session."""
    view(flask_app, lambda: send_file(__file__))
    client.get("/set/1")

    with client.get("/view") as answer:
        assert "Vary" not in answer.headers


# Tests of apps


def test_session_transaction(flask_app, client):
    """A test's session_transaction prepares the session of the client, and looks at it."""
    with client.session_transaction() as prepared:
        prepared["a"] = "prepared"

    assert client.get("/get").json == {"a": "prepared"}
    client.get("/set/2")
    with client.session_transaction() as left:
        assert dict(left) == {"a": "2"}
        assert str(session_of(left).handle)


def test_session_transaction_permanent(flask_app, client):
    """It can make the session permanent."""
    with client.session_transaction() as prepared:
        prepared.permanent = True
        prepared["a"] = 1

    with client.session_transaction() as left:
        assert session_of(left).idle_timeout == timedelta(days=31)


def test_session_transaction_failure(make_flask):
    """What it cannot save raises in the test."""
    app = make_flask(policy=ONE_SESSION)
    with app.test_client().session_transaction() as first:
        first["user_id"] = "ada"

    with pytest.raises(coatcheck.SessionLimitReached), app.test_client().session_transaction() as second:
        second["user_id"] = "ada"


def test_session_after_request(client):
    """Inside `with client`, the session of the request can be looked at."""
    with client:
        client.get("/set/1")

        assert session["a"] == "1"
