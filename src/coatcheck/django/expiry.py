"""What Django's set_expiry() means in timeouts."""

from datetime import datetime, timedelta
from typing import Any, Final

from django.utils import timezone

from coatcheck.model.policy import SessionPolicy
from coatcheck.model.session import Session

NAME: Final = "_session_expiry"
"""The attribute in which SessionBase keeps what was set: seconds, 0, or a date in ISO 8601."""

_LONGEST: Final = timedelta(days=3650)


def apply_expiry(session: Session, policy: SessionPolicy, starts_at: datetime) -> None:
    """Give *session* the timeouts that its expiry asks for; an expiry that has passed ends it.

    starts_at: when the session was created or, if the coming save does that, now (aware).
    """
    expiry = session.peek(NAME)
    if expiry is None:
        if NAME in session.stored:
            session.set_timeouts(
                idle=policy.idle_timeout, absolute=policy.absolute_timeout, persistent=policy.persistent
            )
        return
    if expiry == 0:
        session.set_timeouts(idle=policy.idle_timeout, absolute=policy.absolute_timeout, persistent=False)
        return
    if isinstance(expiry, str):
        idle = absolute = min(_aware(datetime.fromisoformat(expiry)) - starts_at, _LONGEST)
    else:
        idle = min(timedelta(seconds=expiry), _LONGEST)
        absolute = max(idle, policy.absolute_timeout)
    if idle < timedelta(milliseconds=1):
        session.revoke()
    else:
        session.set_timeouts(idle=idle, absolute=absolute, persistent=True)


def goes_with_browser(expiry: Any, policy: SessionPolicy) -> bool:
    """Say whether a session with that *expiry* ends for the browser when it closes."""
    return not policy.persistent if expiry is None else bool(expiry == 0)


def _aware(moment: datetime) -> datetime:
    return timezone.make_aware(moment) if timezone.is_naive(moment) else moment
