"""Attacks over HTTP, on the app of every framework, served by real servers with several worker processes."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from coatcheck.model.ticket import Handle, Ticket
from tests.frameworks.visits import at_once, sent, stranger
from tests.waiting import wait_until

ROUNDS = 200
ROUNDS_AT_ONCE = 6  # below the threads of one worker, all of which may have to wait for a logout


@pytest.mark.requirement("R2")
def test_fixation(app, server):
    """A well-formed identifier that the store does not know is never adopted."""
    chosen = stranger()
    browser = app.browser(f"session={chosen.identifier}")

    browser.post("/set", name="a", value="1")

    assert browser.identifier != chosen.identifier
    assert browser.attributes == {"a": "1"}
    assert chosen.handle.name not in " ".join(server.left())


def test_forged_secret(app):
    """The right handle with another secret opens nothing, and what it writes goes elsewhere."""
    browser = app.browser()
    browser.post("/set", name="a", value="1")
    forger = app.browser(f"session={Ticket.new(Handle.parse(browser.handle)).identifier}")

    assert forger.attributes == {}
    forger.post("/set", name="a", value="forged")

    assert browser.attributes == {"a": "1"}
    assert forger.handle != browser.handle


@pytest.mark.requirement("R28", "R2")
def test_planted_session(app, server):
    """A session that an attacker has planted in a victim's browser is not the one the victim signs in with."""
    attacker = app.browser()
    attacker.post("/set", name="a", value="1")
    victim = app.browser(attacker.cookie)

    victim.post("/login", user="ada", device="laptop")

    assert victim.identifier != attacker.identifier
    assert victim.attributes["user_id"] == "ada"
    for worker in app.workers(attacker.cookie):
        assert worker.attributes == {}
        worker.cookie = attacker.cookie
        worker.post("/set", name="a", value="2")
    assert victim.attributes["a"] == "1"


@pytest.mark.requirement("R30")
def test_replay(app, clock):
    """An identifier that was rotated away opens nothing at any worker, and ends the session it was stolen from."""
    browser = app.signed_in()
    stolen = browser.cookie
    with app.sessions(clock=clock) as elsewhere:
        clock.moved -= 60_000  # as if the rotation, and its grace, were a minute ago
        session = elsewhere.load(browser.identifier)
        elsewhere.rotate(session)
        browser.cookie = f"{browser.cookie.partition('=')[0]}={session.identifier}"
        assert browser.attributes["user_id"] == "ada"

        for worker in app.workers(stolen):
            assert worker.attributes == {}

        assert browser.attributes == {}
        assert [event.type.value for event in elsewhere.read_events("audit", "one")].count("replayed") == 1


@pytest.mark.requirement("R20")
def test_slow_request_against_logout(app, server, tmp_path):
    """In 200 rounds, a request that ends after a logout never brings the session back, nor sets a cookie."""

    def play(number):
        gate = tmp_path / str(number)
        gate.mkdir()
        slow = app.browser(cookies[number])
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(slow.post, "/slow-set", name="a", value="1", gate=gate)
            wait_until((gate / "started").exists, "the request has begun")
            app.browser(cookies[number]).post("/logout")
            (gate / "go").touch()
            return answer.result()

    cookies = [app.signed_in().cookie for _ in range(ROUNDS)]

    answers = at_once(play, range(ROUNDS), threads=ROUNDS_AT_ONCE)

    assert {answer.status_code for answer in answers} == {200}
    assert not [answer for answer in answers if "set-cookie" in answer.headers]
    assert server.left() == []


@pytest.mark.requirement("R20", "R21")
@pytest.mark.parametrize("end", ["revoke_all", "revoke_everyone"])
def test_slow_request_against_revocation(app, server, tmp_path, end):
    """A request that ends after all sessions of its user were ended brings nothing back and sets no cookie."""
    browser = app.signed_in()
    with ThreadPoolExecutor(1) as pool, app.sessions() as elsewhere:
        answer = pool.submit(browser.post, "/slow-set", name="a", value="1", gate=tmp_path)
        wait_until((tmp_path / "started").exists, "the request has begun")
        elsewhere.revoke_all("ada") if end == "revoke_all" else elsewhere.revoke_everyone()
        (tmp_path / "go").touch()

        assert "set-cookie" not in answer.result().headers
    assert browser.attributes == {}
    assert end == "revoke_everyone" or server.left() == []


GOOD = stranger().identifier
BAD_COOKIES = {
    "empty": b"session=",
    "nameless": b"=;;;=",
    "garbled": b"session=%00%ff{}",
    "truncated": f"session={GOOD[:-1]}".encode(),
    "prolonged": f"session={GOOD}A".encode(),
    "other format": f"session=B{GOOD[1:]}".encode(),
    "quoted": f'session="{GOOD}"'.encode(),
    "not ASCII": b"session=\xff\xfe\xc3\xa9" + GOOD[4:].encode(),
    "oversized": b"session=" + b"A" * 7900,
    "beyond servers": b"session=" + b"A" * 8192,
    "duplicate": f"session={GOOD}; session={GOOD}".encode(),
}


@pytest.mark.requirement("R6", "R55")
@pytest.mark.parametrize("cookie", BAD_COOKIES.values(), ids=BAD_COOKIES)
def test_bad_cookie(app, server, cookie):
    """A cookie that is not exactly one well-formed identifier sends nothing to the store and is no server error."""
    browser = app.browser(cookie)

    with server.commands() as commands:
        status = browser.get("/read").status_code

    assert status == 200 or (status < 500 and len(cookie) > 8190)  # which some servers refuse by themselves
    assert sent(commands) == []


@pytest.mark.requirement("R6")
def test_duplicate_cookies(app):
    """Two session cookies count as none, even if one of them is the right one."""
    browser = app.browser()
    browser.post("/set", name="a", value="1")

    tossed = app.browser(f"session={GOOD}; {browser.cookie}")

    assert tossed.attributes == {}


@pytest.mark.requirement("R6", "R3")
@pytest.mark.parametrize(
    "planted", ["session={}", "session={}; session={}", "__Secure-session={}", "__host-session={}"]
)
def test_cookie_of_a_sister_domain(guarded, planted):
    """Over https only the __Host- name counts, which no other host can plant: a planted cookie changes nothing."""
    victim, attacker = guarded.signed_in("ada"), guarded.signed_in("mallory")
    planted = planted.format(attacker.identifier, attacker.identifier)

    for cookie in (f"{planted}; {victim.cookie}", f"{victim.cookie}; {planted}"):
        assert guarded.browser(cookie).attributes["user_id"] == "ada"
    assert guarded.browser(planted).attributes == {}


@pytest.mark.requirement("R34")
def test_pickles(app, bombs):
    """A pickle as a cookie, a parameter, a form or a value of the session is text, and never loaded."""
    for bomb in bombs:
        cookie = b"session=" + re.sub(rb"[^!-~]|[;,]", b"", bomb)
        assert app.browser(cookie).get("/read").status_code == 200
        browser = app.browser()
        text = bomb.decode("latin-1").encode("ascii", "backslashreplace").decode()
        assert browser.request("POST", "/set", params={"name": "a", "value": text}, content=bomb).status_code == 200
        assert browser.attributes == {"a": text}


@pytest.mark.requirement("R7")
@pytest.mark.parametrize(
    "place",
    [
        lambda identifier: {"params": {"session": identifier, "sessionid": identifier}},
        lambda identifier: {"headers": {"Session": identifier, "Authorization": f"Bearer {identifier}"}},
        lambda identifier: {"data": {"session": identifier}},
    ],
    ids=["url", "header", "body"],
)
def test_identifier_elsewhere(app, server, place):
    """An identifier counts in the cookie only."""
    browser = app.browser()
    browser.post("/set", name="a", value="1")

    with server.commands() as commands:
        answer = app.browser().request("GET", "/read", **place(browser.identifier))

    assert answer.json() == {"attributes": {}, "handle": None}
    assert sent(commands) == []
