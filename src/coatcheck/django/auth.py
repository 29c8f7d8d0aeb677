"""What changes of django.contrib.auth's attributes in a session mean."""

from typing import Any

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model, load_backend
from django.utils.crypto import constant_time_compare

from coatcheck.engine.operations import Operations
from coatcheck.model.codec import decode
from coatcheck.model.session import Session
from coatcheck.runtime.aio import AsyncSessions


async def password_changed(session: Session, sessions: Operations) -> bool:
    """Say whether this request gave *session* another password hash, as `update_session_auth_hash` does.

    Not where Django only renewed one made with a key of SECRET_KEY_FALLBACKS: the password is the same then,
    and the user's other sessions are as good as before.
    """
    former = decode(session.stored[HASH_SESSION_KEY]) if HASH_SESSION_KEY in session.stored else None
    if not former or former == session.peek(HASH_SESSION_KEY):
        return False
    user = await _user(session, sessions)
    renewals = user.get_session_auth_fallback_hash() if hasattr(user, "get_session_auth_fallback_hash") else ()
    return not any(constant_time_compare(former, renewed) for renewed in renewals)


async def _user(session: Session, sessions: Operations) -> Any:
    """Get the user from the database, as `django.contrib.auth.get_user` does; None if there is none."""
    path, key = session.peek(BACKEND_SESSION_KEY), session.peek(SESSION_KEY)
    if path is None or key is None:
        return None
    backend, key = load_backend(path), get_user_model()._meta.pk.to_python(key)  # noqa: SLF001  Django's own way
    if isinstance(sessions, AsyncSessions):
        return await backend.aget_user(key)
    return backend.get_user(key)
