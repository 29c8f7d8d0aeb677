"""What is wrong where an application is set up is said there, not in the first request."""

import asyncio
import importlib

import pytest
from flask import Flask

from coatcheck import AsyncSessions, ConfigurationError, Sessions
from coatcheck.flask import SessionInterface
from coatcheck.oidc import abackchannel_logout, backchannel_logout

ASYNC = ("starlette SessionMiddleware", "litestar SessionConfig", "aiohttp setup", "aiohttp Storage")


def set_up(adapter, sessions):
    """Set *adapter* ("module name") up with *sessions*."""
    module, _, name = adapter.partition(" ")
    function = getattr(importlib.import_module(f"coatcheck.{module}"), name)
    if name in {"SessionMiddleware", "setup"}:
        return function(None, sessions=sessions)
    return function(sessions=sessions)


@pytest.mark.parametrize("adapter", ASYNC)
def test_sessions_where_there_is_an_event_loop(key, adapter):
    """An asyncio adapter that is given Sessions refuses them at once, and says what it needs."""
    name = adapter.partition(" ")[2]

    with pytest.raises(ConfigurationError, match=f"^{name} needs coatcheck.AsyncSessions, and was given Sessions$"):
        set_up(adapter, Sessions("redis://h", keys=key))


def test_async_sessions_in_flask(key):
    """Flask's adapter refuses AsyncSessions at once, and says what it needs."""
    text = "^SessionInterface needs coatcheck.Sessions, and was given AsyncSessions$"
    with pytest.raises(ConfigurationError, match=text):
        SessionInterface(Flask(__name__), sessions=AsyncSessions("redis://h", keys=key))


def test_sessions_that_are_none():
    """Anything else is refused in the same way."""
    with pytest.raises(ConfigurationError, match=r"^SessionConfig needs coatcheck.AsyncSessions, and was given str$"):
        set_up("litestar SessionConfig", "redis://h")


def test_logout_with_the_wrong_sessions(key):
    """A back-channel logout that would end nothing, for nobody awaits it, is refused and not confirmed."""
    wrong = AsyncSessions("redis://h", keys=key)
    with pytest.raises(ConfigurationError, match=r"^backchannel_logout needs coatcheck.Sessions, and was given Async"):
        backchannel_logout(wrong, None, b"")
    right = "^abackchannel_logout needs coatcheck.AsyncSessions, and was given Sessions$"
    with pytest.raises(ConfigurationError, match=right):
        asyncio.run(abackchannel_logout(Sessions("redis://h", keys=key), None, b""))
