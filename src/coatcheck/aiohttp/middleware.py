"""The middleware for aiohttp, and what handlers ask of it."""

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, Final, TypeVar, cast

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from coatcheck.aiohttp.desk import ERRAND, STORED, Desk, Errand
from coatcheck.aiohttp.storage import stored_session_of
from coatcheck.model.cookie import CookiePolicy
from coatcheck.model.csrf import CsrfPolicy
from coatcheck.model.errors import AuthenticationRequired, ConfigurationError, SessionError
from coatcheck.model.policy import SessionPolicy
from coatcheck.model.session import Session
from coatcheck.runtime.address import Keys
from coatcheck.runtime.aio import AsyncSessions

Wrapped = TypeVar("Wrapped", bound=Callable[..., Any])

_NO_SESSION: Final = "there is no session here: call coatcheck.aiohttp.setup(app)"


def setup(
    app: web.Application,
    *,
    sessions: AsyncSessions | None = None,
    url: str | None = None,
    keys: Keys = None,
    policy: SessionPolicy | None = None,
    prefix: str | None = None,
    cookie: CookiePolicy | None = None,
    csrf: CsrfPolicy | bool = False,
) -> None:
    """Give every request of *app* a session: one of *sessions*, or of those with this url, keys, policy and prefix.

    cookie: by default for https, and for http://localhost where asyncio is in debug mode.
    csrf: True, or a policy, refuses requests that may change something (POST, PUT, ...) without a token of
        `csrf_token`, and WebSockets that pages of other origins open.
    Sessions that are not given are closed with the app. Raises ConfigurationError.
    """
    desk = Desk("setup", sessions=sessions, cookie=cookie, url=url, keys=keys, policy=policy, prefix=prefix)
    guarding = CsrfPolicy() if csrf is True else csrf or None

    @web.middleware
    async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
        errand = request[ERRAND] = desk.begin(request)
        raised: web.HTTPException | None = None
        response: web.StreamResponse
        try:
            try:
                await _refuse_forged(guarding, errand, request)
                response = await handler(request)
            except web.HTTPException as answer:
                response = raised = answer
            finally:
                await errand.unguard()
            if response.prepared:
                await errand.exchange.finish_late(errand.visit)
            else:
                await errand.finish(response)
        except SessionError as error:
            raise errand.refusal(error, request) from error
        finally:
            errand.is_done = True
        if raised is not None:
            raise raised
        return response

    async def finish_early(request: web.Request, response: web.StreamResponse) -> None:
        errand = request.get(ERRAND)
        if errand is not None and not errand.is_done:
            await errand.finish(response)
            desk.guard(errand, request, response)

    async def close(_: web.Application) -> None:
        await desk.sessions.close()

    app.middlewares.append(serve)
    app.on_response_prepare.append(finish_early)
    if sessions is None:
        app.on_cleanup.append(close)


async def session_of(request: web.Request) -> Session:
    """Give the session of *request*; load it if nothing has yet.

    Under `Storage` it is the one behind aiohttp-session's. Raises StoreError, which is no logout.
    """
    if (errand := request.get(ERRAND)) is not None:
        return await cast("Errand", errand).load()
    session = await stored_session_of(request)
    if session is None:
        raise ConfigurationError(_NO_SESSION)
    return session


async def csrf_token(request: web.Request) -> str:
    """Give a CSRF token for the page that answers: for the hidden field csrf_token of its forms, or for its scripts.

    Ask for it once the request has done what it does to the session, a sign-in above all. Raises StoreError.
    """
    errand = cast("Errand | None", request.get(ERRAND))
    if errand is None:
        raise ConfigurationError(_NO_SESSION)
    return errand.exchange.sessions.csrf_token(await errand.load())


def require_fresh(minutes: float, assurance: int = 1) -> Callable[[Wrapped], Wrapped]:
    """Decorate a handler, or a method of a web.View, to refuse users who have not authenticated within *minutes*.

    assurance: how strongly, at least. The answer is web.HTTPUnauthorized with a challenge (RFC 9470).
    """
    within = timedelta(minutes=minutes)

    def decorate(handler: Wrapped) -> Wrapped:
        @wraps(handler)
        async def guarded(given: web.Request | web.View) -> Any:
            request = given.request if isinstance(given, web.View) else given
            session = await session_of(request)
            errand = cast("Errand", request.get(ERRAND) or request[STORED])
            try:
                await errand.exchange.sessions.demand_fresh(session, within, assurance)
            except AuthenticationRequired as error:
                raise errand.refusal(error, request) from error
            return await handler(given)

        return cast("Wrapped", guarded)

    return decorate


async def _refuse_forged(policy: CsrfPolicy | None, errand: Errand, request: web.Request) -> None:
    """Raise CsrfRefused for a request that may be forged. policy: None to let all of them pass."""
    if policy is None:
        return
    if policy.applies_to(request.method, request.path):
        is_own = policy.is_own(request.headers.get)
        token = request.headers.get(policy.header)
        if token is None:
            token = await _token_in_form(request, policy.field)
        await errand.exchange.check_csrf(errand.visit, token, is_own=is_own)
    elif request.headers.get(hdrs.UPGRADE, "").strip().lower() == "websocket":
        policy.is_own(request.headers.get)


async def _token_in_form(request: web.Request, field: str) -> str | None:
    """Read a form, which the handler then has too; give its *field*. Raises web.HTTPRequestEntityTooLarge."""
    try:
        token = (await request.post()).get(field)
    except (ValueError, LookupError):  # a form that cannot be read, or of an unknown charset, has none
        return None
    return token if isinstance(token, str) else None
