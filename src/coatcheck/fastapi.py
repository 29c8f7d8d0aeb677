"""Sessions for FastAPI: Starlette's middleware, and the session as a dependency.

    from coatcheck.fastapi import CurrentSession, SessionMiddleware

    app = FastAPI()
    app.add_middleware(SessionMiddleware)

    @app.get("/cart")
    async def cart(session: CurrentSession) -> list[str]:
        return session.get("cart", [])

With ahead=False a route that takes no session costs no round trip. One that takes it is faster without: the session is
loaded before FastAPI has begun with the request, whose objects then wait for nothing (docs/performance.md). WebSocket
routes take it the same way.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated

from coatcheck.model.extras import Extra

with Extra("fastapi", "fastapi"):
    from fastapi import Depends
    from fastapi.requests import HTTPConnection

from coatcheck.model.session import Session
from coatcheck.starlette import CsrfPolicy, SessionMiddleware, csrf_context, csrf_token, fresh_session_of, session_of

__all__ = [
    "CsrfPolicy",
    "CsrfToken",
    "CurrentSession",
    "SessionMiddleware",
    "csrf_context",
    "csrf_token",
    "require_fresh",
    "session_of",
]


async def _current(connection: HTTPConnection) -> Session:
    return await session_of(connection)


CurrentSession = Annotated[Session, Depends(_current)]
"""The full session of the request, loaded when the first dependency asks for it."""


async def _csrf_token(connection: HTTPConnection) -> str:
    await session_of(connection)
    return csrf_token(connection)


CsrfToken = Annotated[str, Depends(_csrf_token)]
"""A CSRF token for the page that answers; asked for before the route runs, so not for one that signs in."""


def require_fresh(minutes: float, assurance: int = 1) -> Callable[[HTTPConnection], Awaitable[Session]]:
    """Make a dependency: 401 unless the user has authenticated within *minutes*, at least that strongly.

        @app.post("/transfer", dependencies=[Depends(require_fresh(5, assurance=2))])

    It gives the session. The answer is a challenge (RFC 9470); the middleware's `on_error` may answer otherwise.
    """
    within = timedelta(minutes=minutes)

    async def fresh(connection: HTTPConnection) -> Session:
        return await fresh_session_of(connection, within, assurance)

    return fresh
