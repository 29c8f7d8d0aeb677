"""WebSockets and event streams of a session that ends, over real servers: they are closed within a second."""

import http.client
import socket
import time
from contextlib import ExitStack
from datetime import timedelta
from threading import Thread

import pytest
import websockets
import websockets.sync.client

from coatcheck import Sessions
from tests.frameworks.apps.common import OPEN
from tests.frameworks.fix_apps import FRAMEWORKS, Framework
from tests.waiting import PATIENCE_SECONDS, wait_until

SECOND = 1.0
APPS = {
    name: Framework(f"open-{name}", f"open_{name}_app:app", FRAMEWORKS[name].command)
    for name in ("starlette", "litestar", "aiohttp")
}


class Opened:
    """A WebSocket or an event stream that a browser has opened; a thread reads what comes until it is closed."""

    def __init__(self, chunks):
        self._chunks = chunks
        self.first = next(chunks)
        self.closed_at = None
        self.code = None
        self._thread = Thread(target=self._read)
        self._thread.start()

    def _read(self):
        try:
            for _ in self._chunks:
                pass
        except websockets.ConnectionClosed as closed:
            self.code = closed.rcvd.code if closed.rcvd else None
        except (OSError, http.client.HTTPException) as error:
            self.code = error
        self.closed_at = time.monotonic()

    @property
    def is_open(self):
        """Whether nobody has closed it."""
        return self.closed_at is None

    def seconds_until_closed(self, since):
        """Wait until it is closed; say how long after *since* that was."""
        wait_until(lambda: self.closed_at is not None, "it is closed")
        return self.closed_at - since

    def join(self):
        """Wait for the thread."""
        self._thread.join()


@pytest.fixture(params=sorted(APPS))
def kind(request):
    """Give each framework in which connections are closed."""
    return request.param


@pytest.fixture
def site(kind, running, server, shared_key):
    """Give its app, two worker processes of it."""
    app = running.app(APPS[kind], server, shared_key)
    yield app
    app.close_browsers()
    wait_until(lambda: not server.listeners(), "nobody listens any more")


@pytest.fixture
def elsewhere(server, shared_key):
    """Give sessions as another process has them."""
    with Sessions(server.url, keys=shared_key, policy=OPEN) as sessions:
        yield sessions


@pytest.fixture
def open_socket(site):
    """Give a function that opens a WebSocket with a browser's cookie."""
    with ExitStack() as opened:

        def connect(browser, path="/echo"):
            url = site.url.replace("http", "ws", 1) + path
            cookie, patience = (
                {"Cookie": browser.cookie},
                0.1,
            )  # aiohttp answers a closing only where a handler receives
            line = opened.enter_context(
                websockets.sync.client.connect(url, additional_headers=cookie, close_timeout=patience)
            )

            def receive():
                while True:
                    yield line.recv()

            one = Opened(receive())
            opened.callback(one.join)
            opened.callback(line.close)
            assert one.first == "open"
            return one

        yield connect


@pytest.fixture
def open_stream(site):
    """Give a function that opens an event stream with a browser's cookie."""
    with ExitStack() as opened:

        def connect(browser, path="/events"):
            at = site.url.removeprefix("http://").split(":")
            connection = http.client.HTTPConnection(at[0], int(at[1]))
            connection.request("GET", path, headers={"Cookie": browser.cookie})
            sock, response = connection.sock, connection.getresponse()
            one = Opened(iter(response.read1, b""))
            opened.callback(connection.close)
            opened.callback(response.close)
            opened.callback(one.join)
            opened.callback(lambda: sock.shutdown(socket.SHUT_RDWR))
            assert one.first == b"data: open\n\n"
            return one

        yield connect


@pytest.fixture(params=["socket", "pushing socket", "stream"])
def open_one(request, open_socket, open_stream):
    """Give a function that opens a WebSocket that is read, one that only pushes, or an event stream."""
    if request.param == "stream":
        return open_stream
    return lambda browser: open_socket(browser, "/echo" if request.param == "socket" else "/pushing")


def sign_in(site, user="ada"):
    """Open a browser and sign *user* in."""
    browser = site.browser()
    browser.post("/login", user=user)
    return browser


def handle_of(elsewhere, browser):
    """Give the handle of a browser's session."""
    return elsewhere.load(browser.identifier).handle


@pytest.mark.requirement("R19")
def test_revoked(site, elsewhere, open_one):
    """What is open in a session is closed within a second after another process has revoked it."""
    browser, other = sign_in(site), sign_in(site, "bob")
    opened, bystander = open_one(browser), open_one(other)

    since = time.monotonic()
    elsewhere.revoke(handle_of(elsewhere, browser))

    assert opened.seconds_until_closed(since) < SECOND
    assert bystander.is_open


def test_code(site, kind, elsewhere, open_socket):
    """A WebSocket is closed with code 4401; the application sees that code, in aiohttp just that it is closing."""
    browser = sign_in(site)
    opened = open_socket(browser)

    elsewhere.revoke(handle_of(elsewhere, browser))
    opened.seconds_until_closed(0)

    assert opened.code == 4401
    told = "CLOSING" if kind == "aiohttp" else 4401
    wait_until(lambda: any(told in worker.get("/seen").json() for worker in site.workers()), "it is told")


def test_stream_ends(site, elsewhere, open_stream):
    """An event stream ends as if the application had ended it; its generator is closed, in aiohttp a write fails."""
    browser = sign_in(site)
    opened = open_stream(browser)

    elsewhere.revoke(handle_of(elsewhere, browser))
    opened.seconds_until_closed(0)

    assert opened.code is None
    wait_until(lambda: any("stream ended" in worker.get("/seen").json() for worker in site.workers()), "it ends")


@pytest.mark.requirement("R19")
def test_sign_out_on_another_worker(site, open_one):
    """What a person has open on both workers is closed when she signs out everywhere on one."""
    browser = sign_in(site)
    opened = [open_one(browser) for _ in range(4)]
    worker, _ = site.workers(browser.cookie)

    since = time.monotonic()
    assert worker.post("/logout-everywhere").json() == {"ended": 1}

    assert max(one.seconds_until_closed(since) for one in opened) < SECOND


def test_everyone(site, elsewhere, open_one):
    """What is open is closed when the sessions of everyone are ended; what is opened after that stays."""
    opened = [open_one(sign_in(site, user)) for user in ("ada", "bob")]

    since = time.monotonic()
    elsewhere.revoke_everyone()

    assert max(one.seconds_until_closed(since) for one in opened) < SECOND
    assert open_one(sign_in(site)).is_open


def test_evicted(site, clock, open_one):
    """What is open in a session that a sign-in over the limit has ended is closed."""
    clock.moved = -60_000  # the oldest for certain: on a busy machine two workers know the time differently
    with Sessions(site.store.url, keys=site.key, policy=OPEN, clock=clock) as earlier:
        opened = open_one(site.browser(f"session={earlier.create({'user_id': 'ada'}).identifier}"))
    sign_in(site)

    since = time.monotonic()
    sign_in(site)

    assert opened.seconds_until_closed(since) < SECOND


def test_replayed(site, elsewhere, open_one):
    """What is open in a session whose former secret was used after its grace is closed."""
    policy = OPEN.__class__(subject_attribute="user_id", rotation_grace=timedelta(0))
    with Sessions(site.store.url, keys=site.key, policy=policy) as strict:
        session = strict.create({"user_id": "ada"})
        stolen = session.identifier
        strict.rotate(session)
        opened = open_one(site.browser(f"session={session.identifier}"))

        since = time.monotonic()
        assert elsewhere.load(stolen) is None

    assert opened.seconds_until_closed(since) < SECOND


def test_expired(site, elsewhere, open_one):
    """What is open does not count as use: it is closed within a second after the session's idle timeout."""
    browser = sign_in(site)
    browser.post("/shorten", idle=700)
    since = time.monotonic()
    opened = open_one(browser)

    assert opened.seconds_until_closed(since) < 0.7 + SECOND
    assert elsewhere.load(browser.identifier) is None


def test_used_meanwhile(site, elsewhere, open_socket):
    """What is open stays open as long as requests use the session."""
    browser, lonely = sign_in(site), sign_in(site, "bob")
    for one in (browser, lonely):
        one.post("/shorten", idle=2000)
    opened, other = open_socket(browser), open_socket(lonely)

    def is_used():
        browser.post("/begin")
        return not other.is_open

    wait_until(is_used, "what is not used is closed")

    assert opened.is_open


def test_connection_killed(site, server, elsewhere, open_one):
    """What was missed while the listener had no connection is made up for within a second."""
    browser = sign_in(site)
    opened = open_one(browser)
    handle = handle_of(elsewhere, browser)
    wait_until(lambda: len(server.listeners()) == 1, "one listens")

    since = time.monotonic()
    server.client.client_kill_filter(_type="pubsub")
    elsewhere.revoke(handle)

    assert opened.seconds_until_closed(since) < SECOND
    assert not server.client.exists(f"cc:{{x}}:s:{handle.name}")


def test_store_was_away(kind, running, frail, shared_key):
    """What is open stays open while the store is away; what ended before it is known to be back is closed then."""
    app = running.app(APPS[kind], frail.server, shared_key)
    browser, other = sign_in(app), sign_in(app, "bob")
    url = app.url.replace("http", "ws", 1) + "/echo"
    with (
        websockets.sync.client.connect(url, additional_headers={"Cookie": browser.cookie}) as socket,
        websockets.sync.client.connect(url, additional_headers={"Cookie": other.cookie}) as bystander,
        Sessions(frail.server.url, keys=shared_key) as elsewhere,
    ):
        assert (socket.recv(), bystander.recv()) == ("open", "open")
        handle = handle_of(elsewhere, browser)
        frail.kill()
        socket.send("still there")
        assert socket.recv() == "still there"

        frail.start()
        elsewhere.revoke(handle)

        with pytest.raises(websockets.ConnectionClosed) as closed:
            socket.recv(timeout=PATIENCE_SECONDS)
        bystander.send("still there")
        assert bystander.recv() == "still there"
    assert closed.value.rcvd.code == 4401
    app.close_browsers()


def test_rotation(site, elsewhere, open_one):
    """A rotation leaves open what is open: the session goes on under its handle."""
    browser = sign_in(site)
    opened = open_one(browser)
    browser.post("/rotate")

    marker = open_one(sign_in(site, "bob"))
    elsewhere.revoke_all("bob")
    marker.seconds_until_closed(0)

    assert opened.is_open


def test_sign_in(site, elsewhere, open_one):
    """A sign-in leaves open what was opened anonymously before it."""
    browser = site.browser()
    browser.post("/begin")
    opened = open_one(browser)
    browser.post("/login", user="ada")

    marker = open_one(sign_in(site, "bob"))
    elsewhere.revoke_all("bob")
    marker.seconds_until_closed(0)

    assert opened.is_open


def test_step_up(site, open_one):
    """To authenticate again closes what was opened before: that session is over, the new one has another handle."""
    browser = sign_in(site)
    opened = open_one(browser)

    since = time.monotonic()
    browser.post("/again")

    assert opened.seconds_until_closed(since) < SECOND
    assert open_one(browser).is_open


def test_other_responses(site, elsewhere, open_stream):
    """A response that is no event stream, a download say, is left to end by itself."""
    browser = sign_in(site)
    download = open_stream(browser, "/events?type=text/plain")
    marker = open_stream(browser)

    elsewhere.revoke_all("ada")
    marker.seconds_until_closed(0)

    assert download.is_open


def test_nothing_open(site, server, elsewhere, open_socket):
    """Nobody listens while nothing is open in a session, and one connection a worker serves all that is."""
    sign_in(site)
    anonymous = open_socket(site.browser())
    assert len(server.listeners()) == 0

    opened = [open_socket(sign_in(site, f"user {number}")) for number in range(12)]
    wait_until(lambda: 1 <= len(server.listeners()) <= 2, "one or two listen")
    elsewhere.revoke_everyone()
    for one in opened:
        one.seconds_until_closed(0)

    wait_until(lambda: len(server.listeners()) == 0, "nobody listens any more")
    assert anonymous.is_open
