"""One request's dealings with its session: which cookie is set, removed or left alone, and what caches may keep."""

from datetime import timedelta

import pytest

from coatcheck import (
    AtLimit,
    CookiePolicy,
    Keyring,
    RecordCorrupted,
    SessionConflict,
    SessionLimitReached,
    SessionPolicy,
    SessionRevoked,
    StoreUnavailable,
)
from coatcheck.engine import exchange as engine_exchange
from coatcheck.engine.exchange import Exchange
from coatcheck.engine.operations import Operations
from coatcheck.model.ticket import Handle, Ticket
from coatcheck.runtime.sync import run

HOST = "shop.example"
REMOVED = "__Host-session=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/; HttpOnly; SameSite=Lax; Secure"


@pytest.fixture
def make(wire, key, clock):
    """Give a function that makes an exchange under a policy and a cookie policy."""

    def exchange(cookie=None, **policy):
        operations = Operations(wire, keyring=Keyring.parse(key), clock=clock, policy=SessionPolicy(**policy))
        return Exchange(operations, cookie or CookiePolicy())

    return exchange


@pytest.fixture
def exchange(make):
    """Give an exchange under the default policies."""
    return make()


def begin(exchange, identifier=None):
    """Begin a request that brings *identifier*, or no cookie."""
    cookies = None if identifier is None else f"theme=dark; __Host-session={identifier}; other=1"
    return exchange.begin(cookies, https=True, host=HOST)


def request(exchange, identifier, handler):
    """Carry out a request that does *handler* to its session; give what its response says."""
    visit = begin(exchange, identifier)
    handler(run(exchange.load(visit)))
    return run(exchange.finish(visit))


def value_of(outcome):
    """Give the value that an outcome sets the cookie to."""
    return outcome.set_cookie.partition("=")[2].partition(";")[0]


@pytest.fixture
def stored(exchange):
    """Give a stored session."""
    return run(exchange.sessions.create({"a": 1}))


@pytest.fixture
def loaded(exchange, stored):
    """Give the visit of a request that has loaded that session."""
    visit = begin(exchange, stored.identifier)
    run(exchange.load(visit))
    return visit


# What is told at once


def test_settled(exchange, loaded):
    """What a request leaves as it was, shortly after an earlier use, is settled at once."""
    assert exchange.settled(loaded) is not None


def test_settled_for_a_tenth_of_the_idle_timeout(exchange, loaded, clock):
    """A request that ends later than that has to note that the session is used."""
    clock.advance(exchange.sessions.policy.idle_timeout / 10)

    assert exchange.settled(loaded) is None


def test_settled_where_others_have_loaded(loaded, wire, key):
    """Who does not know the time yet cannot tell at once, and says so: in Django a view may be of the other kind."""
    other = Exchange(Operations(wire, keyring=Keyring.parse(key)), CookiePolicy())

    assert other.settled(loaded) is None


@pytest.mark.parametrize("whose", ["own", "another's"])
def test_settled_by_the_present_idle_timeout(exchange, loaded, clock, whose):
    """Where the idle timeout gets shorter during a request, by its own save or another's, that one counts."""
    session = loaded.session
    changed = session if whose == "own" else run(exchange.sessions.load(session.identifier))
    changed.set_timeouts(idle=timedelta(seconds=2))
    run(exchange.sessions.save(changed))
    assert run(exchange.sessions.refresh(session))

    clock.advance(timedelta(seconds=1))

    assert exchange.settled(loaded) is None


@pytest.mark.requirement("R55")
@pytest.mark.parametrize("identifier", [None, "", "garbage", "A" * 51])
def test_request_without_a_session(exchange, server, identifier):
    """A request without a good cookie that writes nothing stores nothing, sends nothing and sets no cookie."""
    with server.commands() as commands:
        outcome = request(exchange, identifier, lambda session: session.get("a"))

    assert commands == []
    assert outcome.set_cookie is None
    assert outcome.is_private


def test_request_that_does_not_look(exchange, stored, server):
    """A request that never loads its session costs nothing and may be cached."""
    with server.commands() as commands:
        outcome = run(exchange.finish(begin(exchange, stored.identifier)))

    assert commands == []
    assert list(outcome.headers(None, None)) == []


@pytest.mark.requirement("R8")
def test_loaded_but_not_looked_at(exchange, stored):
    """A session that was loaded ahead but not looked at does not make the response private."""
    outcome = request(exchange, stored.identifier, lambda session: None)

    assert list(outcome.headers(None, "public")) == []


@pytest.mark.requirement("R3")
@pytest.mark.requirement("R4")
def test_first_write_sets_the_cookie(exchange):
    """A first write stores the session and sets the cookie, with everything that protects it."""
    outcome = request(exchange, None, lambda session: session.update(a=1))
    identifier = value_of(outcome)

    age = outcome.set_cookie.partition("Max-Age=")[2].partition(";")[0]
    assert outcome.set_cookie == (f"__Host-session={identifier}; Max-Age={age}; Path=/; HttpOnly; SameSite=Lax; Secure")
    assert 12 * 3600 - 2 <= int(age) <= 12 * 3600
    assert dict(run(exchange.sessions.load(identifier))) == {"a": 1}


@pytest.mark.requirement("R2")
def test_unknown_identifier_is_not_adopted(exchange, server):
    """An identifier that a client made up is never used: a write goes to a new one."""
    forged = Ticket.new(Handle.new())

    outcome = request(exchange, forged.identifier, lambda session: session.update(a=1))

    assert value_of(outcome) != forged.identifier
    assert server.keys(forged.handle.name) == []


def test_change_needs_no_new_cookie(exchange, stored):
    """A change of attributes leaves the cookie as it is."""
    outcome = request(exchange, stored.identifier, lambda session: session.update(a=2))

    assert outcome.set_cookie is None
    assert outcome.is_private
    assert dict(run(exchange.sessions.load(stored.identifier))) == {"a": 2}


@pytest.mark.requirement("R29")
def test_rotation_sets_the_cookie(exchange, stored):
    """A rotation gives the browser the new identifier."""
    outcome = request(exchange, stored.identifier, lambda session: session.rotate())

    assert value_of(outcome) != stored.identifier
    assert dict(run(exchange.sessions.load(value_of(outcome)))) == {"a": 1}


@pytest.mark.requirement("R28")
def test_sign_in_sets_the_cookie(make):
    """A request that sets the subject's attribute gives the browser a new identifier; the old one is dead."""
    exchange = make(subject_attribute="user_id")
    old = value_of(request(exchange, None, lambda session: session.update(a=1)))

    outcome = request(exchange, old, lambda session: session.update(user_id=7))

    assert run(exchange.sessions.load(old)) is None
    assert run(exchange.sessions.load(value_of(outcome))).subject == "7"


def test_sign_out_sets_the_cookie_anew(make):
    """A request that removes the subject's attribute goes on under a new identifier where something is left."""
    exchange = make(subject_attribute="user_id")
    old = value_of(request(exchange, None, lambda session: session.update(a=1, user_id=7)))

    outcome = request(exchange, old, lambda session: session.pop("user_id"))

    assert value_of(outcome) not in {"", old}
    assert run(exchange.sessions.load(old)) is None
    assert dict(run(exchange.sessions.load(value_of(outcome)))) == {"a": 1}


@pytest.mark.parametrize("persistent", [True, False])
def test_change_of_settings_sets_the_cookie(exchange, stored, persistent):
    """A change of timeouts or of persistence is told to the browser, under the same identifier."""

    def handler(session):
        session.set_timeouts(idle=timedelta(days=7), absolute=timedelta(days=30), persistent=persistent)

    outcome = request(exchange, stored.identifier, handler)

    assert value_of(outcome) == stored.identifier
    assert ("Max-Age=25919" in outcome.set_cookie or "Max-Age=2592000" in outcome.set_cookie) == persistent
    assert ("Max-Age" in outcome.set_cookie) == persistent


@pytest.mark.requirement("R29")
def test_superseded_request_sets_no_cookie(exchange, stored):
    """A request that came with the former identifier never gives it out again, whatever it changes."""
    visit = begin(exchange, stored.identifier)
    session = run(exchange.load(visit))
    new = value_of(request(exchange, stored.identifier, lambda other: other.rotate()))
    session.rotate()
    session["b"] = 2
    session.set_timeouts(persistent=False)

    outcome = run(exchange.finish(visit))

    assert outcome.set_cookie is None
    assert dict(run(exchange.sessions.load(new))) == {"a": 1, "b": 2}


@pytest.mark.parametrize("how", ["revoke", "clear", "delete"])
def test_end_removes_the_cookie(exchange, stored, server, how):
    """A request that ends its session, or leaves nothing in it, removes the cookie that it brought."""
    handlers = {
        "revoke": lambda session: session.revoke(),
        "clear": lambda session: session.clear(),
        "delete": lambda session: session.pop("a"),
    }

    outcome = request(exchange, stored.identifier, handlers[how])

    assert outcome.set_cookie == REMOVED
    assert server.left() == []


def test_end_without_a_cookie(exchange):
    """A request that brought no cookie has none to remove."""
    outcome = request(exchange, None, lambda session: session.revoke())

    assert outcome.set_cookie is None


def test_sign_out_of_nobody(exchange):
    """Clearing a session that is not there removes and sets nothing."""
    outcome = request(exchange, None, lambda session: session.clear())

    assert outcome.set_cookie is None


@pytest.mark.requirement("R20")
@pytest.mark.parametrize("how", ["write", "rotate", "settings", "read"])
def test_request_that_ends_after_a_logout(exchange, stored, server, how, clock):
    """A request whose session was ended meanwhile revives nothing and leaves the cookie alone."""
    visit = begin(exchange, stored.identifier)
    session = run(exchange.load(visit))
    clock.advance(timedelta(minutes=5))
    run(exchange.sessions.revoke(stored.handle))
    {
        "write": lambda: session.update(a=2),
        "rotate": session.rotate,
        "settings": lambda: session.set_timeouts(persistent=False),
        "read": lambda: session["a"],
    }[how]()

    outcome = run(exchange.finish(visit))

    assert outcome.set_cookie is None
    assert outcome.is_private
    assert server.left() == []


def test_cookie_is_set_once(exchange):
    """The cookie goes out with one response: a second look finds nothing to set."""
    visit = begin(exchange)
    run(exchange.load(visit))["a"] = 1
    assert run(exchange.finish(visit)).set_cookie is not None

    assert run(exchange.finish(visit)).set_cookie is None


@pytest.mark.requirement("R6")
@pytest.mark.parametrize("second", ["same", "other", "garbage"])
def test_duplicate_cookies(exchange, stored, server, second, caplog):
    """Two cookies of our name count as none, even two equal ones: one may be planted. It is logged."""
    other = {"same": stored.identifier, "other": Ticket.new(Handle.new()).identifier, "garbage": ""}[second]
    cookies = f"__Host-session={stored.identifier}; __Host-session={other}"

    with server.commands() as commands:
        visit = exchange.begin(cookies, https=True, host=HOST)
        session = run(exchange.load(visit))

    assert commands == []
    assert dict(session) == {}
    assert [record.getMessage() for record in caplog.records] == ["session_cookie_duplicated"]
    assert stored.identifier not in str(caplog.records[0].__dict__)


@pytest.mark.requirement("R3")
@pytest.mark.parametrize(
    ("policy", "https", "host", "name", "is_secure"),
    [
        ({}, True, "shop.example", "__Host-session", True),
        ({}, False, "shop.example", "__Host-session", True),
        ({}, False, "localhost", "__Host-session", True),
        ({"development": True}, True, "localhost", "__Host-session", True),
        ({"development": True}, False, "localhost:8000", "session", False),
        ({"development": True}, False, "127.0.0.1:8000", "session", False),
        ({"development": True}, False, "[::1]:8000", "session", False),
        ({"development": True}, False, "shop.example", "__Host-session", True),
        ({"development": True}, False, "localhost.evil.example", "__Host-session", True),
        ({"development": True}, False, "", "__Host-session", True),
        ({"secure": False}, False, "shop.example", "session", False),
        ({"secure": False}, True, "shop.example", "session", False),
        ({"host_prefix": False}, True, "shop.example", "session", True),
    ],
)
def test_name_and_security(make, policy, https, host, name, is_secure):
    """Over https the cookie is Secure and bound to its host; plain only where the application or development says."""
    exchange = make(CookiePolicy(**policy))
    visit = exchange.begin(None, https=https, host=host)
    run(exchange.load(visit))["a"] = 1

    cookie = run(exchange.finish(visit)).set_cookie

    assert cookie.startswith(f"{name}=")
    assert cookie.endswith("; Secure") == is_secure
    again = exchange.begin(cookie.partition(";")[0], https=https, host=host)
    assert dict(run(exchange.load(again))) == {"a": 1}


def test_cookie_of_the_other_name_is_not_read(make, stored):
    """Over https a plain cookie, which a neighbour could plant, is not looked at."""
    exchange = make(CookiePolicy(development=True))

    assert exchange.begin(f"session={stored.identifier}", https=True, host="localhost").ticket is None
    assert exchange.begin(f"__Host-session={stored.identifier}", https=False, host="localhost").ticket is None


@pytest.mark.requirement("R45")
def test_outage_while_loading(exchange, stored, wire):
    """A store that cannot be reached is an error, never an empty session; afterwards the session is there."""
    wire.is_cut = True
    visit = begin(exchange, stored.identifier)

    with pytest.raises(StoreUnavailable):
        run(exchange.load(visit))
    assert run(exchange.finish(visit)).set_cookie is None

    wire.is_cut = False
    assert dict(run(exchange.load(begin(exchange, stored.identifier)))) == {"a": 1}


@pytest.mark.requirement("R45")
@pytest.mark.parametrize("how", ["write", "end", "new"])
def test_outage_while_saving(exchange, stored, wire, how):
    """A save that the store did not confirm is an error: the response must not say that it was done."""
    visit = begin(exchange, None if how == "new" else stored.identifier)
    session = run(exchange.load(visit))
    session["b"] = 2
    if how == "end":
        session.revoke()
    wire.is_cut = True

    with pytest.raises(StoreUnavailable):
        run(exchange.finish(visit))


@pytest.mark.requirement("R45")
def test_outage_while_touching(exchange, stored, wire, clock, caplog):
    """A response whose session was only read is good even if the idle deadline could not be extended."""
    clock.advance(timedelta(minutes=10))
    visit = begin(exchange, stored.identifier)
    assert run(exchange.load(visit))["a"] == 1
    wire.is_cut = True

    outcome = run(exchange.finish(visit))

    assert outcome.set_cookie is None
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["session_touch_failed"]


def test_limit_and_conflict_are_told(make):
    """A refused sign-in and a conflict are errors for the adapter to answer; no cookie is made."""
    exchange = make(subject_attribute="user_id", limit=1, at_limit=AtLimit.REFUSE)
    request(exchange, None, lambda session: session.update(user_id=7))

    with pytest.raises(SessionLimitReached):
        request(exchange, None, lambda session: session.update(user_id=7))


@pytest.mark.parametrize(
    ("error", "status", "text", "retry"),
    [
        (
            StoreUnavailable("x"),
            503,
            "The session store cannot be reached. You have not been signed out; please try again.\n",
            "1",
        ),
        (
            RecordCorrupted("x"),
            503,
            "The session store cannot be reached. You have not been signed out; please try again.\n",
            "1",
        ),
        (SessionLimitReached("x"), 403, "You are signed in on as many devices as you may be.\n", None),
        (SessionConflict("x"), 409, "Another request changed the same thing meanwhile; please try again.\n", None),
    ],
)
@pytest.mark.requirement("R45")
def test_failures(exchange, error, status, text, retry):
    """Each failure has its status and its words, is not cached, and touches no cookie."""
    failure = exchange.failure(error)

    headers = dict(failure.headers)
    assert (failure.status, failure.text) == (status, text)
    assert headers.pop("Retry-After", None) == retry
    assert headers == {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"}


def test_failure_of_another_kind(exchange):
    """What no request should meet is raised again."""
    with pytest.raises(SessionRevoked):
        exchange.failure(SessionRevoked("x"))


@pytest.mark.requirement("R8")
@pytest.mark.parametrize(
    ("vary", "cache_control", "sets", "expected"),
    [
        (None, None, False, {"Vary": "Cookie", "Cache-Control": "private, no-store"}),
        ("Accept-Encoding", "max-age=60", False, {"Vary": "Accept-Encoding, Cookie", "Cache-Control": "max-age=60"}),
        ("cookie", "public", True, {"Vary": "cookie", "Cache-Control": "private, no-store"}),
        ("*", None, True, {"Vary": "*", "Cache-Control": "private, no-store"}),
    ],
)
def test_headers(exchange, stored, vary, cache_control, sets, expected):
    """A private response varies by cookie and is kept by no shared cache once it sets one."""
    outcome = request(exchange, stored.identifier, lambda session: session.rotate() if sets else session.get("a"))

    headers = dict(outcome.headers(vary, cache_control))

    assert headers.pop("Set-Cookie", None) == outcome.set_cookie
    assert headers == expected


@pytest.mark.requirement("R5")
def test_cookie_is_short(make):
    """The cookie is as long for a megabyte of session as for a byte."""
    exchange = make(max_bytes=2 * 1024 * 1024)
    small = request(exchange, None, lambda session: session.update(a=1)).set_cookie
    large = request(exchange, None, lambda session: session.update(a="x" * 1_000_000)).set_cookie

    assert len(small) == len(large) < 200


def test_late_change_is_saved(exchange, stored):
    """What is changed after the response has begun is saved, where it needs no new cookie."""
    visit = begin(exchange, stored.identifier)
    session = run(exchange.load(visit))
    run(exchange.finish(visit))
    session["late"] = 1

    run(exchange.finish_late(visit))

    assert dict(run(exchange.sessions.load(stored.identifier))) == {"a": 1, "late": 1}


@pytest.mark.parametrize("how", ["new", "rotate", "sign in"])
def test_late_change_that_needs_a_cookie(make, server, how, caplog):
    """What would need a new cookie after the response has begun is not saved, and is logged."""
    exchange = make(subject_attribute="user_id")
    stored = run(exchange.sessions.create({"a": 1}))
    before = server.contents()
    visit = begin(exchange, None if how == "new" else stored.identifier)
    session = run(exchange.load(visit))
    run(exchange.finish(visit))
    {"new": lambda: session.update(a=1), "rotate": session.rotate, "sign in": lambda: session.update(user_id=7)}[how]()

    run(exchange.finish_late(visit))

    assert server.contents() == before
    assert [record.getMessage() for record in caplog.records] == ["session_unsent"]


@pytest.mark.requirement("R20")
def test_late_change_after_an_end(exchange, stored, server):
    """What is changed after the session has ended in the same request is dropped."""
    visit = begin(exchange, stored.identifier)
    session = run(exchange.load(visit))
    session.revoke()
    run(exchange.finish(visit))
    session["late"] = 1

    run(exchange.finish_late(visit))

    assert server.left() == []


def test_late_sign_out_ends_the_session(make, server):
    """A sign-out after the response has begun ends the session, cookie or not."""
    exchange = make(subject_attribute="user_id")
    identifier = value_of(request(exchange, None, lambda session: session.update(a=1, user_id=7)))
    visit = begin(exchange, identifier)
    session = run(exchange.load(visit))
    run(exchange.finish(visit))
    del session["user_id"]

    run(exchange.finish_late(visit))

    assert server.left() == []


def test_late_outage_is_logged(exchange, stored, wire, caplog):
    """A late save that fails is logged: there is nobody left to tell."""
    visit = begin(exchange, stored.identifier)
    session = run(exchange.load(visit))
    run(exchange.finish(visit))
    session["late"] = 1
    wire.is_cut = True

    run(exchange.finish_late(visit))

    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["session_save_failed"]


def test_secure_cookie_over_http_is_pointed_out_once(exchange, caplog):
    """Who sees a Secure cookie never come back finds the reason in the log, said once."""
    engine_exchange.say_once_that_https_is_needed.cache_clear()
    for _ in range(2):
        visit = exchange.begin(None, https=False, host="localhost:8000")
        run(exchange.load(visit))["a"] = 1
        run(exchange.finish(visit))

    (said,) = [record.getMessage() for record in caplog.records if record.name == "coatcheck"]
    assert said.startswith("session_cookie_needs_https: a Secure cookie was set on a request that came by http")
