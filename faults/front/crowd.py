"""The users: HTTP clients that keep their cookies, and notice when something is wrong."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from tests.frameworks.served import HEADER

_PAUSE: Final = 0.02  # seconds between two rounds of a user
_TRIES: Final = 100
_OK: Final = 200
_UNAVAILABLE: Final = 503


@dataclass(slots=True)
class Tally:
    """What all users have met; instants are those of `time.monotonic`."""

    good: int = 0
    refused: list[float] = field(default_factory=list)
    """When somebody met a 503 with Retry-After."""
    logouts: list[str] = field(default_factory=list)
    """Answers that took somebody's cookie, or treated somebody signed in as anonymous."""
    wrong: list[str] = field(default_factory=list)
    """Other answers that should not be."""
    writes: int = 0
    lost_writes: list[float] = field(default_factory=list)
    """When those writes were acknowledged that a later read did not find."""
    workers: set[str] = field(default_factory=set)
    answers: list[tuple[float, float]] = field(default_factory=list)
    """When each answer came, and after how many seconds."""


class User:
    """Somebody with a browser."""

    def __init__(self, name: str, url: str, transport: httpx.AsyncBaseTransport, tally: Tally) -> None:
        """Begin without a cookie. The connections of *transport* may be shared, the cookies are not."""
        self.name: Final = name
        self.rounds = 0
        """How often it has read and written with success, both in turn."""
        self.signed_in_at: float | None = None
        self._client: Final = httpx.AsyncClient(base_url=url, transport=transport, timeout=20, trust_env=False)
        self._tally: Final = tally
        self._cookies: dict[str, str] | None = None
        self._step = 0
        self._acknowledged: list[tuple[int, float]] = []

    async def sign_in(self) -> bool:
        """Try to sign in; say whether that was acknowledged."""
        if await self._send("POST", "/login", user=self.name, device="laptop") is None:
            return False
        self.signed_in_at = time.monotonic()
        self._cookies = dict(self._client.cookies)
        return True

    async def browse(self, stop: asyncio.Event) -> None:
        """Read, write and pause until *stop* is set."""
        while not stop.is_set():
            is_read, is_written = await self.read(), await self._write()
            self.rounds += is_read and is_written
            await asyncio.sleep(_PAUSE)

    async def read(self) -> bool:
        """Read the session; say whether the page came. Somebody signed in has to be known."""
        page = await self._send("GET", "/read")
        if page is None:
            return False
        seen = page["attributes"].get("user_id")
        if seen is None:
            self._tally.logouts.append(f"{self.name} is anonymous")
        elif seen != self.name:
            self._tally.wrong.append(f"{self.name} is shown the session of {seen}")
        else:
            self._compare(int(page["attributes"].get("step", 0)))
        return True

    async def is_known(self) -> bool:
        """Say whether the session that was signed in to is there; a 503 says nothing about that."""
        for _ in range(_TRIES):
            page = await self._send("GET", "/read")
            if page is not None:
                return page["attributes"].get("user_id") == self.name
            await asyncio.sleep(_PAUSE)
        return False

    async def _write(self) -> bool:
        self._step += 1
        if await self._send("POST", "/set", name="step", value=str(self._step)) is None:
            return False
        self._acknowledged.append((self._step, time.monotonic()))
        self._tally.writes += 1
        return True

    def _compare(self, stored: int) -> None:
        """Find the acknowledged writes that *stored*, the number of the last one there is, has not got."""
        while self._acknowledged and self._acknowledged[-1][0] > stored:
            self._tally.lost_writes.append(self._acknowledged.pop()[1])

    async def _send(self, method: str, path: str, **query: str) -> Any:
        """Send a request and judge the answer; give its content, None where there is no page."""
        began = time.monotonic()
        try:
            response = await self._client.request(method, path, params=query)
        except httpx.TransportError as error:
            self._tally.wrong.append(f"{method} {path}: {error!r}")
            return None
        now = time.monotonic()
        self._tally.answers.append((now, now - began))
        if self._cookies is not None and dict(self._client.cookies) != self._cookies:
            self._tally.logouts.append(f"{self.name} has another cookie after {method} {path}")
            self._cookies = dict(self._client.cookies)
        if response.status_code == _UNAVAILABLE and "retry-after" in response.headers:
            self._tally.refused.append(now)
            return None
        if response.status_code != _OK:
            self._tally.wrong.append(f"{method} {path}: {response.status_code} {response.text[:200]}")
            return None
        self._tally.good += 1
        self._tally.workers.add(response.headers[HEADER])
        return response.json()


async def sign_in_others(make: Callable[[str], User], stop: asyncio.Event) -> list[User]:
    """Let one new user after the other sign in until *stop* is set; give those whose sign-in was acknowledged."""
    found: list[User] = []
    number = 0
    while not stop.is_set():
        number += 1
        newcomer = make(f"newcomer {number}")
        if await newcomer.sign_in():
            found.append(newcomer)
        await asyncio.sleep(5 * _PAUSE)
    return found
