"""FastAPI: bare, Redis's own fastapi-redis-sdk, the least that a sealed session takes, coatcheck, also near."""

import os
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import PlainTextResponse
from redis_fastapi import FastAPIRedis, get_settings
from redis_fastapi.deps import SessionDep

from bench.load.apps.least import LeastMiddleware
from bench.load.content import SESSION, add_one
from bench.load.near import POLICY
from coatcheck.fastapi import CurrentSession, SessionMiddleware

_URL, _VARIANT = os.environ["LOAD_STORE"], os.environ["LOAD_VARIANT"]

app = FastAPI(default_response_class=PlainTextResponse)

if _VARIANT == "bare":

    @app.get("/fill")
    async def fill() -> str:
        """Serve /fill."""
        return "filled"

    @app.get("/read")
    async def read() -> str:
        """Serve /read."""
        return "Ada Lovelace"

    @app.get("/write")
    async def write() -> str:
        """Serve /write."""
        return "written"

else:
    if _VARIANT == "fastapi-redis-sdk":
        get_settings().url = _URL
        FastAPIRedis(app).lifespan().sessions()
        Session = SessionDep
    elif _VARIANT.startswith("least"):

        async def _session(request: Request) -> dict[str, Any]:
            return request.session

        app.add_middleware(LeastMiddleware, keeps=_VARIANT == "least, kept")
        Session = Annotated[dict[str, Any], Depends(_session)]
    else:
        app.add_middleware(SessionMiddleware, url=_URL, policy=POLICY)
        Session = CurrentSession

    @app.get("/fill")
    async def fill_session(session: Session) -> str:
        """Serve /fill."""
        session.update(SESSION)
        return "filled"

    @app.get("/read")
    async def read_session(session: Session) -> str:
        """Serve /read."""
        return session["name"]

    @app.get("/write")
    async def write_session(session: Session) -> str:
        """Serve /write."""
        add_one(session)
        return "written"

    @app.get("/hits")
    async def hits(session: Session) -> str:
        """Serve /hits."""
        return str(session["hits"])
