"""aiohttp: sessions by a middleware of our own, or by a storage for aiohttp-session.

    from coatcheck.aiohttp import session_of, setup

    app = web.Application()
    setup(app)                                      # before the middlewares that use the session

    async def visit(request):
        session = await session_of(request)         # loaded now: a request that does not ask costs nothing
        return web.json_response({"visits": session.increment("visits")})

Responses of every kind carry the cookie: streams, WebSockets, and exceptions such as web.HTTPFound. What is
done once a response has begun is saved at the end of the request; a new cookie comes too late then. WebSockets and
event streams whose handler has asked for the session are closed when it ends.

An app written for aiohttp-session changes one line, ``aiohttp_session.setup(app, Storage())``. That library tells a
storage neither of requests that do not ask for a session nor of responses that begin. So nothing that streams and
WebSockets do is saved, they are not closed when the session ends, and there is no protection against CSRF.

A failed store is answered with web.HTTPServiceUnavailable, a refused sign-in and CSRF with web.HTTPForbidden, a
conflict with web.HTTPConflict, a source over its limit with web.HTTPTooManyRequests. A middleware outside this one may
answer otherwise; ``__cause__`` says what went wrong.

aiohttp ignores X-Forwarded-Proto. Behind a proxy that ends TLS, a middleware outside this one must go on with
``request.clone(scheme="https")`` where the proxy, and nobody else, says so.
"""

from coatcheck.model.csrf import CsrfPolicy
from coatcheck.model.extras import Extra

with Extra("aiohttp", "aiohttp"):
    from coatcheck.aiohttp.middleware import csrf_token, require_fresh, session_of, setup
    from coatcheck.aiohttp.storage import Storage

__all__ = ["CsrfPolicy", "Storage", "csrf_token", "require_fresh", "session_of", "setup"]
