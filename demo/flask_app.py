"""The shop as a Flask application: coatcheck.flask in use."""

from typing import Any, Final

from flask import Flask, Response, abort, request, session

from coatcheck import Sessions
from coatcheck.flask import SessionInterface, session_of
from demo import shop

ME: Final = "Flask"

sessions = Sessions(policy=shop.POLICY)  # COATCHECK_URL and COATCHECK_KEYS say where, and with which key
app = Flask(__name__, static_folder=None)
SessionInterface(app, sessions=sessions, cookie=shop.COOKIE)


@app.get("/api/state")
def state() -> dict[str, Any]:
    whole = session_of()  # flask.session is the mapping; this is what knows its handle and deadlines too
    devices = sessions.list_for(whole.subject) if whole.subject else []
    return shop.state(ME, whole, devices)


@app.post("/api/sign-in")
def sign_in() -> dict[str, Any]:
    shop.sign_in(session, wish(), request.headers.get("User-Agent", ""))
    shop.signed_by(session, ME)
    return shop.answer(ME)


@app.post("/api/sign-out")
def sign_out() -> dict[str, Any]:
    wish()
    session.clear()
    return shop.answer(ME)


@app.post("/api/sign-out-everywhere")
def sign_out_everywhere() -> dict[str, Any]:
    wish()
    whole = session_of()
    if whole.subject:
        sessions.revoke_all(whole.subject)
        whole.revoke()  # this one has ended with the others; here it also takes the cookie along
    return shop.answer(ME)


@app.post("/api/cart")
def add_to_cart() -> dict[str, Any]:
    shop.add_to_cart(session_of(), wish())
    shop.signed_by(session, ME)
    return shop.answer(ME)


@app.post("/api/rotate")
def rotate() -> dict[str, Any]:
    wish()
    session_of().rotate()
    return shop.answer(ME)


@app.post("/api/devices/end")
def end_device() -> dict[str, Any]:
    handle, subject = str(wish().get("handle")), session_of().subject
    if subject:
        sessions.revoke(handle, subject=subject)
    return shop.answer(ME)


@app.post("/api/devices/end-others")
def end_other_devices() -> dict[str, Any]:
    wish()
    whole = session_of()
    if whole.subject:
        sessions.revoke_all(whole.subject, keep=whole.handle)
    return shop.answer(ME)


@app.get("/", defaults={"name": "index.html"})
@app.get("/page/<name>")
def page(name: str) -> Response:
    if name not in shop.PAGE:
        abort(404)
    body, headers = shop.page(name)
    return Response(body, headers=headers)


@app.errorhandler(shop.Refused)
def refused(error: shop.Refused) -> tuple[dict[str, Any], int]:
    return {**shop.answer(ME), "error": str(error)}, 400


def wish() -> dict[str, Any]:
    """Read the request's body; anything but JSON is answered with 415, a JSON that is no object with 400."""
    body = request.get_json()
    return body if isinstance(body, dict) else abort(400)
