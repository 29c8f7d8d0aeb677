"""The shop as a FastAPI application: coatcheck.fastapi in use."""

from typing import Annotated, Any, Final

from fastapi import Body, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response

from coatcheck import AsyncSessions
from coatcheck.fastapi import CurrentSession, SessionMiddleware
from demo import shop

ME: Final = "FastAPI"

Wish = Annotated[dict[str, Any], Body()]

sessions = AsyncSessions(policy=shop.POLICY)  # COATCHECK_URL and COATCHECK_KEYS say where, and with which key
app = FastAPI()
app.add_middleware(SessionMiddleware, sessions=sessions, cookie=shop.COOKIE, exclude=("/page",))


@app.get("/api/state")
async def state(session: CurrentSession) -> dict[str, Any]:
    devices = await sessions.list_for(session.subject) if session.subject else []
    return shop.state(ME, session, devices)


@app.post("/api/sign-in")
async def sign_in(session: CurrentSession, wish: Wish, request: Request) -> dict[str, Any]:
    shop.sign_in(session, wish, request.headers.get("user-agent", ""))
    shop.signed_by(session, ME)
    return shop.answer(ME)


@app.post("/api/sign-out")
async def sign_out(session: CurrentSession, _: Wish) -> dict[str, Any]:
    session.clear()
    return shop.answer(ME)


@app.post("/api/sign-out-everywhere")
async def sign_out_everywhere(session: CurrentSession, _: Wish) -> dict[str, Any]:
    if session.subject:
        await sessions.revoke_all(session.subject)
        session.revoke()  # this one has ended with the others; here it also takes the cookie along
    return shop.answer(ME)


@app.post("/api/cart")
async def add_to_cart(session: CurrentSession, wish: Wish) -> dict[str, Any]:
    shop.add_to_cart(session, wish)
    shop.signed_by(session, ME)
    return shop.answer(ME)


@app.post("/api/rotate")
async def rotate(session: CurrentSession, _: Wish) -> dict[str, Any]:
    session.rotate()
    return shop.answer(ME)


@app.post("/api/devices/end")
async def end_device(session: CurrentSession, wish: Wish) -> dict[str, Any]:
    if session.subject:
        await sessions.revoke(str(wish.get("handle")), subject=session.subject)
    return shop.answer(ME)


@app.post("/api/devices/end-others")
async def end_other_devices(session: CurrentSession, _: Wish) -> dict[str, Any]:
    if session.subject:
        await sessions.revoke_all(session.subject, keep=session.handle)
    return shop.answer(ME)


@app.get("/")
@app.get("/page/{name}")
async def page(name: str = "index.html") -> Response:
    if name not in shop.PAGE:
        raise HTTPException(404)
    body, headers = shop.page(name)
    return Response(body, headers=headers)


@app.exception_handler(shop.Refused)
async def refused(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({**shop.answer(ME), "error": str(error)}, status_code=400)
