"""What `manage.py check` says of the session settings."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004  Django's name

from coatcheck.django.configuration import configuration
from coatcheck.model.errors import ConfigurationError


@register(Tags.security)
def check_sessions(app_configs: Any, **_: object) -> list[CheckMessage]:  # noqa: ARG001  Django's signature
    """Find settings that will not do (E001), and Django's own middleware in place of ours (W001)."""
    found: list[CheckMessage] = []
    try:
        configuration()
    except ConfigurationError as error:
        found.append(Error(str(error), id="coatcheck.E001"))
    if "django.contrib.sessions.middleware.SessionMiddleware" in settings.MIDDLEWARE:
        found.append(
            Warning(
                "Django's session middleware serves coatcheck's sessions: the cookie has no __Host- prefix, "
                "duplicates of it go unseen, an outage of the store is a 500, and reading prolongs no session.",
                hint="Put coatcheck.django.SessionMiddleware in its place in MIDDLEWARE.",
                id="coatcheck.W001",
            )
        )
    return found
