"""coatcheck's Starlette adapter."""

import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import coatcheck
from bench.field.gate import wait_at_gate
from coatcheck.starlette import SessionMiddleware


async def set_one(request: Request) -> JSONResponse:
    """Serve /set."""
    request.session.get("seed")
    if "wait" in request.query_params:
        await wait_at_gate()
    request.session[request.query_params["name"]] = request.query_params["value"]
    return JSONResponse({})


async def show(request: Request) -> JSONResponse:
    """Serve /show."""
    return JSONResponse(dict(request.session))


async def sign_in(request: Request) -> JSONResponse:
    """Serve /login. What the documentation has for it is this: the change of subject_attribute is noticed."""
    request.session["user_id"] = "ada"
    return JSONResponse({})


async def sign_out(request: Request) -> JSONResponse:
    """Serve /logout."""
    request.session.revoke()
    return JSONResponse({})


app = Starlette(
    routes=[Route("/set", set_one), Route("/show", show), Route("/login", sign_in), Route("/logout", sign_out)],
    middleware=[
        Middleware(
            SessionMiddleware,
            url=os.environ["FIELD_STORE"],
            keys=coatcheck.new_key(),
            policy=coatcheck.SessionPolicy(subject_attribute="user_id"),
        )
    ],
)
