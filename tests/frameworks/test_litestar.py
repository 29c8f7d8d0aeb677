"""The Litestar adapter: what it promises beyond the scenarios that all frameworks share."""

import socket
from dataclasses import dataclass
from threading import Thread
from typing import Any

import httpx
import msgspec
import pytest
import uvicorn
import websockets.sync.client
from litestar import Litestar, MediaType, Request, Response, WebSocket, asgi, get, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency, Provide
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.response import Stream
from litestar.security.session_auth import SessionAuth
from litestar.testing import TestClient
from litestar.types import Receive, Scope, Send
from pydantic import BaseModel

import coatcheck
from coatcheck import AsyncSessions, AtLimit, ConfigurationError, CookiePolicy, Session, SessionPolicy, StoreError
from coatcheck.litestar import SessionConfig, session_of
from coatcheck.model.ticket import Handle, Ticket
from tests.frameworks.visits import url_of
from tests.waiting import wait_until

POLICY = SessionPolicy(subject_attribute="user_id")
PLAIN = CookiePolicy(secure=False)


@get("/read")
async def read(request: Request) -> dict[str, Any]:
    """Answer with the attributes."""
    return dict(request.session)


@post("/write", status_code=200)
async def write(request: Request) -> Response[str]:
    """Set the attributes that the query names."""
    request.session.update(request.query_params.items())
    answer = Response("ok", media_type=MediaType.TEXT, headers={"Vary": "Accept"})
    answer.set_cookie("other", "1")
    return answer


@post("/replace", status_code=200)
async def replace(request: Request) -> None:
    """Make the attributes those of the body."""
    request.set_session(await request.json())


@post("/clear", status_code=200)
async def clear(request: Request) -> None:
    """End the session, as Litestar says it."""
    request.clear_session()


@get("/untouched")
async def untouched() -> str:
    """Leave the session alone."""
    return "ok"


@pytest.fixture
def config(server, key):
    """Give a function that makes a configuration over the server."""

    def make(**options):
        if "sessions" not in options:
            options = {"url": server.url, "keys": key, "policy": POLICY} | options
        return SessionConfig(**{"cookie": PLAIN} | options)

    return make


@pytest.fixture
def serve():
    """Give a function that serves an app over HTTP and makes a client of it."""
    running = []

    def make(app):
        listening = socket.create_server(("127.0.0.1", 0))
        running.append(uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="websockets-sansio")))
        thread = Thread(target=running[-1].run, kwargs={"sockets": [listening]})
        thread.start()
        wait_until(lambda: running[-1].started or not thread.is_alive(), "the server has started")
        assert running[-1].started
        client = httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", trust_env=False)
        running[-1] = running[-1], thread, listening, client
        return client

    yield make
    for uvicorn_server, thread, listening, client in running:
        client.close()
        uvicorn_server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture
def client(serve, config):
    """Give a client of an app with the handlers above, and its sessions in front of them."""
    return serve(Litestar([read, write, replace, clear, untouched], middleware=[config().middleware]))


@pytest.fixture
def down(key):
    """Give sessions whose store is down."""
    return AsyncSessions("unix:///nonexistent/socket", keys=key, policy=POLICY)


# request.session, set_session and clear_session


def test_set_session(client):
    """set_session makes the attributes what it was given."""
    client.post("/write?a=1&b=2")

    client.post("/replace", json={"b": "3", "c": [4]})

    assert client.get("/read").json() == {"b": "3", "c": [4]}


@pytest.mark.requirement("R38")
def test_set_session_merges(serve, config, server, key):
    """set_session leaves alone what another request adds meanwhile."""

    @post("/slow", status_code=200)
    async def slow(request: Request) -> None:
        with coatcheck.Sessions(server.url, keys=key, policy=POLICY) as others:
            theirs = others.find(request.session.handle)
            theirs["theirs"] = "1"
            others.save(theirs)
        request.set_session({"mine": "2"})

    client = serve(Litestar([slow, read, write], middleware=[config().middleware]))
    client.post("/write?a=1")

    client.post("/slow")

    assert client.get("/read").json() == {"mine": "2", "theirs": "1"}


@dataclass
class Plain:
    """A dataclass for a session."""

    user_id: int
    tags: set[str]


class Packed(msgspec.Struct):
    """A Struct for a session."""

    user_id: int
    tags: set[str]


class Checked(BaseModel):
    """A pydantic model for a session."""

    user_id: int
    tags: set[str]


@pytest.mark.parametrize("model", [Plain, Packed, Checked])
def test_set_session_of_model(serve, config, model):
    """set_session takes the models that Litestar takes: dataclasses, Structs, pydantic's."""

    @post("/model", status_code=200)
    async def set_model(request: Request) -> None:
        request.set_session(model(user_id=7, tags={"a"}))

    client = serve(Litestar([set_model, read], middleware=[config().middleware]))

    client.post("/model")

    assert client.get("/read").json() == {"user_id": 7, "tags": ["a"]}


def test_session_of_after_set_session(serve, config):
    """The Session has what set_session was given, and what is done to it then counts too."""

    @post("/both", status_code=200)
    async def both(request: Request) -> dict[str, Any]:
        request.set_session({"a": 1})
        session = await session_of(request)
        session.increment("a")
        return dict(request.session)

    client = serve(Litestar([both, read], middleware=[config().middleware]))

    assert client.post("/both").json() == {"a": 2}
    assert client.get("/read").json() == {"a": 2}


def test_clear_session(client, server):
    """clear_session ends the session and removes its cookie."""
    client.post("/write?a=1")

    answer = client.post("/clear")

    assert "max-age=0" in answer.headers["set-cookie"].lower()
    assert server.left() == []


@pytest.mark.requirement("R55")
def test_clear_session_of_stranger(client, server):
    """clear_session stores nothing and sets no cookie where there is no session."""
    answer = client.post("/clear")

    assert "set-cookie" not in answer.headers
    assert server.left() == []


def test_session_id_is_the_handle(serve, config):
    """What Litestar calls the session's id is the public handle."""

    @get("/id")
    async def show(request: Request) -> dict[str, Any]:
        return {"id": request.get_session_id(), "handle": str(request.session.handle)}

    client = serve(Litestar([show, write], middleware=[config().middleware]))
    client.post("/write?a=1")

    shown = client.get("/id").json()

    assert shown["id"] == shown["handle"]


def test_other_headers(client):
    """Cookies and Vary of the application's own stay beside ours."""
    answer = client.post("/write?a=1")

    assert [line.partition("=")[0] for line in answer.headers.get_list("set-cookie")] == ["other", "session"]
    assert answer.headers["vary"] == "Accept, Cookie"


def test_cached_response(serve, config):
    """A response that Litestar caches carries its session's cookie to the client that it was made for, to no other."""

    @get("/cached", cache=60)
    async def cached(request: Request) -> str:
        request.session["a"] = 1
        return "ok"

    client = serve(Litestar([cached], middleware=[config().middleware]))
    assert "set-cookie" in client.get("/cached").headers
    client.cookies.clear()

    answer = client.get("/cached")

    assert (answer.text, answer.headers.get("set-cookie")) == ("ok", None)


def test_headers_given_again(serve, config):
    """A mounted application that gives every response the same list of headers gives no client another's cookie."""
    headers = [(b"content-type", b"text/plain")]

    @asgi("/mounted", copy_scope=False)
    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"]["a"] = 1
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok", "more_body": False})

    client = serve(Litestar([mounted], middleware=[config().middleware]))
    first = client.get("/mounted").headers.get_list("set-cookie")
    client.cookies.clear()

    second = client.get("/mounted").headers.get_list("set-cookie")

    assert (len(first), len(second)) == (1, 1)
    assert first != second
    assert headers == [(b"content-type", b"text/plain")]


# SessionAuth


@pytest.fixture
def guarded(serve, config):
    """Give a function that makes a client of an app behind SessionAuth."""

    async def retrieve_user(session: dict[str, Any], connection: ASGIConnection) -> str | None:
        return session.get("user_id")

    @post("/login", status_code=200)
    async def login(request: Request) -> None:
        request.set_session({"user_id": request.query_params["user"]})

    @get("/visit")
    async def visit(request: Request) -> None:
        request.session["visited"] = True

    @get("/me")
    async def me(request: Request) -> dict[str, Any]:
        return {"user": request.user}

    def make(**options):
        auth = SessionAuth[str, Any](
            retrieve_user_handler=retrieve_user,
            session_backend_config=config(**options),
            exclude=["/login", "/visit"],
        )
        return serve(Litestar([login, visit, me, clear], on_app_init=[auth.on_app_init]))

    return make


@pytest.mark.requirement("R28")
def test_session_auth(guarded):
    """SessionAuth signs in under a new identifier, knows the user, and forgets them at the sign-out."""
    client = guarded()
    client.get("/visit")
    before = client.cookies["session"]

    client.post("/login?user=ada")

    assert client.cookies["session"] != before
    assert client.get("/me").json() == {"user": "ada"}
    signed_in = client.cookies["session"]
    client.post("/clear")
    for identifier in (before, signed_in):
        assert client.get("/me", headers={"Cookie": f"session={identifier}"}).status_code == 401


@pytest.mark.requirement("R2")
def test_session_auth_fixation(guarded, server):
    """Signing in with an identifier that somebody chose gives another one."""
    client = guarded()
    chosen = Ticket.new(Handle.new())
    client.cookies["session"] = chosen.identifier

    answer = client.post("/login?user=ada")

    assert chosen.identifier not in answer.headers["set-cookie"]
    assert chosen.handle.name not in " ".join(server.left())


@pytest.mark.requirement("R55")
def test_session_auth_stranger(guarded, server):
    """A stranger whom SessionAuth turns away leaves nothing in the store and gets no cookie."""
    answer = guarded().get("/me")

    assert (answer.status_code, answer.headers.get("set-cookie")) == (401, None)
    assert server.left() == []


@pytest.mark.requirement("R45")
def test_session_auth_outage(guarded, down):
    """While the store is down SessionAuth turns nobody away as unknown."""
    client = guarded(sessions=down)
    client.cookies["session"] = Ticket.new(Handle.new()).identifier

    answer = client.get("/me")

    assert (answer.status_code, answer.headers.get("set-cookie")) == (503, None)


@pytest.mark.requirement("R20")
def test_session_auth_after_sign_out(guarded):
    """SessionAuth turning away an ended session leaves the cookie alone: the browser may have a newer one."""
    client = guarded()
    client.post("/login?user=ada")
    cookie = f"session={client.cookies['session']}"
    client.post("/clear")

    answer = client.get("/me", headers={"Cookie": cookie})

    assert (answer.status_code, answer.headers.get("set-cookie")) == (401, None)


# Loading


def test_exclude(serve, config, server):
    """On excluded paths there is no session, and nothing is sent to the store."""
    client = serve(Litestar([read, write, untouched], middleware=[config(exclude=["/untouched"]).middleware]))
    client.post("/write?a=1")

    with server.commands() as commands:
        client.get("/untouched")

    assert commands == []


def test_exclude_opt_key(serve, config, server):
    """A handler opts out with the key that Litestar's own session middleware has."""

    @get("/out", skip_session=True)
    async def out(request: Request) -> bool:
        return "session" in request.scope

    client = serve(Litestar([write, out], middleware=[config().middleware]))
    client.post("/write?a=1")

    with server.commands() as commands:
        assert client.get("/out").json() is False

    assert commands == []


def test_scopes(serve, config):
    """Where the sessions are WebSockets' only, a request has none."""

    @get("/out")
    async def out(request: Request) -> bool:
        return "session" in request.scope

    client = serve(Litestar([out], middleware=[config(scopes=[ScopeType.WEBSOCKET]).middleware]))

    assert client.get("/out").json() is False


def test_session_of_where_there_is_none(serve, config):
    """session_of says what is missing where the middleware does not run."""
    messages = []

    @get("/out", skip_session=True)
    async def out(request: Request) -> None:
        await session_of(request)

    def note(request: Request, error: Exception) -> Response[str]:
        messages.append(str(error))
        return Response("")

    client = serve(Litestar([out], middleware=[config().middleware], exception_handlers={500: note}))

    client.get("/out")

    assert "SessionConfig(...).middleware is missing, or excluded" in messages[0]


def test_loading_when_asked(serve, config, server):
    """Under ahead=False a request sends nothing until it asks for its session, here as a dependency."""

    @get("/lazy")
    async def lazy(session: NamedDependency[Session]) -> dict[str, Any]:
        return dict(session)

    @post("/lazy", status_code=200)
    async def lazy_write(session: NamedDependency[Session]) -> None:
        session["a"] = "1"

    app = Litestar(
        [lazy, lazy_write, untouched],
        middleware=[config(ahead=False).middleware],
        dependencies={"session": Provide(session_of)},
    )
    client = serve(app)
    client.post("/lazy")

    with server.commands() as unasked:
        client.get("/untouched")
    with server.commands() as asked:
        assert client.get("/lazy").json() == {"a": "1"}

    assert unasked == []
    assert [command.partition(" ")[0] for command in asked] == ["MGET"]


def test_test_client(config):
    """Litestar's test client reads and sets the session's data."""
    settings = config()
    with TestClient(Litestar([read, write], middleware=[settings.middleware]), session_config=settings) as client:
        client.set_session_data({"a": 1})
        assert client.get("/read").json() == {"a": 1}

        client.post("/write?b=2")

        assert dict(client.get_session_data()) == {"a": 1, "b": "2"}


@pytest.mark.requirement("R3")
@pytest.mark.parametrize(("debug", "name"), [(True, "session"), (False, "__Host-session")])
def test_debug(serve, config, debug, name):
    """On http://127.0.0.1 the cookie is a plain one in debug mode only."""
    client = serve(Litestar([write], middleware=[config(cookie=None).middleware], debug=debug))

    answer = client.post("/write?a=1")

    assert answer.headers.get_list("set-cookie")[1].partition("=")[0] == name


def test_settings_twice():
    """Sessions and settings for sessions exclude each other."""
    sessions = AsyncSessions("unix:///nowhere", keys=coatcheck.new_key())

    with pytest.raises(
        ConfigurationError, match=r"^give SessionConfig either sessions, or url, keys, policy and prefix$"
    ):
        SessionConfig(sessions=sessions, url="redis://elsewhere")


# WebSockets, streams and what comes after


def test_websocket(serve, config):
    """The handshake of a WebSocket carries the cookie, and what is done later is saved."""

    @websocket("/talk")
    async def talk(socket: WebSocket) -> None:
        socket.session["began"] = 1
        await socket.accept()
        socket.session["said"] = await socket.receive_text()
        await socket.close()

    client = serve(Litestar([talk, read], middleware=[config().middleware]))

    with websockets.sync.client.connect(url_of(client, "/talk"), proxy=None) as connection:
        cookie = connection.response.headers["Set-Cookie"].partition(";")[0]
        connection.send("hello")
        with pytest.raises(websockets.ConnectionClosedOK):
            connection.recv()

    assert client.get("/read", headers={"Cookie": cookie}).json() == {"began": 1, "said": "hello"}


@pytest.mark.requirement("R45")
def test_websocket_outage(serve, config, down):
    """While the store is down a WebSocket is refused."""

    @websocket("/talk")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    client = serve(Litestar([talk], middleware=[config(sessions=down).middleware]))
    cookie = f"session={Ticket.new(Handle.new()).identifier}"

    with pytest.raises(websockets.InvalidStatus) as refused:
        websockets.sync.client.connect(url_of(client, "/talk"), additional_headers={"Cookie": cookie}, proxy=None)

    assert "Set-Cookie" not in refused.value.response.headers


def test_stream(serve, config):
    """What a stream and a background task do to a stored session is saved."""

    @get("/stream")
    async def stream(request: Request) -> Stream:
        async def body():
            request.session["streamed"] = True
            yield b"ok"

        async def task() -> None:
            request.session["after"] = True

        return Stream(body(), background=BackgroundTask(task))

    client = serve(Litestar([stream, read, write], middleware=[config().middleware]))
    client.post("/write?a=1")

    assert client.get("/stream").text == "ok"

    assert client.get("/read").json() == {"a": "1", "streamed": True, "after": True}


# Failures


@pytest.mark.requirement("R45")
def test_outage_at_save(serve, config, down):
    """A session that could not be saved is a 503, and the handler's answer does not leave."""
    client = serve(Litestar([write], middleware=[config(sessions=down).middleware]))

    answer = client.post("/write?a=1")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "set-cookie" not in answer.headers


@pytest.mark.requirement("R45")
@pytest.mark.parametrize("cookie", ["", f"session={Ticket.new(Handle.new()).identifier}"], ids=["save", "load"])
def test_outage_answered_by_the_app(serve, config, down, cookie):
    """The application's exception handler for StoreError answers an outage, at the load and at the save."""

    def sorry(request: Request, error: StoreError) -> Response[str]:
        return Response("sorry", status_code=502)

    app = Litestar([write], middleware=[config(sessions=down).middleware], exception_handlers={StoreError: sorry})

    answer = serve(app).post("/write?a=1", headers={"Cookie": cookie})

    assert (answer.status_code, answer.text) == (502, "sorry")


@pytest.mark.requirement("R45")
def test_outage_in_handler(serve, config, down):
    """A store that fails in the hands of a handler is a 503 too."""

    @post("/everywhere", status_code=200)
    async def everywhere() -> int:
        return await down.revoke_all("ada")

    client = serve(Litestar([everywhere], middleware=[config().middleware]))

    assert client.post("/everywhere").status_code == 503


@pytest.mark.requirement("R17")
def test_limit(serve, config):
    """A sign-in beyond the limit is a 403 and sets no cookie."""
    policy = SessionPolicy(subject_attribute="user_id", limit=1, at_limit=AtLimit.REFUSE)
    client = serve(Litestar([write], middleware=[config(policy=policy).middleware]))
    client.post("/write?user_id=ada")
    client.cookies.clear()

    answer = client.post("/write?user_id=ada")

    assert (answer.status_code, answer.headers.get("set-cookie")) == (403, None)


def test_http_exception_saves(serve, config):
    """What was done before an HTTPException is saved, as with Litestar's own sessions."""

    @post("/wrong", status_code=200)
    async def wrong(request: Request) -> None:
        request.session.increment("attempts")
        raise HTTPException(status_code=400)

    client = serve(Litestar([wrong, read], middleware=[config().middleware]))

    assert client.post("/wrong").status_code == 400

    assert client.get("/read").json() == {"attempts": 1}
