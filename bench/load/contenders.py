"""The contenders: what is served how, in which environment."""

import json
import re
from dataclasses import dataclass
from typing import Final

from bench.field.stage import ROOT

_UVICORN: Final = (
    "-m uvicorn --no-access-log --log-level warning --loop uvloop --http httptools --port {{port}} "
    "bench.load.apps.{}:app"
)
_GUNICORN: Final = "-m gunicorn --threads 8 --bind 127.0.0.1:{{port}} bench.load.apps.{}:app"
_EXPRESS: Final = ROOT / "bench" / "load" / "express"
_DJANGO_CACHE: Final = "django.core.cache.backends.redis.RedisCache"
_DJANGO_REDIS: Final = "django_redis.cache.RedisCache"


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to serve the three paths.

    group: what is compared with what; it has one contender named "bare". package: whose version the title says.
    command: after the interpreter, with {port}. variant: LOAD_VARIANT of the app.
    """

    group: str
    name: str
    command: str
    variant: str
    package: str = ""
    lock: str = "bench"
    form: str = ""

    @property
    def is_bare(self) -> bool:
        """Whether it has no sessions."""
        return self.name == "bare"

    @property
    def is_ours(self) -> bool:
        """Whether it is coatcheck."""
        return self.name.startswith("coatcheck")

    @property
    def is_asynchronous(self) -> bool:
        """Whether it serves as many requests at once as there are connections."""
        return self.form != "wsgi"

    @property
    def needs_database(self) -> bool:
        """Whether it keeps sessions in PostgreSQL."""
        return "db" in self.variant.split(" ")[0]

    @property
    def interpreter(self) -> str:
        """Name the program that runs *command*."""
        return "node" if self.lock == "express" else str(ROOT / f".venv-{_ENVIRONMENTS[self.lock]}" / "bin" / "python")

    @property
    def title(self) -> str:
        """Name it with its version."""
        if not self.package:
            return self.name
        if self.lock == "express":
            packages = json.loads((_EXPRESS / "package-lock.json").read_text())["packages"]
            return f"{self.name} {packages[f'node_modules/{self.package}']['version']}"
        lock = (ROOT / "bench" / "load" / "locks" / f"{self.lock}.txt").read_text()
        found = re.search(rf"^{re.escape(self.package)}==(\S+)", lock, re.MULTILINE)
        return f"{self.name} {found[1] if found else '?'}"


_ENVIRONMENTS: Final = {"bench": "bench", "litestar": "bench-litestar"}


def _asgi(group: str, app: str, *peers: tuple[str, str, str]) -> list[Contender]:
    command = _UVICORN.format(app)
    return [
        Contender(group, "bare", command, "bare", form="asgi"),
        *(Contender(group, name, command, variant, package, form="asgi") for name, variant, package in peers),
        Contender(group, "coatcheck", command, "coatcheck", form="asgi"),
        Contender(group, "coatcheck + near cache", command, "coatcheck near", form="asgi"),
    ]


def _wsgi(group: str, app: str, *peers: tuple[str, str, str]) -> list[Contender]:
    command = _GUNICORN.format(app)
    return [
        Contender(group, "bare", command, "bare", form="wsgi"),
        *(Contender(group, name, command, variant, package, form="wsgi") for name, variant, package in peers),
        Contender(group, "coatcheck", command, "coatcheck", form="wsgi"),
        Contender(group, "coatcheck + near cache", command, "coatcheck near", form="wsgi"),
    ]


_DJANGO_PEERS: Final = (
    ("Django `cache`", f"cache on {_DJANGO_CACHE}", "django"),
    ("Django `cache` on django-redis", f"cache on {_DJANGO_REDIS}", "django-redis"),
    ("Django `cached_db`", f"cached_db on {_DJANGO_CACHE}", "django"),
    ("Django `db`, PostgreSQL", "db", "django"),
)
_LEAST: Final = (("the least, which promises nothing", "least", ""), ("the least, kept in memory", "least, kept", ""))
_AIOHTTP: Final = "-m bench.load.apps.aiohttp_app {port}"

CONTENDERS: Final = (
    *_asgi("Starlette", "starlette_app", ("starsessions", "starsessions", "starsessions"), *_LEAST),
    *_asgi("FastAPI", "fastapi_app", ("fastapi-redis-sdk", "fastapi-redis-sdk", "fastapi-redis-sdk"), *_LEAST),
    *_asgi("Litestar", "litestar_app", *_LEAST),
    Contender(
        "Litestar", "Litestar `RedisStore`", _UVICORN.format("litestar_app"), "own", "litestar", "litestar", "asgi"
    ),
    Contender("aiohttp", "bare", _AIOHTTP, "bare"),
    Contender("aiohttp", "aiohttp-session", _AIOHTTP, "aiohttp-session", "aiohttp-session"),
    Contender("aiohttp", "coatcheck", _AIOHTTP, "coatcheck"),
    *_wsgi("Flask", "flask_app", ("Flask-Session", "flask-session", "flask-session")),
    *_wsgi("Django WSGI", "django_app", *_DJANGO_PEERS),
    *_asgi("Django ASGI", "django_app", *_DJANGO_PEERS[:2]),
    Contender("Express", "bare", "bench/load/express/app.js {port}", "bare", "", "express"),
    Contender("Express", "connect-redis", "bench/load/express/app.js {port}", "peer", "connect-redis", "express"),
)
