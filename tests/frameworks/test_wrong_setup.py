"""What is wrong where an application is set up is said there, not in the first request."""

import asyncio
import importlib
import subprocess
import sys

import pytest
from flask import Flask

from coatcheck import AsyncSessions, ConfigurationError, Sessions
from coatcheck.flask import SessionInterface
from coatcheck.model.extras import Extra
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


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("django", "django", "django"),
        ("flask", "flask", "flask"),
        ("starlette", "starlette", "starlette"),
        ("fastapi", "fastapi", "fastapi"),
        ("litestar", "litestar", "litestar"),
        ("aiohttp", "aiohttp", "aiohttp"),
        ("oidc", "jwt", "oidc"),
    ],
)
def test_without_the_extra(module, missing, extra):
    """To import an adapter without its framework says which extra brings it."""
    program = f"""if True:
        import sys

        class Uninstalled:
            def find_spec(name, *_):
                if name == "{missing}":
                    raise ModuleNotFoundError(name=name)

        sys.meta_path.insert(0, Uninstalled)
        import coatcheck.{module}
    """

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    last = result.stderr.splitlines()[-1]
    assert last == f'ModuleNotFoundError: {missing} is not installed: pip install "coatcheck[{extra}]"'


def test_something_else_is_missing():
    """What an extra has nothing to do with is reported as Python does."""
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'nothing_of_that_name'$"), Extra("oidc", "jwt"):
        importlib.import_module("nothing_of_that_name")
