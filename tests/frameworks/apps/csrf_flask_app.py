"""An app in Flask that asks for CSRF tokens. It has the routes of csrf_starlette_app."""

# ruff: noqa: D103  a handler's route and name say what it does

import hashlib
from urllib.parse import urlencode

from flask import Flask, render_template_string, request, session

from coatcheck import CsrfPolicy, SessionPolicy, Sessions
from coatcheck.flask import SessionInterface, session_of
from tests.frameworks.apps.common import COOKIE

app = Flask(__name__)
SessionInterface(
    app,
    sessions=Sessions(policy=SessionPolicy(subject_attribute="user_id")),
    cookie=COOKIE,
    csrf=CsrfPolicy(exempt=("/hooks",), trusted_origins=("https://partner.example",)),
)


@app.get("/untouched")
def untouched():
    return {"ok": True}


@app.get("/page")
def page():
    return render_template_string("{{ csrf_token() }}")


@app.post("/login")
def login():
    session["user_id"] = request.args["user"]
    return page()


@app.post("/rotate")
def rotate():
    session_of().rotate()
    return page()


@app.post("/logout")
def logout():
    session_of().revoke()
    return page()


@app.route("/change", methods=["POST", "PUT", "PATCH", "DELETE"])
@app.post("/hooks/paid")
def change():
    if "file" in request.files:
        body = request.files["file"].read()
    else:
        body = urlencode(request.form).encode() or request.get_data()
    return {"digest": hashlib.sha256(body).hexdigest(), "user": session.get("user_id")}
