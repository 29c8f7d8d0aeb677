"""The peers: which app, in which environment, served how."""

import re
from dataclasses import dataclass
from typing import Final

from bench.field.stage import ROOT

_UVICORN: Final = "uvicorn --no-access-log --port {{port}} bench.field.apps.{}:app"
_GUNICORN: Final = "gunicorn --threads 8 --bind 127.0.0.1:{{port}} bench.field.apps.{}:app"


@dataclass(frozen=True, slots=True)
class Peer:
    """A library with its defaults; *name* has a place for the version of *package*."""

    name: str
    package: str
    lock: str
    command: str
    variant: str = ""
    in_redis: bool = True

    @property
    def venv(self) -> str:
        """Name the environment that the Makefile sets up from the lock."""
        return f".venv-field-{self.lock}" if self.lock else ".venv"

    def title(self) -> str:
        """Name it with its version, from the lock; coatcheck's own is in pyproject.toml."""
        if self.lock:
            path, pattern = f"bench/field/locks/{self.lock}.txt", rf"^{self.package}==(\S+)"
        else:
            path, pattern = "pyproject.toml", r'^version = "(.+)"'
        found = re.search(pattern, (ROOT / path).read_text(), re.MULTILINE)
        return self.name.format(found[1] if found else "?")


def _django(name: str, package: str, engine: str, *, in_redis: bool = True) -> Peer:
    return Peer(name, package, "django", _GUNICORN.format("django_app"), engine, in_redis)


PEERS: Final = (
    Peer("coatcheck {}", "coatcheck", "", _UVICORN.format("coatcheck_app")),
    _django("Django {} `cache`", "django", "cache on django.core.cache.backends.redis.RedisCache"),
    _django("Django `cache` on django-redis {}", "django-redis", "cache on django_redis.cache.RedisCache"),
    _django("Django {} `cached_db`", "django", "cached_db on django.core.cache.backends.redis.RedisCache"),
    _django("Django {} `db`, SQLite", "django", "db", in_redis=False),
    Peer("Flask-Session {}", "flask-session", "flask-session", _GUNICORN.format("flask_session_app")),
    Peer("starsessions {}", "starsessions", "starsessions", _UVICORN.format("starsessions_app")),
    Peer("Litestar {} `RedisStore`", "litestar", "litestar", _UVICORN.format("litestar_app")),
    Peer("aiohttp-session {}", "aiohttp-session", "aiohttp-session", "bench.field.apps.aiohttp_session_app {port}"),
    Peer("fastapi-redis-sdk {}", "fastapi-redis-sdk", "fastapi-redis-sdk", _UVICORN.format("redis_sdk_app")),
    Peer(
        "fastapi-redis-sdk {}, `fail_closed`",
        "fastapi-redis-sdk",
        "fastapi-redis-sdk",
        _UVICORN.format("redis_sdk_app"),
        "fail closed",
    ),
)
