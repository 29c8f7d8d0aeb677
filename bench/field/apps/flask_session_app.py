"""Flask-Session with Redis."""

import os
from typing import Any

from flask import Flask, request, session
from flask_session import Session
from redis import Redis

from bench.field.gate import wait_at_gate_in_thread

app = Flask(__name__)
app.config.update(SESSION_TYPE="redis", SESSION_REDIS=Redis.from_url(os.environ["FIELD_STORE"]))
Session(app)


@app.get("/set")
def set_one() -> dict[str, Any]:
    """Serve /set."""
    session.get("seed")
    if "wait" in request.args:
        wait_at_gate_in_thread()
    session[request.args["name"]] = request.args["value"]
    return {}


@app.get("/show")
def show() -> dict[str, Any]:
    """Serve /show."""
    return dict(session)


@app.get("/login")
def sign_in() -> dict[str, Any]:
    """Serve /login."""
    if "own" in request.args:
        app.session_interface.regenerate(session)
    session["user_id"] = "ada"
    return {}


@app.get("/logout")
def sign_out() -> dict[str, Any]:
    """Serve /logout."""
    session.clear()
    return {}
