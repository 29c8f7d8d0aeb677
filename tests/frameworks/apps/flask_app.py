"""The routes of the framework tests, in Flask."""

# ruff: noqa: D103  a handler's route and name say what it does

from flask import Flask, request, session
from werkzeug.middleware.proxy_fix import ProxyFix

from coatcheck import Sessions
from coatcheck.flask import SessionInterface, require_fresh, session_of, sessions_of
from tests.frameworks.apps.common import COOKIE, HTTPS, METHODS, POLICY, TYPES, shown, wait_at

app = Flask(__name__)
SessionInterface(app, sessions=Sessions(policy=POLICY), cookie=COOKIE)
if HTTPS:
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=0)


@app.get("/untouched")
def untouched():
    return {"ok": True}


@app.get("/read")
def read():
    handle = session_of().handle
    return {"attributes": dict(session), "handle": str(handle) if handle else None}


@app.get("/peek")
def peek():
    return {"value": session.get("a")}


@app.post("/set")
def set_value():
    session[request.args["name"]] = request.args["value"]
    return {"ok": True}


@app.post("/nested")
def nested():
    session.setdefault("list", [])
    session["list"].append(request.args["value"])
    return {"ok": True}


@app.post("/nested-key")
def nested_key():
    session.setdefault("map", {})
    session["map"][request.args["key"]] = request.args["value"]
    return {"ok": True}


@app.post("/increment")
def increment():
    return {"value": session_of().increment(request.args["name"])}


@app.post("/delete")
def delete():
    session.pop(request.args["name"], None)
    return {"ok": True}


@app.post("/clear")
def clear():
    session.clear()
    return {"ok": True}


@app.post("/login")
def login():
    session["user_id"] = request.args["user"]
    session["device"] = request.args["device"]
    return {"ok": True}


@app.post("/logout")
def logout():
    session.pop("user_id", None)
    session.clear()
    return {"ok": True}


@app.post("/rotate")
def rotate():
    session_of().rotate()
    return {"ok": True}


@app.get("/fresh")
@require_fresh(5)
def fresh():
    return {"ok": True}


@app.get("/this-moment")
@require_fresh(0)
def this_moment():
    return {"ok": True}


@app.get("/strong")
@require_fresh(5, assurance=2)
def strong():
    return {"ok": True}


@app.post("/step-up")
def step_up():
    sessions_of().bind(session_of(), session["user_id"], assurance=2)
    return {"ok": True}


@app.post("/revoke-all")
def revoke_all():
    return {"ended": sessions_of().revoke_all(session["user_id"])}


@app.get("/devices")
def devices():
    return {"devices": [str(info.handle) for info in sessions_of().list_for(session["user_id"])]}


@app.post("/slow-set")
def slow_set():
    len(session)
    wait_at(request.args["gate"])
    return set_value()


@app.post("/strict")
def strict():
    session_of().strict = True
    return slow_set()


@app.post("/types")
def store_types():
    session["types"] = TYPES
    return {"ok": True}


@app.get("/types")
def show_types():
    return {"repr": shown(session["types"])}


@app.get("/mapping/<method>")
def mapping(method):
    METHODS[method](session)
    return {"ok": True}


@app.get("/boom")
def boom():
    session["boom"] = 1
    raise RuntimeError("boom")
