"""Where the CPU of a request goes inside an asyncio application: `python -m bench.inside`.

Starlette serves 32 requests at a time over 1,000 sessions in this process, without an HTTP server, from a Valkey server
of its own. For each page: the CPU time of the application for a request, the calls of functions (counted by cProfile,
built-in ones too), and, where perf is installed and may be used, in which libraries the CPU was.
"""

import argparse
import asyncio
import cProfile
import logging
import os
import pstats
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import uvloop

import coatcheck
from coatcheck.runtime.local.settings import Kind
from coatcheck.runtime.local.topology import LocalTopology

_SESSIONS: Final = 1000
_TOGETHER: Final = 32
_PAGES: Final = (("bare", "/read"), ("coatcheck near", "/read"), ("coatcheck", "/read"), ("coatcheck", "/write"))
_LIBRARIES: Final = (
    (re.compile(r"python3|libpython"), "CPython"),
    (re.compile(r"kernel|vdso"), "kernel"),
    (re.compile(r"libc\.so"), "libc"),
    (re.compile(r"_rust|libcrypto"), "cryptography"),
    (re.compile(r"backend_c|_core|binascii|_hashlib"), "Zstandard, msgspec, Base64, SHA-256"),
    (re.compile(r"hiredis|loop|_asyncio"), "hiredis, uvloop, asyncio"),
)
"""The names of shared objects, and what they are told as."""


@dataclass(frozen=True, slots=True)
class Inside:
    """Of a request: microseconds of CPU (median of the rounds), calls of functions, percent of the CPU by library."""

    microseconds: float
    calls: float
    libraries: Counter[str]


class Application:
    """The application of `bench.load`, asked without a server."""

    def __init__(self) -> None:
        """Load the variant that the environment names."""
        self._app = import_module("bench.load.apps.starlette_app").app
        self._cookies: list[bytes] = []

    async def fill(self) -> None:
        """Make the sessions."""
        for _ in range(_SESSIONS):
            headers = await self._ask("/fill", b"")
            self._cookies.append(headers.get(b"set-cookie", b"none=1").split(b";")[0])

    async def round(self, page: str) -> None:
        """Ask for *page* with each of the cookies."""
        left = iter(self._cookies)

        async def one_after_another() -> None:
            for cookie in left:
                await self._ask(page, cookie)

        await asyncio.gather(*(one_after_another() for _ in range(_TOGETHER)))

    async def _ask(self, page: str, cookie: bytes) -> dict[bytes, bytes]:
        answer: dict[str, Any] = {}
        scope = {
            "type": "http",
            "method": "GET",
            "scheme": "https",
            "path": page,
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"127.0.0.1:8000"), (b"cookie", cookie)],
            "client": ("127.0.0.1", 1234),
        }

        async def send(message: dict[str, Any]) -> None:
            answer.update(message)

        await self._app(scope, _nothing, send)
        if answer["status"] != 200:  # noqa: PLR2004
            raise RuntimeError(f"{page} was answered with {answer['status']}")
        return dict(answer["headers"])


async def _nothing() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _look_inside(page: str, rounds: int) -> Inside:
    application = Application()
    await application.fill()
    for _ in range(2):  # the near cache of a process begins empty
        await application.round(page)
    found = []
    for _ in range(rounds):
        began = time.process_time()
        await application.round(page)
        found.append((time.process_time() - began) / _SESSIONS * 1e6)
    calls = await _counted(lambda: application.round(page))
    libraries = await _sampled(lambda: application.round(page), rounds)
    return Inside(statistics.median(found), calls, libraries)


async def _counted(ask: Callable[[], Awaitable[None]]) -> float:
    profile = cProfile.Profile()
    profile.enable()
    await ask()
    profile.disable()
    own = {"_ask", "send", "one_after_another", "_nothing"}
    stats: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]  # no public way to them
    return sum(count for (_, _, name), (_, count, *_) in stats.items() if name not in own) / _SESSIONS


async def _sampled(ask: Callable[[], Awaitable[None]], rounds: int) -> Counter[str]:
    """Have perf look where the process is 1,000 times a second, and sort that by library."""
    if shutil.which("perf") is None:
        return Counter()
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder) / "perf.data")
        options = ("perf", "record", "-q", "-F", "1000", "-o", data, "-p", str(os.getpid()))
        perf = subprocess.Popen(options, stderr=subprocess.DEVNULL)  # noqa: ASYNC220  it is measured
        await asyncio.sleep(1)
        for _ in range(rounds):
            await ask()
        perf.terminate()
        perf.wait()
        options = ("perf", "report", "-i", data, "--sort", "dso", "-q")
        report = subprocess.run(options, capture_output=True, text=True, check=False).stdout  # noqa: ASYNC221
    found: Counter[str] = Counter()
    for percent, name in re.findall(r"([0-9.]+)%\s+(\S+)", report):
        known = (told for pattern, told in _LIBRARIES if pattern.search(name))
        found[next(known, "other")] += float(percent)
    return found


def _main() -> None:
    parser = argparse.ArgumentParser(prog="bench.inside", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="rounds of 1,000 requests (20)")
    parser.add_argument("--page", nargs=2, metavar=("VARIANT", "PATH"), help="one of them, in this process")
    given = parser.parse_args()
    if given.page:
        variant, page = given.page
        logging.disable(logging.WARNING)  # the server goes before the near cache does
        with LocalTopology(Kind.SINGLE) as topology:
            os.environ.update(LOAD_STORE=topology.url, LOAD_VARIANT=variant, COATCHECK_KEYS=coatcheck.new_key())
            os.environ.setdefault("COATCHECK_DEADLINE", "5")
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                seen = runner.run(_look_inside(page, given.rounds))
        libraries = ", ".join(f"{name} {percent:.0f}" for name, percent in seen.libraries.most_common()) or "no perf"
        print(f"| {variant} {page} | {seen.microseconds:.0f} | {seen.calls:.0f} | {libraries} |")
        return
    print("| page | CPU us | calls | % of the CPU in |\n| --- | ---: | ---: | --- |", flush=True)
    for page in _PAGES:
        own = (sys.executable, "-W", "ignore", "-m", "bench.inside", "--rounds", str(given.rounds), "--page", *page)
        subprocess.run(own, check=True)


if __name__ == "__main__":
    _main()
