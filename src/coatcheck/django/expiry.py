"""What Django's set_expiry() means in timeouts."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.utils import timezone

from coatcheck.model.codec import decode
from coatcheck.model.policy import SessionPolicy
from coatcheck.model.session import Session

NAME: Final = "_session_expiry"
"""The attribute in which SessionBase keeps what was set: seconds, 0, or a date in ISO 8601."""

_LONGEST: Final = timedelta(days=3650)


def apply_expiry(session: Session, policy: SessionPolicy, created_at: datetime | None) -> None:
    """Give *session* the timeouts that its expiry asks for, where that is new; an expiry that has passed ends it.

    created_at: when the session was created; None if the coming save does that.
    """
    expiry = session.peek(NAME)
    former = decode(session.stored[NAME]) if NAME in session.stored else None
    if expiry == former and (expiry is None or created_at is not None):
        return
    idle, absolute, persistent = policy.idle_timeout, policy.absolute_timeout, policy.persistent
    if isinstance(expiry, str):
        end = datetime.fromisoformat(expiry)
        end = timezone.make_aware(end) if timezone.is_naive(end) else end
        idle = absolute = min(end - (created_at or datetime.now(UTC)), _LONGEST)
    elif expiry:
        idle = min(timedelta(seconds=expiry), _LONGEST)
        absolute = max(idle, absolute)
    if idle < timedelta(milliseconds=1):
        session.revoke()
    else:
        session.set_timeouts(idle=idle, absolute=absolute, persistent=persistent if expiry is None else expiry != 0)


def goes_with_browser(expiry: Any, policy: SessionPolicy) -> bool:
    """Say whether a session with that *expiry* ends for the browser when it closes."""
    return not policy.persistent if expiry is None else bool(expiry == 0)
