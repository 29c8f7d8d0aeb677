"""What every framework must do: one list of scenarios over real HTTP, with several worker processes.

`app` serves http in development, `guarded` https with a limit of two sessions a user; see fix_apps.
"""

import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from tests.frameworks.apps.common import METHODS, TYPES, shown
from tests.frameworks.fix_apps import FRAMEWORKS
from tests.frameworks.visits import at_once, sent
from tests.waiting import wait_until

CROWD = 64


def names(commands):
    """Give the names of the commands that were sent."""
    return [command.partition(" ")[0] for command in sent(commands)]


# One session, many workers


def test_travel(app):
    """What one worker has written, the others read."""
    first, second = app.workers()
    first.post("/set", name="a", value="1")

    second.cookie = first.cookie

    assert second.attributes == first.attributes == {"a": "1"}


def test_nested_change(app):
    """A change inside a stored list is kept, whichever worker makes it."""
    first, second = app.workers()
    first.post("/nested", value="1")
    second.cookie = first.cookie

    second.post("/nested", value="2")

    assert first.attributes == {"list": ["1", "2"]}


def test_delete(app):
    """A deleted attribute is gone, the others stay."""
    browser = app.browser()
    browser.post("/set", name="a", value="1")
    browser.post("/set", name="b", value="2")

    browser.post("/delete", name="a")

    assert browser.attributes == {"b": "2"}


@pytest.mark.requirement("R38")
def test_concurrent_writers(app):
    """64 concurrent requests that set different attributes lose none."""
    browser = app.browser()
    browser.post("/set", name="n", value="n")

    at_once(lambda n: browser.post("/set", name=f"n{n}", value=str(n)), range(CROWD))

    assert browser.attributes == {"n": "n"} | {f"n{n}": str(n) for n in range(CROWD)}


@pytest.mark.requirement("R38")
def test_concurrent_increments(app):
    """64 concurrent increments add up to 64."""
    browser = app.browser()
    browser.post("/set", name="a", value="1")

    at_once(lambda _: browser.post("/increment", name="count"), range(CROWD))

    assert browser.attributes == {"a": "1", "count": CROWD}


@pytest.mark.requirement("R38")
def test_concurrent_nested_changes(app):
    """64 concurrent requests that set different keys of one dict lose none."""
    browser = app.browser()
    browser.post("/nested-key", key="n", value="n")

    at_once(lambda n: browser.post("/nested-key", key=f"n{n}", value=str(n)), range(CROWD))

    assert browser.attributes == {"map": {"n": "n"} | {f"n{n}": str(n) for n in range(CROWD)}}


@pytest.mark.requirement("R38")
def test_strict(app, tmp_path):
    """A strict session answers 409, and writes nothing, where another request changed the same attribute."""
    browser = app.browser()
    browser.post("/set", name="a", value="1")
    with ThreadPoolExecutor(1) as pool:
        strict = pool.submit(browser.post, "/strict", name="a", value="mine", gate=tmp_path)
        wait_until((tmp_path / "started").exists, "the request has begun")

        browser.post("/set", name="a", value="theirs")
        (tmp_path / "go").touch()

        assert strict.result().status_code == 409
    assert browser.attributes == {"a": "theirs"}


# The end of a session


@pytest.mark.requirement("R55")
def test_logout(app, server):
    """A logout ends the session, leaves nothing in the store, and removes the cookie."""
    browser = app.signed_in()
    cookie = browser.cookie

    browser.post("/logout")

    assert browser.cookie == ""
    assert app.browser(cookie).attributes == {}
    assert server.left() == []


def test_clear(app):
    """A cleared session has ended: a copy of its cookie opens nothing."""
    browser = app.browser()
    browser.post("/set", name="a", value="1")
    copy = app.browser(browser.cookie)

    browser.post("/clear")

    assert copy.attributes == {}


@pytest.mark.requirement("R19")
def test_revoke_all(app):
    """Once it is answered, no worker accepts any session of the user; others are not touched."""
    own = [app.signed_in("ada", f"device {n}") for n in range(3)]
    other = app.signed_in("bob")
    first, second = app.workers()
    first.cookie = own[0].cookie

    assert first.post("/revoke-all").json() == {"ended": 3}

    for browser in own:
        first.cookie = second.cookie = browser.cookie
        assert first.attributes == second.attributes == {}
    assert other.attributes == {"user_id": "bob", "device": "laptop"}


@pytest.mark.requirement("R10")
def test_idle_timeout(app, clock):
    """A session unused for its idle timeout is not accepted, whatever the browser still holds."""
    browser = app.browser()
    browser.post("/set", name="a", value="1")
    clock.advance(timedelta(minutes=29))
    assert browser.attributes == {"a": "1"}

    clock.advance(timedelta(minutes=31))

    assert browser.attributes == {}


# Signing in


@pytest.mark.requirement("R28")
def test_sign_in(app, server):
    """A sign-in gives a new identifier and a new handle; the old ones are dead, the attributes stay."""
    browser = app.browser()
    browser.post("/set", name="a", value="1")
    cookie, handle = browser.cookie, browser.handle

    browser.post("/login", user="ada", device="laptop")

    assert browser.attributes == {"a": "1", "user_id": "ada", "device": "laptop"}
    assert browser.handle not in {handle, None}
    assert app.browser(cookie).attributes == {}
    assert handle[3:] not in " ".join(server.left())


def test_devices(app):
    """A user sees the handles of all own sessions, and of nobody else's."""
    own = [app.signed_in("ada", f"device {n}") for n in range(3)]
    app.signed_in("bob")

    devices = own[0].get("/devices").json()["devices"]

    assert sorted(devices) == sorted(browser.handle for browser in own)


def test_limit(guarded):
    """The third sign-in of a user who may have two sessions ends the oldest."""
    worker, cookies = guarded.workers()[0], []  # two would not agree to the millisecond which sign-in was first
    for n in range(3):
        worker.cookie = ""
        worker.post("/login", user="ada", device=f"device {n}")
        cookies.append(worker.cookie)
    first, second, third = map(guarded.browser, cookies)

    assert first.attributes == {}
    assert sorted(third.get("/devices").json()["devices"]) == sorted([second.handle, third.handle])


def test_rotate(app):
    """A rotation changes the identifier and keeps handle and attributes."""
    browser = app.browser()
    browser.post("/set", name="a", value="1")
    identifier, handle = browser.identifier, browser.handle

    browser.post("/rotate")

    assert browser.identifier != identifier
    assert (browser.handle, browser.attributes) == (handle, {"a": "1"})


# Cookies and headers


@pytest.mark.requirement("R3", "R4", "R5")
def test_cookie_over_https(guarded):
    """Over https the cookie is __Host-, Secure, HttpOnly, SameSite=Lax, for all paths and no other host; and small."""
    line = guarded.browser().post("/set", name="a", value="1").headers["set-cookie"]

    assert re.fullmatch(
        r"__Host-session=[A-Za-z0-9_-]{51}; Max-Age=43(199|200); Path=/; HttpOnly; SameSite=Lax; Secure", line
    )
    assert len(line) < 4096


@pytest.mark.requirement("R4")
def test_cookie_in_development(app):
    """In development, on http://127.0.0.1, the cookie has a plain name and no Secure, and all else."""
    line = app.browser().post("/set", name="a", value="1").headers["set-cookie"]

    assert re.fullmatch(r"session=[A-Za-z0-9_-]{51}; Max-Age=43(199|200); Path=/; HttpOnly; SameSite=Lax", line)


@pytest.mark.requirement("R5")
def test_cookie_of_large_session(app, shared_key):
    """The cookie of a session of 1 MB is as long as any other."""
    browser = app.browser()
    browser.post("/set", name="a", value="1")
    length = len(browser.cookie)
    with app.sessions() as sessions:
        session = sessions.load(browser.identifier)
        session["large"] = secrets.token_hex(500_000)
        sessions.save(session)

    browser.post("/rotate")

    assert len(browser.attributes["large"]) == 1_000_000
    assert len(browser.cookie) == length


@pytest.mark.requirement("R4")
def test_identifier_leaves_in_cookie_only(app):
    """No body and no other header carries the identifier or its secret."""
    browser = app.browser()
    answers = [browser.post("/login", user="ada", device="laptop"), browser.get("/read"), browser.get("/devices")]

    for answer in answers:
        others = [value for name, value in answer.headers.multi_items() if name != "set-cookie"]
        assert not [text for text in (answer.text, *others) if browser.identifier[-32:] in text]


@pytest.mark.requirement("R8")
@pytest.mark.parametrize("method", METHODS)
def test_mapping_method(app, method):
    """Every method of the mapping, reading or writing, makes the response vary by cookie and keeps it out of caches."""
    browser = app.browser()
    browser.post("/set", name="a", value="1")

    answer = browser.get(f"/mapping/{method}")

    assert answer.status_code == 200, answer.text
    assert "cookie" in answer.headers["vary"].lower()
    assert {"private", "no-store"} & set(re.split(r"[,\s]+", answer.headers["cache-control"]))


@pytest.mark.requirement("R8")
def test_untouched_response(app):
    """A response that has nothing to do with the session says nothing of it, even if a cookie came."""
    browser = app.browser()
    browser.post("/set", name="a", value="1")

    answer = browser.get("/untouched")

    assert not {"vary", "cache-control", "set-cookie"} & set(answer.headers)


# Round trips


@pytest.fixture
def warm(app):
    """Give a browser to each worker, with a session that each of them has used."""
    first, second = app.workers()
    first.post("/set", name="a", value="1")
    for browser in (first, second):
        browser.cookie = first.cookie
        browser.post("/set", name="b", value=secrets.token_hex(4))
        browser.get("/peek")
    return first, second


@pytest.mark.requirement("R39")
@pytest.mark.parametrize("path", ["/read", "/peek"])
def test_round_trips_of_read(warm, server, path):
    """A request that reads the session sends one command, and writes nothing."""
    for browser in warm:
        with server.commands() as commands:
            browser.get(path)

        assert names(commands) == ["MGET"]


def test_round_trips_of_change(warm, server):
    """A request that changes the session sends two commands."""
    for browser in warm:
        with server.commands() as commands:
            browser.post("/set", name="a", value=secrets.token_hex(4))

        assert names(commands) == ["MGET", "EVALSHA"]


@pytest.mark.requirement("R39")
def test_round_trips_of_untouched(warm, server, framework):
    """A request that does not touch the session sends no command; one where the framework must load it ahead."""
    for browser in warm:
        with server.commands() as commands:
            browser.get("/untouched")

        assert names(commands) == (["MGET"] if framework.loads_ahead else [])


@pytest.mark.requirement("R55")
@pytest.mark.parametrize("path", ["/read", "/untouched"])
def test_round_trips_without_cookie(app, server, path):
    """A request without a cookie sends no command, stores nothing and gets no cookie."""
    with server.commands() as commands:
        answer = app.browser().get(path)

    assert "set-cookie" not in answer.headers
    assert sent(commands) == []


@pytest.mark.requirement("R55")
@pytest.mark.parametrize("path", ["/logout", "/clear", "/rotate"])
def test_nobody_creates_nothing(app, server, path):
    """What would end or rotate a session stores nothing and sets no cookie where there is none."""
    answer = app.browser().post(path)

    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    assert server.client.dbsize() == 0


# Failures


@pytest.mark.requirement("R45")
def test_outage(guarded, frail):
    """While the store is down the answer is 503 and the cookie stays; afterwards the same session works."""
    browser = guarded.signed_in()
    cookie, before = browser.cookie, browser.attributes
    frail.kill()

    during = [browser.get("/read"), browser.post("/set", name="a", value="1"), browser.post("/logout")]
    frail.start()

    assert [answer.status_code for answer in during] == [503, 503, 503]
    assert all("retry-after" in answer.headers and "set-cookie" not in answer.headers for answer in during)
    assert browser.cookie == cookie
    wait_until(lambda: browser.get("/read").status_code == 200, "the store is asked again")
    assert browser.attributes == before


def test_handler_exception(app, framework):
    """A request that fails before it answers changes nothing, unless the framework saves with its error page too."""
    browser = app.browser()
    browser.post("/set", name="a", value="1")

    assert browser.get("/boom").status_code == 500

    after = app.browser(browser.cookie).attributes  # servers close the connection of a failed request
    assert after == ({"a": "1", "boom": 1} if framework.saves_on_error else {"a": "1"})


def test_handler_exception_of_stranger(app, framework, server):
    """A request that fails before it answers creates no session, unless the framework saves with its error page too."""
    answer = app.browser().get("/boom")

    assert answer.status_code == 500
    assert ("set-cookie" in answer.headers) == framework.saves_on_error
    assert bool(server.client.dbsize()) == framework.saves_on_error


# Values


def test_types(app):
    """Every neutral type comes back as it went in, on another worker too."""
    first, second = app.workers()
    first.post("/types")

    second.cookie = first.cookie

    assert second.get("/types").json() == {"repr": shown(TYPES)}


@pytest.mark.parametrize("reader", [pytest.param(name, id=f"read-by-{name}") for name in FRAMEWORKS])
def test_types_between_frameworks(app, running, server, shared_key, reader):
    """Every neutral type that one framework has written, every other framework reads, in the same session."""
    browser = app.browser()
    browser.post("/types")
    other = running.app(FRAMEWORKS[reader], server, shared_key)

    visitor = app.browser(browser.cookie, url=other.url)

    assert visitor.get("/types").json() == {"repr": shown(TYPES)}
