"""Views for users who have authenticated recently, or strongly enough."""

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast

from django.http import HttpRequest

from coatcheck.django.configuration import async_sessions, sessions

View = TypeVar("View", bound=Callable[..., Any])


def require_fresh(minutes: float, assurance: int = 1) -> Callable[[View], View]:
    """Decorate a view to answer 401 unless the user has authenticated within *minutes*, at least that strongly.

    For functions, synchronous or not; for a class: ``@method_decorator(require_fresh(5), name="dispatch")``. The answer
    is a challenge (RFC 9470), unless FAILURE_VIEW answers AuthenticationRequired otherwise.
    """
    within = timedelta(minutes=minutes)

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *given: Any, **options: Any) -> Any:
            sessions().demand_fresh(request.session.session, within, assurance)
            return view(request, *given, **options)

        @wraps(view)
        async def awaited(request: HttpRequest, *given: Any, **options: Any) -> Any:
            await async_sessions().demand_fresh(await request.session.asession(), within, assurance)
            return await view(request, *given, **options)

        return cast("View", awaited if iscoroutinefunction(view) else guarded)

    return decorate
