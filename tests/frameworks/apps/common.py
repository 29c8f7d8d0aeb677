"""What the test apps have in common: policies, values to store, mapping methods, the gate to wait at, long answers."""

import asyncio
import os
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from coatcheck import ClientPolicy, CookiePolicy, NearCache, OnChange, SessionPolicy, SourcePolicy
from tests.waiting import a_wait_until, wait_until

_limit = os.environ.get("COATCHECK_TEST_LIMIT")
_near = os.environ.get("COATCHECK_TEST_NEAR")

SOURCE_LIMIT = 20

HTTPS = os.environ.get("COATCHECK_TEST_HTTPS") == "1"
POLICY = SessionPolicy(
    subject_attribute="user_id",
    listed=("device",),
    limit=int(_limit) if _limit else None,
    client=ClientPolicy(user_agent=OnChange.END, address=OnChange.STEP_UP) if HTTPS else None,
    sources=SourcePolicy(creations=SOURCE_LIMIT, unknown=SOURCE_LIMIT) if HTTPS else None,
    near_cache=NearCache(staleness=timedelta(milliseconds=int(_near))) if _near else None,
)
OPEN = SessionPolicy(subject_attribute="user_id", limit=2)  # of the apps with connections that stay open
COOKIE = CookiePolicy(development=not HTTPS)

TYPES = {
    "datetime": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "naive": datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001  a naive one is what is meant
    "date": date(2026, 1, 2),
    "decimal": Decimal("1.10"),
    "uuid": UUID(int=7),
    "bytes": b"\x00\xff",
    "set": {1, 2},
    "tuple": (1, "a"),
    "none": None,
    "nested": {"l": [1, {"x": (1, 2)}]},
}

METHODS = {
    "getitem": lambda session: session["a"],
    "get": lambda session: session.get("a"),
    "contains": lambda session: "a" in session,
    "iter": lambda session: list(iter(session)),
    "len": len,
    "keys": lambda session: list(session.keys()),
    "items": lambda session: list(session.items()),
    "values": lambda session: list(session.values()),
    "setitem": lambda session: session.__setitem__("a", "2"),
    "delitem": lambda session: session.__delitem__("a"),
    "pop": lambda session: session.pop("a"),
    "popitem": lambda session: session.popitem(),
    "setdefault": lambda session: session.setdefault("b", "2"),
    "update": lambda session: session.update(a="2"),
    "clear": lambda session: session.clear(),
    "bool": bool,
    "eq": lambda session: session == {"a": "1"},
}


def shown(types):
    """Give the values of TYPES in a form that JSON can carry and tests can compare."""
    return {name: repr(sorted(value) if isinstance(value, set) else value) for name, value in types.items()}


def wait_at(gate):
    """Say that the request has got to the folder *gate*, and wait until it may go on."""
    (Path(gate) / "started").touch()
    wait_until((Path(gate) / "go").exists, "somebody opens the gate")


async def a_wait_at(gate):
    """Do as `wait_at`, letting other requests run."""
    (Path(gate) / "started").touch()
    await a_wait_until((Path(gate) / "go").exists, "somebody opens the gate")


async def ticks():
    """Give a server that pushes something to send, a hundred times a second; no test measures by it."""
    while True:
        await asyncio.sleep(0.01)
        yield "tick"


async def open_stream(seen):
    """Give what an event stream begins with, then nothing for ever; note in *seen* when it has been ended."""
    try:
        yield "data: open\n\n"
        await asyncio.Event().wait()
    finally:
        seen.append("stream ended")
