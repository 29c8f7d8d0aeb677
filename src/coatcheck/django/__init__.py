"""Sessions for Django 5.2 and 6: request.session, kept in Redis or Valkey.

    SESSION_ENGINE = "coatcheck.django"
    INSTALLED_APPS = [..., "coatcheck.django", ...]                   # optional: `manage.py check` looks at all this
    MIDDLEWARE = [..., "coatcheck.django.SessionMiddleware", ...]     # in place of django.contrib.sessions' own

Views, `login()`, `logout()`, messages and the admin go on as they are; asynchronous views use the a-methods
(``await request.session.aget(...)``), which run on the event loop without a thread. A request that does not
look at the session costs nothing; reading it is one round trip, changing it one more. Requests in parallel keep
each other's changes, and changes inside nested values are seen: `modified` need not be set.

`request.session.session` (``await request.session.asession()``) is the full `coatcheck.Session`, a mapping with
rotate(), increment() and the handle; `sessions()` and `async_sessions()` give what lists and ends them (list_for,
revoke_all). In an asynchronous view, what has to load the session first refuses to block the event loop. What a
streaming response needs of the session, the view reads before it answers.

Signing in and out:

- `login()` makes the session the user's, under a new identifier, with new deadlines; also when the same user signs
  in again. The identifier is final once the session is saved: a receiver of `user_logged_in` saves it first.
- `logout()` and `flush()` end the session at once. A request that ends after that revives nothing.
- `update_session_auth_hash()`, so a change of password, gives a new identifier and ends the user's other sessions.
- `cycle_key()` rotates when the session is saved; the policy's `rotation_grace` keeps the former key for requests on
  their way. To raise somebody's rights, `login()` again: that leaves no grace.

``settings.COATCHECK``, a dict in which everything is optional:

- URL: of the store; by default COATCHECK_URL in the environment, or the embedded store.
- KEYS: that seal what is stored; by default those of the environment, or else made from SECRET_KEY and its fallbacks.
- PREFIX: what key names begin with. OPTIONS: further arguments of `coatcheck.Sessions`.
- POLICY: a SessionPolicy. Without a subject_attribute it gets Django's, ``_auth_user_id``; a project that names its own
  sets that attribute itself when it signs somebody in.
- COOKIE: a CookiePolicy.
- FAILURE_VIEW: a function (request, error), or its dotted path, that answers where the store cannot be reached (else
  503), a sign-in is over the limit (403), a strict session met a conflict (409), a source is over its limit (429) or
  `require_fresh` refuses (401). None from it means: as usual.

Where there is no POLICY, SESSION_COOKIE_AGE is the idle timeout, and the absolute one too, since Django lets only
a change prolong a session; with SESSION_SAVE_EVERY_REQUEST each use does, for 30 days (or that age, if longer).
SESSION_EXPIRE_AT_BROWSER_CLOSE makes the cookie go with the browser. `set_expiry(seconds)` sets the idle timeout, and
raises the absolute one to it; a date or timedelta is a fixed end; 0 lets the cookie go with the browser; 3650 days is
the most. The cookie's Max-Age follows the absolute deadline, the server alone decides.

Where there is no COOKIE, SESSION_COOKIE_NAME, _DOMAIN, _PATH and _SAMESITE shape it. It is HttpOnly always, and Secure
unless the project sets SESSION_COOKIE_SECURE to False. Over https it is named ``__Host-sessionid``; with DEBUG,
http://localhost needs no https. Django's test client gets the name it looks for, SESSION_COOKIE_NAME.

With Django's own middleware in place of ours, sessions are as right, but the cookie is Django's (no ``__Host-``
prefix, duplicates go unseen), an outage is a 500, a request that ends after a logout a 400, and reading a session
does not prolong it. With "coatcheck.django" in INSTALLED_APPS `manage.py check` says so.
`manage.py clearsessions`, of django.contrib.sessions, settles what has expired.
"""

from coatcheck.model.extras import Extra

with Extra("django", "django"):
    from coatcheck.django.configuration import async_sessions, sessions
    from coatcheck.django.freshness import require_fresh
    from coatcheck.django.middleware import SessionMiddleware
    from coatcheck.django.store import SessionStore

__all__ = ["SessionMiddleware", "SessionStore", "async_sessions", "require_fresh", "sessions"]
