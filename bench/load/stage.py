"""What the load needs: a store and applications on their cores, cookies, wrk."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx
import redis

import coatcheck
from bench.field.stage import ROOT, end, free_port, until
from bench.load.contenders import Contender
from bench.load.content import SESSION
from bench.load.database import Database
from coatcheck.runtime._embedded_host import find_server

SESSIONS: Final = 1000
APP_CORE: Final = "0"
STORE_CORE: Final = "1"
_SCRIPT: Final = Path(__file__).with_name("wrk.lua")


class Store:
    """A Valkey server that keeps everything in memory, on the store's core; beside it a *database*, or none."""

    def __init__(self, folder: Path, database: Database | None = None) -> None:
        """Name its folder; start nothing."""
        self.folder = folder
        self.database = database
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Store"]:
        """Run it."""
        options = ("--port", str(self.port), "--dir", self.folder, "--save", "", "--appendonly", "no")
        process = await asyncio.create_subprocess_exec(
            "taskset", "-c", STORE_CORE, find_server(), *options, stdout=asyncio.subprocess.DEVNULL
        )

        async def answers() -> bool:
            with suppress(redis.RedisError):
                return bool(self.client.ping())
            return False

        try:
            await until(answers)
            yield self
        finally:
            process.kill()
            await process.wait()

    @property
    def counters(self) -> "Counters":
        """Read the server's own counters."""
        cpu, stats = self.client.info("cpu"), self.client.info("stats")
        of_database = self.database.cpu if self.database else 0.0
        return Counters(cpu["used_cpu_user"] + cpu["used_cpu_sys"] + of_database, stats["total_commands_processed"])

    @property
    def version(self) -> str:
        """Name it with its version."""
        server = self.client.info("server")
        return f"{server.get('server_name', 'redis').title()} {server.get('valkey_version', server['redis_version'])}"


@dataclass(frozen=True, slots=True)
class Counters:
    """Seconds of CPU of a store and its database, and commands of the store, up to now."""

    cpu: float
    commands: int


@dataclass(frozen=True, slots=True)
class Measure:
    """One run of wrk.

    rate: answered requests a second; failed: share of those that were not. p50, p99: ms. store_cpu: microseconds of the
    store a request; commands: of the store a request. kept: share of the increments, where one session is written.
    """

    seconds: float
    rate: float
    failed: float
    p50: float
    p99: float
    store_cpu: float
    commands: float
    kept: float = 1.0


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that serves."""

    contender: Contender
    url: str
    cookies: Path


@asynccontextmanager
async def serving(contenders: list[Contender], store: Store) -> AsyncIterator[list[Running]]:
    """Run all *contenders* at once, each with SESSIONS sessions; idle ones cost next to nothing."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(_serving(contender, store)) for contender in contenders]


@asynccontextmanager
async def _serving(contender: Contender, store: Store) -> AsyncIterator[Running]:
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "COATCHECK_DEADLINE": os.environ.get("COATCHECK_DEADLINE", ""),  # longer, for a machine that is busy
        "COATCHECK_KEYS": coatcheck.new_key(),
        "LOAD_CONTENT": str(store.folder / "content.json"),
        "LOAD_DATABASE": store.database.address if store.database else "",
        "LOAD_FORM": contender.form,
        "LOAD_STORE": store.url,
        "LOAD_VARIANT": contender.variant,
    }
    (store.folder / "content.json").write_text(json.dumps(SESSION))
    program = ("taskset", "-c", APP_CORE, contender.interpreter, *contender.command.format(port=port).split())
    log = store.folder / f"{port}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *program, cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    try:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:

            async def serves() -> bool:
                if process.returncode is not None:
                    sys.exit(f"{contender.group}, {contender.title} has ended:\n{log.read_text()}")
                with suppress(httpx.TransportError):
                    return (await client.get("/fill")).is_success
                return False

            await until(serves)
            cookies = [await _cookie(client) for _ in range(1 if contender.is_bare else SESSIONS)]
        path = store.folder / f"cookies-{port}"
        path.write_text("".join(f"{cookie}\n" for cookie in cookies))
        yield Running(contender, url, path)
    finally:
        await end(process)


async def one_session(running: Running, store: Store, *, seconds: int, connections: int) -> Measure:
    """Let all connections write one session; the measure says which share of the increments was kept."""
    async with httpx.AsyncClient(base_url=running.url, timeout=30) as client:
        cookie = await _cookie(client)
        path = store.folder / "cookie"
        path.write_text(cookie + "\n")
        measure = await load(replace(running, cookies=path), "/write", store, seconds=seconds, connections=connections)
        hits = await _get(client, "/hits", cookie)
    # those under way at the end are in the session, and wrk has not counted them
    return replace(measure, kept=min(1.0, int(hits.text) / max(1.0, measure.rate * measure.seconds)))


async def _cookie(client: httpx.AsyncClient) -> str:
    response = await _get(client, "/fill")
    return "; ".join(header.partition(";")[0] for header in response.headers.get_list("set-cookie")) or "none=1"


async def _get(client: httpx.AsyncClient, path: str, cookie: str = "") -> httpx.Response:
    """Ask until the answer is good: on a machine that does much else, a deadline may pass. Raises TimeoutError."""
    answers: list[httpx.Response] = []
    headers = {"X-Forwarded-Proto": "https", **({"Cookie": cookie} if cookie else {})}

    async def is_good() -> bool:
        client.cookies.clear()
        answers.append(await client.get(path, headers=headers))
        return answers[-1].is_success

    await until(is_good)
    client.cookies.clear()
    return answers[-1]


async def load(running: Running, path: str, store: Store, *, seconds: int, connections: int) -> Measure:
    """Let wrk ask for *path* with all cookies in turn."""
    before = store.counters
    command = ("taskset", "-c", STORE_CORE, "wrk", "-t", "1", "-c", connections, "-d", f"{seconds}s", "--timeout", "5s")
    process = await asyncio.create_subprocess_exec(
        *map(str, (*command, "-s", _SCRIPT, running.url + path)),
        env={"PATH": os.environ["PATH"], "LOAD_COOKIES": str(running.cookies)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    after = store.counters
    found = re.search(rb"^RESULT (.+)$", output, re.MULTILINE)
    if process.returncode or not found:
        sys.exit(f"wrk failed on {running.contender.title}:\n{output.decode()}\n{errors.decode()}")
    result: dict[str, Any] = json.loads(found[1])
    requests = result["requests"]
    failed = result["status"] + result["timeout"] + result["connect"] + result["read"] + result["write"]
    return Measure(
        seconds=result["duration"] / 1e6,
        rate=(requests - result["status"]) / (result["duration"] / 1e6),
        failed=failed / max(1, requests),
        p50=result["p50"] / 1000,
        p99=result["p99"] / 1000,
        store_cpu=(after.cpu - before.cpu) * 1e6 / max(1, requests),
        commands=(after.commands - before.commands) / max(1, requests),
    )
