"""The processes of the demo: three servers, each a process group on a unix socket of its own, and the store.

Servers are ended by the process id that they were started with, never by name. Nothing of theirs outlives
`Fleet`, nor a demo that is itself killed: see `demo.leash`.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from coatcheck.runtime.embedded import Embedded

ROOT: Final = Path(__file__).parents[1]
READY_SECONDS: Final = 20.0
STOP_SECONDS: Final = 5.0

_LEASH: Final = (sys.executable, str(Path(__file__).with_name("leash.py")), sys.executable, "-m")
_GUNICORN: Final = ("--workers", "2", "--threads", "4", "--graceful-timeout", "2", "--no-control-socket")
_UVICORN: Final = ("--workers", "2", "--timeout-graceful-shutdown", "2", "--no-access-log")
_TICK: Final = 0.05
_REPLY_SECONDS: Final = 2.0


class StartFailed(Exception):
    """A server did not come up; the text ends with the last lines of its log."""


class Server:
    """One framework's server, with two workers."""

    def __init__(self, framework: str, program: str, arguments: tuple[str, ...], folder: Path) -> None:
        """Describe it; nothing runs yet. folder: where its socket and its log are."""
        self.framework = framework
        self.program = program
        self.socket = folder / f"{framework.lower()}.sock"
        self.log = folder / f"{framework.lower()}.log"
        self.is_ready = False
        self.answered = 0
        self._command = (*_LEASH, *(argument.format(socket=self.socket) for argument in arguments))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of its master; None while it is not running."""
        return None if self._process is None else self._process.pid

    @property
    def status(self) -> str:
        """What the page shows: running, starting or down."""
        if self.pid is None:
            return "down"
        return "running" if self.is_ready else "starting"

    def start(self, environment: dict[str, str]) -> None:
        """Start it, unless it runs. It is ready some time later: see `notice`."""
        if self._process is not None:
            return
        self.socket.unlink(missing_ok=True)  # a killed server leaves it
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,  # the leash
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends its servers in order
            )

    async def notice(self) -> None:
        """Find out whether it has ended, or is ready."""
        if self._process is not None and self._process.poll() is not None:
            self._forget()
        elif self._process is not None and not self.is_ready:
            self.is_ready = await _answers(self.socket) and self._process is not None

    def kill(self) -> None:
        """End it with kill -9, its workers too: no warning, no chance to save anything."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._forget()

    async def stop(self) -> None:
        """Ask it to end; insist after a few seconds."""
        if self._process is None or self._process.stdin is None:
            return
        self.is_ready = False
        self._process.stdin.close()
        deadline = time.monotonic() + STOP_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110  it ends without an event
            await asyncio.sleep(_TICK)
        if self._process.returncode is None:
            self.kill()
        self._forget()

    def last_words(self) -> str:
        """Give the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:]) if self.log.exists() else ""

    def _forget(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process, self.is_ready = None, False


class Store:
    """The embedded Valkey. All servers share it; this process keeps a seat too, so that it outlives any of them."""

    def __init__(self, folder: Path) -> None:
        """Name its folder; nothing runs yet."""
        self.folder = folder
        self._embedded = Embedded(folder)
        self._socket = ""

    def start(self) -> dict[str, str]:
        """Start it, and say by which environment variables the servers find it and share its key."""
        self._socket = self._embedded.socket()
        return {"COATCHECK_URL": f"embedded://{quote(str(self.folder))}", "COATCHECK_KEYS": self._embedded.keys()}

    def pid(self) -> int | None:
        """Ask it for its process id; None while it does not answer."""
        try:
            once = Retry(NoBackoff(), 0)
            with redis.Redis(unix_socket_path=self._socket, socket_timeout=_REPLY_SECONDS, retry=once) as client:
                return int(client.info("server")["process_id"])
        except redis.RedisError:
            return None

    def kill(self) -> None:
        """End it with kill -9. Its guard, or whoever needs it next, starts it again."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Leave it; unless others use it too, wait until it has ended."""
        self._embedded.leave()
        deadline = time.monotonic() + STOP_SECONDS
        while self._socket and await asyncio.to_thread(self.pid) and time.monotonic() < deadline:  # noqa: ASYNC110  it ends without an event
            await asyncio.sleep(_TICK)


class Fleet:
    """The store and the three servers, as long as the ``async with`` lasts."""

    def __init__(self, data: Path, run: Path) -> None:
        """Keep the sessions in *data*, sockets and logs in *run*, a private folder with a short path."""
        self.store = Store(data)
        self.servers = (
            Server("FastAPI", "uvicorn", ("uvicorn", "demo.fastapi_app:app", "--uds", "{socket}", *_UVICORN), run),
            Server("Flask", "gunicorn", ("gunicorn", "demo.flask_app:app", "--bind", "unix:{socket}", *_GUNICORN), run),
            Server(
                "Django", "gunicorn", ("gunicorn", "demo.django_app:app", "--bind", "unix:{socket}", *_GUNICORN), run
            ),
        )
        self._environment: dict[str, str] = {}
        self._watch: asyncio.Task[None] | None = None
        self._turn = 0

    async def __aenter__(self) -> Self:
        """Start everything. Raises StartFailed, and coatcheck's own errors."""
        try:
            inherited = {name: value for name, value in os.environ.items() if not name.startswith("COATCHECK_")}
            self._environment = {**inherited, **await asyncio.to_thread(self.store.start), "PYTHONUNBUFFERED": "1"}
            for server in self.servers:
                server.start(self._environment)
            for server in self.servers:
                await self._wait_for(server)
        except BaseException:
            await self.__aexit__()
            raise
        self._watch = asyncio.create_task(self._keep_watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End everything, the store last."""
        if self._watch is not None:
            self._watch.cancel()
        await asyncio.gather(*(server.stop() for server in self.servers))
        await self.store.stop()

    def turn(self) -> list[Server]:
        """List the servers that run, each time beginning with another one."""
        ready = [server for server in self.servers if server.is_ready]
        self._turn += 1
        first = self._turn % len(ready) if ready else 0
        return ready[first:] + ready[:first]

    def named(self, framework: str) -> Server | None:
        """Find the server of *framework*."""
        return next((server for server in self.servers if server.framework == framework), None)

    def restart(self, server: Server) -> None:
        """Start a server that is down."""
        server.start(self._environment)

    async def report(self) -> dict[str, Any]:
        """Say how everything is, for the page."""
        return {
            "servers": [
                {
                    "framework": server.framework,
                    "program": server.program,
                    "status": server.status,
                    "pid": server.pid,
                    "answered": server.answered,
                }
                for server in self.servers
            ],
            "store": {"pid": await asyncio.to_thread(self.store.pid)},
        }

    async def _wait_for(self, server: Server) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not server.is_ready:
            await server.notice()
            if server.pid is None:
                raise StartFailed(f"the {server.framework} server has ended:\n{server.last_words()}")
            if time.monotonic() > deadline:
                raise StartFailed(f"the {server.framework} server is not ready:\n{server.last_words()}")
            await asyncio.sleep(_TICK)

    async def _keep_watch(self) -> None:
        while True:
            await asyncio.gather(*(server.notice() for server in self.servers))
            await asyncio.sleep(_TICK * 4)


async def _answers(socket: Path) -> bool:
    """Say whether a server answers a request at *socket*."""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_REPLY_SECONDS):
            reader, writer = await asyncio.open_unix_connection(socket)
            writer.write(b"GET /page/style.css HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            first = await reader.readline()
            writer.close()
            return b" 200 " in first
    return False
