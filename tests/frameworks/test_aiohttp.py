"""The aiohttp adapter and the storage for aiohttp-session: what they promise beyond the scenarios that all share."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import aiohttp_session
import httpx
import pytest
import websockets.sync.client
from aiohttp import web

import coatcheck
from coatcheck import AsyncSessions, AtLimit, ConfigurationError, CookiePolicy, SessionPolicy, StoreError
from coatcheck.aiohttp import Storage, csrf_token, session_of, setup
from coatcheck.model.ticket import Handle, Ticket
from tests.frameworks.visits import url_of

# aiohttp-session keeps what is its own in a request under plain names.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning:aiohttp_session")

POLICY = SessionPolicy(subject_attribute="user_id")
PLAIN = CookiePolicy(secure=False)


async def read(request):
    """Answer with the attributes."""
    return web.json_response(dict(await session_of(request)))


async def write(request):
    """Set the attributes that the query names."""
    (await session_of(request)).update(request.query)
    response = web.Response(text="ok", headers={"Vary": "Accept"})
    response.set_cookie("other", "1")
    return response


@pytest.fixture
def options(server, key, clock):
    """Give sessions over the server, and a plain cookie, as setup and Storage take them."""
    return {"sessions": AsyncSessions(server.url, keys=key, policy=POLICY, clock=clock), "cookie": PLAIN}


@pytest.fixture
def down(key):
    """Give the same where the store is down."""
    return {"sessions": AsyncSessions("unix:///nonexistent/socket", keys=key, policy=POLICY), "cookie": PLAIN}


@pytest.fixture
def serve(serve_aiohttp):
    """Give a function that serves an app over HTTP and makes a client of it."""
    return serve_aiohttp


@pytest.fixture
def native(serve, options):
    """Give a function that makes a client of an app with our middleware, with further handlers."""

    def make(*, middlewares=(), debug=False, handlers=None, **changes):
        app = web.Application(middlewares=middlewares)
        setup(app, **{**options, **changes})
        for path, handler in {"/read": read, "/write": write, **(handlers or {})}.items():
            app.router.add_get(path, handler)
        return serve(app, debug=debug)

    return make


# The middleware


def test_redirect_after_sign_in(native):
    """A handler that signs in and raises HTTPFound is saved, and the redirect carries the cookie."""

    async def login(request):
        (await session_of(request))["user_id"] = "ada"
        raise web.HTTPFound("/read")

    client = native(handlers={"/login": login})

    assert client.get("/login").status_code == 302

    assert client.get("/read").json() == {"user_id": "ada"}


def test_stream(native):
    """A stream carries the cookie, and what is done after its headers have left is saved."""

    async def stream(request):
        session = await session_of(request)
        session["before"] = 1
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"ok")
        session["after"] = 2
        return response

    client = native(handlers={"/stream": stream})

    assert client.get("/stream").text == "ok"

    assert client.get("/read").json() == {"before": 1, "after": 2}


def test_file(native):
    """A response from a file carries the cookie."""

    async def file(request):
        (await session_of(request))["a"] = 1
        return web.FileResponse(__file__)

    client = native(handlers={"/file": file})
    client.get("/file")

    assert client.get("/read").json() == {"a": 1}


async def talk(request):
    """Say over a WebSocket what the session is to hold."""
    session = await session_of(request)
    session["began"] = 1
    channel = web.WebSocketResponse()
    await channel.prepare(request)
    session["said"] = await channel.receive_str()
    await channel.close()
    return channel


def test_websocket(native):
    """The handshake of a WebSocket carries the cookie, and what is done later is saved."""
    client = native(handlers={"/talk": talk})

    with websockets.sync.client.connect(url_of(client, "/talk"), proxy=None) as connection:
        cookie = connection.response.headers["Set-Cookie"].partition(";")[0]
        connection.send("hello")
        with pytest.raises(websockets.ConnectionClosedOK):
            connection.recv()

    assert client.get("/read", headers={"Cookie": cookie}).json() == {"began": 1, "said": "hello"}


def test_other_headers(native):
    """Cookies and Vary of the application's own stay beside ours."""
    answer = native().get("/write?a=1")

    assert sorted(line.partition("=")[0] for line in answer.headers.get_list("set-cookie")) == ["other", "session"]
    assert answer.headers["vary"] == "Accept, Cookie"


def test_inner_app(serve, options):
    """An application inside another has its sessions, also in its streams."""

    async def stream(request):
        (await session_of(request))["a"] = 1
        response = web.StreamResponse()
        await response.prepare(request)
        return response

    inner = web.Application()
    setup(inner, **options)
    inner.router.add_get("/read", read)
    inner.router.add_get("/stream", stream)
    outer = web.Application()
    outer.add_subapp("/inner", inner)
    client = serve(outer)
    client.get("/inner/stream")

    assert client.get("/inner/read").json() == {"a": 1}


@pytest.mark.requirement("R6")
def test_several_cookie_headers(native):
    """Two Cookie headers are one: a cookie that stands in both counts as none."""
    client = native()
    client.get("/write?a=1")
    mine = f"session={client.cookies.pop('session')}"

    answers = [
        client.get("/read", headers=[("Cookie", first), ("Cookie", second)]).json()
        for first, second in [("other=1", mine), (mine, mine)]
    ]

    assert answers == [{"a": "1"}, {}]


@pytest.mark.requirement("R3")
@pytest.mark.parametrize(("debug", "name"), [(True, "session"), (False, "__Host-session")])
def test_debug(native, debug, name):
    """On http://127.0.0.1 the cookie is a plain one in asyncio's debug mode only."""
    answer = native(cookie=None, debug=debug).get("/write?a=1")

    assert name in [line.partition("=")[0] for line in answer.headers.get_list("set-cookie")]


@pytest.mark.anyio
@pytest.mark.parametrize("own", [True, False])
async def test_cleanup(server, key, own):
    """The end of the app closes the sessions that setup has made, and leaves those it was given."""
    mine = AsyncSessions(server.url, keys=key)
    app = web.Application()
    setup(app, **({"url": server.url, "keys": key} if own else {"sessions": mine}), cookie=PLAIN)
    app.router.add_get("/write", write)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    before = len(server.client.client_list())
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.get(f"http://127.0.0.1:{runner.addresses[0][1]}/write?a=1")

    await runner.cleanup()
    opened = len(server.client.client_list()) - before
    await mine.close()

    assert opened == (0 if own else 1)


@pytest.mark.parametrize(
    ("name", "make"), [("setup", lambda **options: setup(web.Application(), **options)), ("Storage", Storage)]
)
def test_settings_twice(options, name, make):
    """Sessions and settings for sessions exclude each other."""
    with pytest.raises(ConfigurationError, match=f"^give {name} either sessions, or url, keys, policy and prefix$"):
        make(url="redis://elsewhere", **options)


@pytest.mark.parametrize("ask", [session_of, csrf_token])
def test_without_setup(serve, ask):
    """session_of and csrf_token say what is missing."""

    async def explain(request):
        try:
            await ask(request)
        except ConfigurationError as error:
            return web.Response(text=str(error))

    app = web.Application()
    app.router.add_get("/", explain)

    assert "call coatcheck.aiohttp.setup(app)" in serve(app).get("/").text


# Failures


@pytest.mark.requirement("R45")
def test_outage_at_save(native, down):
    """A session that could not be saved is a 503, and neither the handler's answer nor a cookie leaves."""
    answer = native(**down).get("/write?a=1")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "set-cookie" not in answer.headers


@pytest.mark.requirement("R45")
def test_outage_at_stream(native, down):
    """A stream that cannot save its session does not begin: the answer is a whole 503."""

    async def stream(request):
        (await session_of(request))["a"] = 1
        response = web.StreamResponse()
        await response.prepare(request)
        return response

    client = native(handlers={"/stream": stream}, **down)

    answers = [client.get("/stream"), client.get("/stream")]

    assert [answer.status_code for answer in answers] == [503, 503]
    assert "try again" in answers[0].text


@pytest.mark.requirement("R45")
def test_outage_at_websocket(native, down):
    """A WebSocket that cannot save its session is refused with 503."""
    client = native(handlers={"/talk": talk}, **down)

    with pytest.raises(websockets.InvalidStatus) as refused:
        websockets.sync.client.connect(url_of(client, "/talk"), proxy=None)

    assert refused.value.response.status_code == 503


@pytest.mark.requirement("R45")
def test_outage_answered_by_the_app(native, down):
    """An outer middleware may answer an outage in its own way."""

    @web.middleware
    async def sorry(request, handler):
        try:
            return await handler(request)
        except web.HTTPServiceUnavailable as answer:
            return web.Response(text=type(answer.__cause__).__name__, status=502)

    answer = native(middlewares=[sorry], **down).get("/write?a=1")

    assert (answer.status_code, answer.text) == (502, "StoreUnavailable")


@pytest.mark.requirement("R45")
def test_outage_in_handler(native, down):
    """A store that fails in the hands of a handler is a 503 too."""

    async def everywhere(request):
        return web.json_response(await down["sessions"].revoke_all("ada"))

    assert native(handlers={"/everywhere": everywhere}).get("/everywhere").status_code == 503


def test_outage_survived_by_handler(native, down):
    """A handler that catches StoreError answers without a session."""

    async def greet(request):
        try:
            await session_of(request)
        except StoreError:
            return web.Response(text="hello, whoever you are")

    client = native(handlers={"/greet": greet}, **down)
    client.cookies["session"] = Ticket.new(Handle.new()).identifier

    assert client.get("/greet").text == "hello, whoever you are"


@pytest.mark.requirement("R17")
def test_limit(native, server, key):
    """A sign-in beyond the limit is a 403 and sets no cookie."""
    policy = SessionPolicy(subject_attribute="user_id", limit=1, at_limit=AtLimit.REFUSE)
    client = native(sessions=AsyncSessions(server.url, keys=key, policy=policy))
    client.get("/write?user_id=ada")
    client.cookies.clear()

    answer = client.get("/write?user_id=ada")

    assert answer.status_code == 403
    assert "session" not in answer.cookies


# The storage for aiohttp-session


async def stored_read(request):
    """Answer with the attributes."""
    session = await aiohttp_session.get_session(request)
    return web.json_response({"new": session.new, "attributes": dict(session)})


async def stored_write(request):
    """Set the attributes that the query names."""
    (await aiohttp_session.get_session(request)).update(request.query)
    return web.Response()


async def stored_login(request):
    """Sign in as aiohttp-session advises: in a new session."""
    session = await aiohttp_session.new_session(request)
    session.update(request.query)
    raise web.HTTPFound("/read")


async def stored_logout(request):
    """End the session as aiohttp-session says it."""
    (await aiohttp_session.get_session(request)).invalidate()
    return web.Response()


@pytest.fixture
def stored(serve, options):
    """Give a function that makes a client of an app with aiohttp-session over our storage, with further handlers."""

    def make(handlers=None, **changes):
        storage = Storage(**{**options, **changes})
        app = web.Application()
        aiohttp_session.setup(app, storage)
        app.on_cleanup.append(storage.close)
        routes = {"/read": stored_read, "/write": stored_write, "/login": stored_login, "/logout": stored_logout}
        for path, handler in {**routes, **(handlers or {})}.items():
            app.router.add_get(path, handler)
        return serve(app)

    return make


@pytest.mark.requirement("R55")
def test_storage(stored, server):
    """get_session keeps what is set; one who only looks leaves nothing in the store and gets no cookie."""
    client = stored()

    stranger = client.get("/read")
    assert (stranger.json(), stranger.headers.get("set-cookie")) == ({"new": True, "attributes": {}}, None)
    assert server.left() == []

    client.get("/write?a=1")
    assert client.get("/read").json() == {"new": False, "attributes": {"a": "1"}}


def test_storage_round_trips(stored, server):
    """Reading takes one command, changing two, and a request that does not ask none."""

    async def untouched(request):
        return web.Response()

    client = stored({"/untouched": untouched})
    client.get("/write?a=1")
    names = []

    for path in ("/untouched", "/read", "/write?a=2"):
        with server.commands() as commands:
            client.get(path)
        names.append([command.partition(" ")[0] for command in commands])

    assert names == [[], ["MGET"], ["MGET", "EVALSHA"]]


@pytest.mark.requirement("R8")
def test_storage_headers(stored):
    """A response that depends on the session says so."""
    answer = stored().get("/read")

    assert (answer.headers["vary"], answer.headers["cache-control"]) == ("Cookie", "private, no-store")


def test_storage_nested_change(stored):
    """A change inside a value is kept without a call of changed()."""

    async def push(request):
        session = await aiohttp_session.get_session(request)
        session.setdefault("list", []).append(1)
        return web.Response()

    client = stored({"/push": push})

    client.get("/push")
    client.get("/push")

    assert client.get("/read").json()["attributes"] == {"list": [1, 1]}


def test_storage_values(stored):
    """Values that JSON does not know come back as they were."""
    moment = datetime(2026, 1, 2, tzinfo=UTC)

    async def keep(request):
        (await aiohttp_session.get_session(request))["moment"] = moment
        return web.Response()

    async def compare(request):
        return web.json_response((await aiohttp_session.get_session(request))["moment"] == moment)

    client = stored({"/keep": keep, "/compare": compare})
    client.get("/keep")

    assert client.get("/compare").json() is True


@pytest.mark.requirement("R38")
def test_storage_merges(stored, server, key):
    """What another request writes to another attribute meanwhile stays."""

    async def slow(request):
        session = await aiohttp_session.get_session(request)
        with coatcheck.Sessions(server.url, keys=key, policy=POLICY) as others:
            theirs = others.find(session.identity)
            theirs["theirs"] = 1
            others.save(theirs)
        session["mine"] = 2
        return web.Response()

    client = stored({"/slow": slow})
    client.get("/write?a=1")

    client.get("/slow")

    assert client.get("/read").json()["attributes"] == {"a": "1", "mine": 2, "theirs": 1}


@pytest.mark.requirement("R10")
def test_storage_touches(stored, clock):
    """Reading alone keeps a session alive; without it the idle timeout ends it."""
    client = stored()
    client.get("/write?a=1")
    for _ in range(3):
        clock.advance(timedelta(minutes=20))
        assert client.get("/read").json()["attributes"] == {"a": "1"}

    clock.advance(timedelta(minutes=31))

    assert client.get("/read").json()["attributes"] == {}


@pytest.mark.requirement("R55")
@pytest.mark.parametrize("query", ["a=1", "user_id=ada"])
def test_storage_invalidate(stored, server, query):
    """invalidate() ends the session and removes its cookie."""
    client = stored()
    client.get(f"/write?{query}")
    identifier = client.cookies["session"]

    answer = client.get("/logout")

    assert "max-age=0" in answer.headers["set-cookie"].lower()
    with server.commands():
        again = client.get("/read", headers={"Cookie": f"session={identifier}"})
    assert again.json() == {"new": True, "attributes": {}}


def test_storage_invalidate_and_go_on(stored):
    """A session that was invalidated and then filled again holds the new attributes only."""

    async def start_over(request):
        session = await aiohttp_session.get_session(request)
        session.invalidate()
        session["b"] = 2
        return web.Response()

    client = stored({"/over": start_over})
    client.get("/write?a=1")

    client.get("/over")

    assert client.get("/read").json()["attributes"] == {"b": 2}


@pytest.mark.requirement("R28")
@pytest.mark.parametrize("former", ["cart=1", "user_id=eve"])
def test_storage_new_session(stored, server, former):
    """new_session gives a new identifier, and the former one opens nothing any more."""
    client = stored()
    client.get(f"/write?{former}")
    before = client.cookies["session"]

    client.get("/login?user_id=ada")

    assert client.cookies["session"] != before
    assert client.get("/read").json()["attributes"] == {"user_id": "ada"}
    assert client.get("/read", headers={"Cookie": f"session={before}"}).json()["new"] is True
    assert len([name for name in server.left() if ":s:" in name]) == 1


@pytest.mark.requirement("R2")
def test_storage_fixation(stored):
    """An identifier that somebody chose is not adopted."""
    client = stored()
    chosen = Ticket.new(Handle.new()).identifier

    answer = client.get("/write?a=1", headers={"Cookie": f"session={chosen}"})

    assert chosen not in answer.headers["set-cookie"]


def test_storage_new_session_within_limit(stored, server, key):
    """Signing in anew takes the place of the same browser's session, also where the limit is reached."""
    policy = SessionPolicy(subject_attribute="user_id", limit=1, at_limit=AtLimit.REFUSE)
    client = stored(sessions=AsyncSessions(server.url, keys=key, policy=policy))
    client.get("/login?user_id=ada")

    assert client.get("/login?user_id=ada").status_code == 302


@pytest.mark.requirement("R17")
def test_storage_refused_sign_in(stored, server, key):
    """A sign-in that the limit refuses leaves the anonymous session as it was."""
    policy = SessionPolicy(subject_attribute="user_id", limit=1, at_limit=AtLimit.REFUSE)
    client = stored(sessions=AsyncSessions(server.url, keys=key, policy=policy))
    client.get("/login?user_id=ada")
    client.cookies.clear()
    client.get("/write?cart=1")

    assert client.get("/login?user_id=ada").status_code == 403

    assert client.get("/read").json()["attributes"] == {"cart": "1"}


def test_storage_max_age(stored, clock):
    """max_age is how long the session lives unused; None makes the browser forget it when it closes."""

    async def remember(request):
        session = await aiohttp_session.get_session(request)
        session["a"] = 1
        session.max_age = 86400 * 7 if "long" in request.query else None
        return web.json_response(session.max_age)

    client = stored({"/remember": remember})

    long, short = client.get("/remember?long"), client.get("/remember")

    assert (long.json(), short.json()) == (604800, None)
    assert "Max-Age=604" in long.headers["set-cookie"]
    assert "Max-Age" not in short.headers["set-cookie"]
    clock.advance(timedelta(days=6))
    assert client.get("/read").json()["attributes"] == {"a": 1}


def test_storage_session_of(stored):
    """session_of gives the Session behind aiohttp-session's, also behind a new one."""

    async def count(request):
        if "new" in request.query:
            await aiohttp_session.new_session(request)
        return web.json_response((await session_of(request)).increment("count"))

    client = stored({"/count": count})

    assert [client.get(f"/count{query}").json() for query in ("", "", "?new", "")] == [1, 2, 1, 2]


@pytest.mark.requirement("R45")
@pytest.mark.parametrize("cookie", ["", f"session={Ticket.new(Handle.new()).identifier}"], ids=["save", "load"])
def test_storage_outage(stored, down, cookie):
    """While the store is down the answer is 503 and the cookie stays, at the load and at the save."""
    answer = stored(**down).get("/write?a=1", headers={"Cookie": cookie})

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "set-cookie" not in answer.headers


def test_without_aiohttp_session():
    """The middleware needs no aiohttp-session; the storage says how to get it."""
    program = """if True:
        import sys
        sys.modules["aiohttp_session"] = None
        from coatcheck.aiohttp import Storage, setup
        try:
            Storage()
        except Exception as error:
            print(error)
    """

    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert 'Storage needs aiohttp-session: pip install "coatcheck[aiohttp]"' in output
