"""The test app of every framework as real worker processes on a free port, and browsers to visit them.

A new framework is a row in FRAMEWORKS and a file in apps/.
"""

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import redis

import coatcheck
from coatcheck.runtime._embedded_host import find_server
from tests import near_mode
from tests.fix_store import Server
from tests.frameworks.served import HEADER
from tests.waiting import PATIENCE_SECONDS, wait_until

WORKERS = 2

_APPS = Path(__file__).parent / "apps"
_ROOT = Path(__file__).parents[2]
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # to make one for each client takes long, and none is used

# To the store: redis-py's Connection, or a unix socket with a peer. Servers leave sockets of their own open.
_OPEN_CONNECTION = re.compile(r"unclosed (Connection|<socket.* raddr=[^(])")

_UVICORN = (
    *("uvicorn", "tests.frameworks.served:asgi", "--factory", "--workers", "{workers}"),
    *("--timeout-keep-alive", "120", "--log-level", "warning", "--fd", "{fd}"),
)
_GUNICORN = (
    *("gunicorn", "--workers", "{workers}", "--keep-alive", "120", "--graceful-timeout", "1"),
    *("--no-control-socket", "--log-level", "warning", "--bind", "fd://{fd}"),
)
_WSGI = (*_GUNICORN, "--threads", "8", "tests.frameworks.served:wsgi()")
_AIOHTTP = (*_GUNICORN, "--worker-class", "aiohttp.GunicornWebWorker", "tests.frameworks.served:aiohttp()")


@dataclass(frozen=True, slots=True)
class Framework:
    """How a framework's test app is served, and what its own rules make differ.

    app: module and name in apps/.
    loads_ahead: a valid-looking cookie costs a round trip on every route.
    saves_on_error: its error page is a response like any other, and the session is saved with it.
    """

    name: str
    app: str
    command: tuple[str, ...]
    loads_ahead: bool = False
    saves_on_error: bool = False

    @property
    def exists(self) -> bool:
        """Whether its app has been written."""
        return (_APPS / f"{self.app.partition(':')[0]}.py").exists()


FRAMEWORKS = {
    framework.name: framework
    for framework in (
        Framework("starlette", "starlette_app:app", _UVICORN, loads_ahead=True),
        Framework("fastapi", "fastapi_app:app", _UVICORN),
        Framework("flask", "flask_app:app", _WSGI, saves_on_error=True),
        Framework("django-wsgi", "django_app:wsgi", _WSGI),
        Framework("django-asgi", "django_app:asgi", _UVICORN),
        Framework("litestar", "litestar_app:app", _UVICORN, saves_on_error=True),
        Framework("aiohttp", "aiohttp_app:app", _AIOHTTP),
    )
    if framework.exists
}


class Browser:
    """Somebody's browser: it keeps the session's cookie, and its connection, which leads to one worker."""

    def __init__(self, url: str, cookie: str = "", *, https: bool = False, address: str | None = None) -> None:
        """Visit the app at *url*. cookie: a Cookie header to begin with. https: as a proxy would report it.

        address: of this machine, to come from (127.0.1.1).
        """
        self.cookie = cookie
        self._url = url
        self._address = address
        self._headers = {"X-Forwarded-Proto": "https"} if https else {}
        # A client for each request under way: threads that share one now and then close each other's connections.
        self._idle = [self._client()]

    def get(self, path: str, **params: object) -> httpx.Response:
        """Follow a link."""
        return self.request("GET", path, params=params)

    def post(self, path: str, **params: object) -> httpx.Response:
        """Send a form."""
        return self.request("POST", path, params=params)

    def request(self, method: str, path: str, **options: object) -> httpx.Response:
        """Send a request with the cookie, keep the one that comes back."""
        headers = [*dict(options.pop("headers", {})).items()]
        if self.cookie:
            headers.append(("Cookie", self.cookie))
        try:
            http = self._idle.pop()
        except IndexError:
            http = self._client()
        try:
            response = http.request(method, path, headers=headers, **options)
            http.cookies.clear()
        finally:
            self._idle.append(http)
        for line in response.headers.get_list("set-cookie"):
            pair, _, attributes = line.partition(";")
            self.cookie = "" if "max-age=0" in attributes.lower() else pair
        return response

    @property
    def identifier(self) -> str:
        """The value of the cookie."""
        return self.cookie.partition("=")[2]

    @property
    def attributes(self) -> dict[str, object]:
        """What the app says the session holds."""
        return self._read()["attributes"]

    @property
    def handle(self) -> str | None:
        """The handle that the app says the session has."""
        return self._read()["handle"]

    def close(self) -> None:
        """Close the connections."""
        while self._idle:
            self._idle.pop().close()

    def _client(self) -> httpx.Client:
        transport = httpx.HTTPTransport(verify=_NO_TLS, trust_env=False, local_address=self._address)
        return httpx.Client(base_url=self._url, headers=self._headers, transport=transport, trust_env=False, timeout=20)

    def _read(self) -> dict[str, object]:
        response = self.get("/read")
        assert response.status_code == 200, response.text
        return response.json()


@dataclass(slots=True)
class App:
    """A running app, and the store that it uses."""

    framework: Framework
    url: str
    store: Server
    key: str
    https: bool
    _browsers: list[Browser] = field(default_factory=list)

    def browser(self, cookie: str = "", *, url: str | None = None, address: str | None = None) -> Browser:
        """Open another browser, here or at another *url*; the end of the test closes it. address: to come from."""
        self._browsers.append(Browser(url or self.url, cookie, https=self.https, address=address))
        return self._browsers[-1]

    def signed_in(self, user: str = "ada", device: str = "laptop") -> Browser:
        """Open a browser and sign *user* in."""
        browser = self.browser()
        assert browser.post("/login", user=user, device=device).json() == {"ok": True}
        return browser

    def workers(self, cookie: str = "") -> list[Browser]:
        """Open one browser to each worker process, all with the same *cookie*."""
        found: dict[str, Browser] = {}

        def all_answer() -> bool:
            browser = self.browser()
            found.setdefault(browser.get("/untouched").headers[HEADER], browser)
            return len(found) == WORKERS

        wait_until(all_answer, f"{WORKERS} workers of {self.framework.name} answer")
        for browser in found.values():
            browser.cookie = cookie
        return list(found.values())

    def sessions(self, **options: object) -> coatcheck.Sessions:
        """Make sessions over the same store, as another service would."""
        policy = coatcheck.SessionPolicy(max_bytes=2 * 1024 * 1024)  # one scenario stores 1 MB
        return coatcheck.Sessions(self.store.url, keys=self.key, policy=policy, **options)

    def close_browsers(self) -> None:
        """Close what the test has opened."""
        while self._browsers:
            self._browsers.pop().close()


class Frail:
    """A server of the tests' own that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        """Start it with its data in *folder*."""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        path = str(folder / "socket")
        self.server = Server(f"unix://{path}", redis.Redis(unix_socket_path=path))
        self.start()

    def start(self) -> None:
        """Start it, with the data it had, and wait until it answers."""
        command = [find_server(), "--port", "0", "--unixsocket", "socket", "--appendonly", "yes", "--save", ""]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)
        wait_until(self._answers, "the store answers")

    def kill(self) -> None:
        """End it as the kernel would."""
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        try:
            return bool(self.server.client.ping())
        except redis.RedisError:
            return False


class Running:
    """The apps that run, each started when it is first asked for."""

    def __init__(self, logs: Path) -> None:
        """Keep the apps' output in *logs*."""
        self._logs = logs
        self._processes: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
        self._apps: dict[tuple[str, str], App] = {}

    def app(self, framework: Framework, store: Server, key: str, **settings: str) -> App:
        """Give the app of *framework* over *store*; settings: further environment variables, COATCHECK_TEST_<NAME>."""
        known = (framework.name, store.url)
        if known not in self._apps:
            self._apps[known] = self.start(framework, store, key, **settings)
        return self._apps[known]

    def start(self, framework: Framework, store: Server, key: str, *, workers: int = WORKERS, **settings: str) -> App:
        """Start another app; the arguments are those of `app`, and how many processes are to serve it."""
        listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is accepted there inherits it
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COATCHECK_")} | {
            "COATCHECK_URL": store.url,
            "COATCHECK_KEYS": key,
            "COATCHECK_PREFIX": "cc",
            "COATCHECK_DEADLINE": os.environ["COATCHECK_DEADLINE"],  # crowds write one session, on a slow machine
            "COATCHECK_TEST_APP": framework.app,
            **near_mode.ENVIRONMENT,
            **{f"COATCHECK_TEST_{name.upper()}": value for name, value in settings.items()},
        }
        log = self._logs / f"{framework.name}-{listening.getsockname()[1]}.log"
        command = [sys.executable, "-W", "default::ResourceWarning", "-m"]
        command += [word.format(fd=listening.fileno(), workers=workers) for word in framework.command]
        with log.open("wb") as output, listening:
            process = subprocess.Popen(
                command,
                cwd=_ROOT,
                env=environment,
                stdout=output,
                stderr=output,
                pass_fds=(listening.fileno(),),
                start_new_session=True,
            )
        self._processes[url] = (process, log)
        app = App(framework, url, store, key, "https" in settings)

        def answers() -> bool:
            assert process.poll() is None, f"{framework.name} did not start:\n{log.read_text()}"
            try:
                return httpx.get(f"{url}/untouched", verify=_NO_TLS, trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(answers, f"{framework.name} answers; {log}")
        return app

    def end(self) -> None:
        """End all of them, and check that they have closed their connections to the store."""
        for process, _ in self._processes.values():
            process.terminate()
        for process, log in self._processes.values():
            _await_end(process, log)

    def end_one(self, url: str) -> None:
        """End the app at *url* and check the same: for one that was started for a test alone, and is not to go on."""
        process, log = self._processes.pop(url)
        process.terminate()
        _await_end(process, log)


def _await_end(process: subprocess.Popen[bytes], log: Path) -> None:
    try:
        process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    left_open = [line for line in log.read_text().splitlines() if _OPEN_CONNECTION.search(line)]
    assert not left_open, left_open


def _parameters() -> list[object]:
    return [
        pytest.param(framework, id=name, marks=pytest.mark.django if name.startswith("django") else ())
        for name, framework in FRAMEWORKS.items()
    ]


@pytest.fixture(scope="session", params=_parameters())
def framework(request: pytest.FixtureRequest) -> Framework:
    """Give each framework in turn."""
    return request.param


@pytest.fixture(scope="session")
def shared_key() -> str:
    """Give the sealing key that all apps share."""
    return coatcheck.new_key()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run apps until the end of the run."""
    running = Running(tmp_path_factory.mktemp("apps"))
    yield running
    running.end()


@pytest.fixture(scope="session")
def frail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frail]:
    """Give the store that a test may kill."""
    frail = Frail(tmp_path_factory.mktemp("frail"))
    yield frail
    frail.kill()
    frail.server.client.close()


@pytest.fixture
def app(framework: Framework, running: Running, server: Server, shared_key: str) -> Iterator[App]:
    """Give the framework's app over the emptied shared server, for http in development."""
    app = running.app(framework, server, shared_key)
    yield app
    app.close_browsers()


@pytest.fixture
def guarded(framework: Framework, running: Running, frail: Frail, shared_key: str) -> Iterator[App]:
    """Give the framework's app over the store that may be killed: for https, and with limits; see apps/common.py."""
    frail.server.client.flushall()
    app = running.app(framework, frail.server, shared_key, https="1", limit="2")
    yield app
    app.close_browsers()
