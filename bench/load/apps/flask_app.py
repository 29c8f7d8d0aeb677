"""Flask: bare, Flask-Session, coatcheck, the same with its near cache."""

import os

from flask import Flask, session
from flask_session import Session
from redis import Redis

from bench.load.content import SESSION, add_one
from bench.load.near import POLICY
from coatcheck.flask import SessionInterface, session_of

_URL, _VARIANT = os.environ["LOAD_STORE"], os.environ["LOAD_VARIANT"]
_is_bare = _VARIANT == "bare"

app = Flask(__name__)
if _VARIANT == "flask-session":
    app.config.update(SESSION_TYPE="redis", SESSION_REDIS=Redis.from_url(_URL))
    Session(app)
elif not _is_bare:
    app.config["SECRET_KEY"] = "of the load, and of nothing else"  # noqa: S105
    SessionInterface(app, url=_URL, policy=POLICY)


@app.get("/fill")
def fill() -> str:
    """Serve /fill."""
    if not _is_bare:
        session.update(SESSION)
    return "filled"


@app.get("/read")
def read() -> str:
    """Serve /read."""
    return "Ada Lovelace" if _is_bare else session["name"]


@app.get("/write")
def write() -> str:
    """Serve /write."""
    if not _is_bare:
        add_one(session if _VARIANT == "flask-session" else session_of())
    return "written"


@app.get("/hits")
def hits() -> str:
    """Serve /hits."""
    return str(session["hits"])
