"""The Starlette and FastAPI adapters: what they promise beyond the scenarios that all frameworks share.

Starlette's test client serves every request on an event loop of its own.
"""

import logging

import pytest
import websockets.sync.client
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse

import coatcheck
from coatcheck import AsyncSessions, CookiePolicy, Handle, SessionPolicy, StoreError
from coatcheck.fastapi import CurrentSession
from coatcheck.model.ticket import Ticket
from coatcheck.starlette import SessionMiddleware, session_of
from tests.frameworks.fix_apps import FRAMEWORKS
from tests.waiting import wait_until

POLICY = SessionPolicy(subject_attribute="user_id")
PLAIN = CookiePolicy(secure=False)


async def read(request):
    """Answer with the attributes."""
    return JSONResponse(dict(request.session))


async def write(request):
    """Set the attributes that the query names."""
    request.session.update(request.query_params)
    return PlainTextResponse("ok", headers={"Vary": "Accept", "Set-Cookie": "other=1"})


async def untouched(request):
    """Leave the session alone."""
    return PlainTextResponse("ok")


@pytest.fixture
def serve(server, key):
    """Give a function that makes a client of an app with the given handler at /late, and middleware options."""
    clients = []

    def make(late=untouched, *, app=Starlette, debug=False, exception_handlers=None, sockets=(), **options):
        routes = [
            Route("/read", read),
            Route("/write", write),
            Route("/static/logo", read),
            Route("/statics", read),
            Route("/late", late),
            *sockets,
        ]
        app = app(routes=routes, debug=debug, exception_handlers=exception_handlers)
        if "sessions" not in options:
            options = {"url": server.url, "keys": key, "policy": POLICY} | options
        app.add_middleware(SessionMiddleware, **{"cookie": PLAIN} | options)
        clients.append(TestClient(app, raise_server_exceptions=False))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def down(key):
    """Give sessions whose store is down."""
    return AsyncSessions("unix:///nonexistent/socket", keys=key, policy=POLICY)


# Loading


@pytest.mark.requirement("R44")
def test_event_loops(serve, server):
    """A session works when every request runs on a new event loop."""
    client = serve()

    client.get("/write?a=1")
    client.get("/write?b=2")

    assert client.get("/read").json() == {"a": "1", "b": "2"}


def test_excluded(serve, server):
    """Nothing is loaded ahead under an excluded path, and what is beside it is not excluded."""
    client = serve(exclude=("/static/", "/late"))
    client.get("/write?a=1")

    with server.commands() as commands:
        assert client.get("/late").status_code == 200
        assert client.get("/static/logo").status_code == 500

    assert commands == []
    assert client.get("/statics").json() == {"a": "1"}


def test_excluded_below_root_path(serve, server):
    """Excluded paths are the application's own, wherever it is mounted."""
    app = Starlette(routes=[Mount("/app", serve(exclude=("/late",)).app)])
    client = TestClient(app)
    client.get("/app/write?a=1")

    with server.commands() as commands:
        client.get("/app/late")

    assert commands == []


def test_not_loaded(serve):
    """Without ahead, `request.session` says what to do instead."""
    client = TestClient(serve(ahead=False).app)

    with pytest.raises(RuntimeError, match=r"session = await session_of\(request\)"):
        client.get("/read")


@pytest.mark.parametrize(
    "given",
    [lambda request: request, lambda request: request.scope, lambda request: HTTPConnection(request.scope)],
    ids=["request", "scope", "connection"],
)
@pytest.mark.parametrize("ahead", [True, False], ids=["ahead", "awaited"])
def test_session_of(serve, given, ahead):
    """`session_of` gives the one session of the request, which then is `request.session` too."""

    async def handler(request):
        session = await session_of(given(request))
        session["a"] = "1"
        assert request.session is session is await session_of(request)
        return PlainTextResponse("ok")

    client = serve(handler, ahead=ahead)

    assert client.get("/late").status_code == 200

    assert serve().get("/read", headers={"Cookie": f"session={client.cookies['session']}"}).json() == {"a": "1"}


def test_no_middleware(serve):
    """Where the middleware is missing, `session_of` says so."""

    async def handler(request):
        with pytest.raises(coatcheck.ConfigurationError, match=r"add coatcheck\.starlette\.SessionMiddleware"):
            await session_of(request)
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/", handler)])

    assert TestClient(app).get("/").text == "ok"


def test_two_configurations(server, key):
    """Sessions, and settings for others beside them, are refused."""
    sessions = AsyncSessions(server.url, keys=key)

    with pytest.raises(
        coatcheck.ConfigurationError, match=r"^give SessionMiddleware either sessions, or url, keys, policy and prefix$"
    ):
        SessionMiddleware(untouched, sessions=sessions, url=server.url)


def test_lifespan(serve):
    """The middleware lets the lifespan of the application pass."""
    with serve() as client:
        assert client.get("/late").text == "ok"


def test_fastapi_dependency(server, key):
    """A FastAPI route that asks for the session gets it; one that does not costs nothing."""
    app = FastAPI()
    app.add_middleware(SessionMiddleware, url=server.url, keys=key, cookie=PLAIN, ahead=False)

    @app.get("/count")
    async def count(session: CurrentSession) -> float:
        return session.increment("count")

    @app.get("/none")
    def none() -> str:
        return "none"

    client = TestClient(app)
    assert [client.get("/count").json(), client.get("/count").json()] == [1, 2]

    with server.commands() as commands:
        client.get("/none")

    assert commands == []


# Headers


def test_headers_of_the_response(serve):
    """Vary is added to what the response has, and so is the cookie."""
    answer = serve().get("/write?a=1")

    assert answer.headers["vary"] == "Accept, Cookie"
    assert [line.partition("=")[0] for line in answer.headers.get_list("set-cookie")] == ["other", "session"]


def test_headers_that_are_given_once(server, key):
    """The headers of a response may be any iterable (ASGI), one that ends too: none is lost."""

    async def read(scope, _, send):
        assert "a" not in scope["session"]
        headers = iter([(b"content-type", b"text/plain"), (b"vary", b"Accept"), (b"location", b"/x")])
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    answer = TestClient(SessionMiddleware(read, url=server.url, keys=key)).get("/", follow_redirects=False)

    assert [answer.headers[name] for name in ("content-type", "vary", "location")] == [
        "text/plain",
        "Accept, Cookie",
        "/x",
    ]


def test_several_cookie_headers(serve):
    """A cookie is found wherever it is in several Cookie headers, as HTTP/2 may send them."""
    client = serve()
    client.get("/write?a=1")
    identifier = client.cookies.pop("session")
    client.cookies.clear()

    answer = client.get("/read", headers=[("Cookie", "other=1"), ("Cookie", f"session={identifier}")])

    assert answer.json() == {"a": "1"}


@pytest.mark.parametrize(("debug", "name"), [(True, "session"), (False, "__Host-session")])
def test_development(serve, debug, name):
    """An application in debug mode may use http://localhost; any other needs https or says otherwise."""
    client = serve(debug=debug, cookie=None)

    answer = client.get("/write?a=1", headers={"Host": "localhost:8000"})

    assert answer.headers.get_list("set-cookie")[-1].startswith(f"{name}=")


# After the response has begun


@pytest.mark.parametrize("kind", ["stream", "background"])
def test_late_change(serve, kind):
    """What is changed after the response has begun is saved."""

    async def handler(request):
        async def change():
            request.session["late"] = "1"

        async def body():
            await change()
            yield "ok"

        return (
            StreamingResponse(body())
            if kind == "stream"
            else PlainTextResponse("ok", background=BackgroundTask(change))
        )

    client = serve(handler)
    client.get("/write?a=1")

    assert client.get("/late").text == "ok"

    assert client.get("/read").json() == {"a": "1", "late": "1"}


@pytest.mark.parametrize(
    "change",
    [
        lambda session: session.update(a="2"),
        lambda session: session.update(user_id="ada"),
        lambda session: session.rotate(),
    ],
    ids=["new", "sign-in", "rotation"],
)
def test_late_identifier(serve, server, caplog, request, change):
    """What would need another cookie after the response has begun is left undone, with a warning."""

    async def handler(request):
        return PlainTextResponse("ok", background=BackgroundTask(change_it, request))

    async def change_it(request):
        change(request.session)

    client = serve(handler)
    if "new" not in request.node.callspec.id:
        client.get("/write?a=1")
    before = client.get("/read").json(), server.left()

    with caplog.at_level(logging.WARNING, "coatcheck"):
        client.get("/late")

    assert [record.message for record in caplog.records if record.name == "coatcheck"] == ["session_unsent"]
    assert (client.get("/read").json(), server.left()) == before


def test_late_sign_out(serve, server):
    """A sign-out after the response has begun ends the session."""

    async def handler(request):
        return PlainTextResponse("ok", background=BackgroundTask(sign_out, request))

    async def sign_out(request):
        del request.session["user_id"]

    client = serve(handler)
    client.get("/write?user_id=ada&a=1")

    client.get("/late")

    assert client.get("/read").json() == {}
    assert server.left() == []


def test_late_failure(serve, frail, caplog):
    """A store that fails after the response has begun is logged; the response stands."""

    async def handler(request):
        return PlainTextResponse("ok", background=BackgroundTask(change, request))

    async def change(request):
        request.session["late"] = "1"
        frail.kill()

    client = serve(handler, url=frail.server.url)
    client.get("/write?a=1")

    assert client.get("/late").text == "ok"
    frail.start()

    said = [record.message.partition(":")[0] for record in caplog.records if record.name == "coatcheck"]
    assert said == ["session_save_failed"]
    assert client.get("/read").json() == {"a": "1"}


# Failures


@pytest.mark.requirement("R45")
def test_outage_at_the_end(serve, down):
    """A session that cannot be saved makes the response a 503 without a cookie."""
    answer = serve(sessions=down).get("/write?a=1")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "set-cookie" not in answer.headers


def test_outage_with_exception_handler(serve, down):
    """The same holds where the application handles the error, too late for its own response."""

    def handle(request, error):
        return PlainTextResponse("handled", 500)

    assert serve(sessions=down, exception_handlers={StoreError: handle}).get("/write?a=1").status_code == 503


def test_outage_met_by_handler(serve, down):
    """A handler that awaits the session meets the error, and may answer in its own way."""

    async def handler(request):
        try:
            await session_of(request)
        except StoreError:
            return PlainTextResponse("without a session")

    client = serve(handler, sessions=down, ahead=False)
    client.cookies["session"] = Ticket.new(Handle.new()).identifier

    assert client.get("/late").text == "without a session"


async def answer_later(request, error):
    """Answer an error, asynchronously."""
    return answer_now(request, error)


def answer_now(request, error):
    """Answer an error."""
    return PlainTextResponse(f"{request.url.path}: {type(error).__name__}", 418)


@pytest.mark.parametrize("on_error", [answer_now, answer_later])
def test_on_error(serve, down, on_error):
    """The application may answer in place of the 503."""
    answer = serve(sessions=down, on_error=on_error).get("/write?a=1")

    assert (answer.status_code, answer.text) == (418, "/write: StoreUnavailable")


def test_on_error_declines(serve, down):
    """An application that gives no answer of its own leaves it at the 503."""
    assert serve(sessions=down, on_error=lambda request, error: None).get("/write?a=1").status_code == 503


# WebSocket


async def greet(socket):
    """Count the visit, accept, say what the session holds, keep what comes."""
    socket.session.increment("visits")
    await socket.accept()
    await socket.send_json(dict(socket.session))
    socket.session["said"] = await socket.receive_text()


def test_socket(serve):
    """A WebSocket sets the cookie where it is accepted, and saves what came later when it ends."""
    client = serve(sockets=[WebSocketRoute("/greet", greet)])

    with client.websocket_connect("/greet") as socket:
        headers = dict(socket.extra_headers)
        assert socket.receive_json() == {"visits": 1}
        socket.send_text("hello")

    client.cookies["session"] = headers[b"set-cookie"].decode().partition(";")[0].partition("=")[2]
    assert client.get("/read").json() == {"visits": 1, "said": "hello"}


def test_socket_denied(serve, down):
    """A WebSocket whose session cannot be loaded is denied with a 503."""
    client = serve(sessions=down, sockets=[WebSocketRoute("/greet", greet)])

    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/greet"):
        pass

    assert (denied.value.status_code, denied.value.headers["retry-after"]) == (503, "1")


@pytest.mark.anyio
async def test_socket_closed(down):
    """Where the server cannot send a denial, the WebSocket is closed with 1013, try again later."""
    sent = []

    async def send(message):
        sent.append(message)

    async def app(scope, receive, send):
        scope["session"]["a"] = "1"
        await send({"type": "websocket.accept"})

    scope = {"type": "websocket", "scheme": "ws", "path": "/", "headers": []}
    await SessionMiddleware(app, sessions=down)(scope, None, send)

    assert sent == [{"type": "websocket.close", "code": 1013}]


@pytest.mark.parametrize("name", ["starlette", "fastapi"])
def test_socket_of_server(running, server, shared_key, name):
    """A WebSocket over a real server reads the session of its cookie, and saves when it ends."""
    app = running.app(FRAMEWORKS[name], server, shared_key)
    browser = app.browser()
    browser.post("/set", name="a", value="1")

    url = app.url.replace("http", "ws", 1)
    with websockets.sync.client.connect(f"{url}/echo", additional_headers={"Cookie": browser.cookie}) as socket:
        assert socket.recv() == '{"a":"1"}'
        socket.send("hello")
        list(socket)

    wait_until(lambda: browser.attributes == {"a": "1", "said": "hello"}, "what follows the closing is saved")
    app.close_browsers()
