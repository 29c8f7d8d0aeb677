"""SessionMiddleware: Django's, with the cookie and the answers of coatcheck's exchange."""

from collections.abc import Container
from http.cookies import Morsel
from typing import Any

from django.contrib.sessions.middleware import SessionMiddleware as DjangoMiddleware
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from coatcheck.django.configuration import async_sessions, blocking, configuration
from coatcheck.django.store import SessionStore
from coatcheck.engine.exchange import Exchange
from coatcheck.engine.operations import Operations
from coatcheck.model.errors import (
    AuthenticationRequired,
    SessionConflict,
    SessionError,
    SessionLimitReached,
    SourceLimited,
    StoreError,
)
from coatcheck.runtime.sync import run


class SessionMiddleware(DjangoMiddleware):
    """Gives each request its session and each response its cookie. In place of Django's, from which it descends."""

    def __init__(self, get_response: Any) -> None:
        """Raise ImproperlyConfigured or ConfigurationError for settings that will not do."""
        super().__init__(get_response)
        if not issubclass(self.SessionStore, SessionStore):
            raise ImproperlyConfigured('coatcheck.django.SessionMiddleware needs SESSION_ENGINE = "coatcheck.django"')
        configuration()

    def process_request(self, request: HttpRequest) -> None:
        """Look at the cookie. Sends nothing."""
        exchange = _exchange(request, async_sessions())
        request.session = self.SessionStore()
        request.session.visit = exchange.begin(
            request.META.get("HTTP_COOKIE"),
            https=request.is_secure(),
            host=request.META.get("HTTP_HOST", ""),
            address=request.META.get("REMOTE_ADDR"),
            user_agent=request.META.get("HTTP_USER_AGENT"),
            method=request.method,
            path=request.path,
        )

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Save the session and set the headers."""
        return run(self._respond(request, response, blocking()))

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        """Do the same on the event loop."""
        self.process_request(request)
        return await self._respond(request, await self.get_response(request), async_sessions())

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer a view that let an error of the session pass."""
        if isinstance(
            error, StoreError | SessionLimitReached | SessionConflict | AuthenticationRequired | SourceLimited
        ):
            return _failed(request, error)
        if isinstance(getattr(request, "session", None), SessionStore):
            request.session.failure = None  # the application dealt with it, and failed of something else
        return None

    async def _respond(
        self, request: HttpRequest, response: HttpResponseBase, sessions: Operations
    ) -> HttpResponseBase:
        store, exchange = getattr(request, "session", None), _exchange(request, sessions)
        if not isinstance(store, SessionStore):
            return response
        if store.failure is not None and response.status_code == 500:  # noqa: PLR2004  another middleware met it
            return _failed(request, store.failure)
        try:
            outcome = await store.finish(exchange, saves=response.status_code < 500)  # noqa: PLR2004  Django's rule
        except SessionError as error:
            return _failed(request, error)
        for name, value in outcome.headers(response.headers.get("Vary"), response.headers.get("Cache-Control")):
            if name == "Set-Cookie":
                line = _Line(value)
                response.cookies[line.key] = line
            else:
                response.headers[name] = value
        return response


class _Line(Morsel[str]):
    """A Set-Cookie header that Django sends as it is."""

    def __init__(self, line: str) -> None:
        super().__init__()
        pair, *attributes = line.split("; ")
        name, _, value = pair.partition("=")
        self.set(name, value, value)
        for attribute in attributes:
            name, _, value = attribute.partition("=")
            self[name] = value or True  # HttpOnly and Secure are flags
        self.line = line

    def OutputString(self, attrs: Container[str] | None = None) -> str:  # noqa: ARG002, N802  Python's signature
        return self.line


def _exchange(request: HttpRequest, sessions: Operations) -> Exchange:
    known = configuration()
    # Django's test client marks its requests; nothing that comes over a network can.
    from_test_client = hasattr(request, "_dont_enforce_csrf_checks")
    return Exchange(sessions, known.test_cookie if from_test_client else known.cookie)


def _failed(request: HttpRequest, error: SessionError) -> HttpResponse:
    known = configuration()
    response = None if known.failure_view is None else known.failure_view(request, error)
    if response is not None:
        return response
    failure = Exchange(known.sessions.core, known.cookie).failure(error)
    return HttpResponse(failure.text, status=failure.status, headers=dict(failure.headers))
