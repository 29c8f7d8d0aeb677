"""What `manage.py check` says of the session settings."""

from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004  Django's name

from coatcheck.django.configuration import configuration
from coatcheck.model.errors import ConfigurationError


@register(Tags.security)
def check_sessions(app_configs: Any, **_: object) -> list[CheckMessage]:  # noqa: ARG001  Django's signature
    """Find settings that will not do (E001), and Django's own middleware in place of ours (W001).

    W002: the policy's subject_attribute is none that `login()` sets.
    """
    found: list[CheckMessage] = []
    try:
        attribute = configuration().sessions.policy.subject_attribute
    except ConfigurationError as error:
        found.append(Error(str(error), id="coatcheck.E001"))
    else:
        if attribute != SESSION_KEY and apps.is_installed("django.contrib.auth"):
            found.append(
                Warning(
                    f"login() and logout() do not set {attribute!r}, the subject_attribute of COATCHECK's POLICY: "
                    "the sessions that they sign in stay nobody's, in no list and under no limit.",
                    hint=f"Leave subject_attribute out: it is {SESSION_KEY!r} then. "
                    "Silence this where the project sets the attribute itself.",
                    id="coatcheck.W002",
                )
            )
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
