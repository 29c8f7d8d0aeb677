"""Sessions for FastAPI: Starlette's middleware, and the session as a dependency.

    from coatcheck.fastapi import CurrentSession, SessionMiddleware

    app = FastAPI()
    app.add_middleware(SessionMiddleware, ahead=False)

    @app.get("/cart")
    async def cart(session: CurrentSession) -> list[str]:
        return session.get("cart", [])

With ahead=False a route that takes no session costs no round trip. WebSocket routes take it the same way.
"""

from typing import Annotated

from fastapi import Depends
from fastapi.requests import HTTPConnection

from coatcheck.model.session import Session
from coatcheck.starlette import CsrfPolicy, SessionMiddleware, csrf_context, csrf_token, session_of

__all__ = [
    "CsrfPolicy",
    "CsrfToken",
    "CurrentSession",
    "SessionMiddleware",
    "csrf_context",
    "csrf_token",
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
