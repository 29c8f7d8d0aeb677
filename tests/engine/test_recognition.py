"""A request that comes from another client than its session knows: what it is answered, and what an outage does."""

import pytest

from coatcheck import ClientPolicy, CookiePolicy, Keyring, OnChange, SessionPolicy, StoreUnavailable
from coatcheck.engine.exchange import Exchange
from coatcheck.engine.operations import Operations
from coatcheck.runtime.sync import run

HOME, AWAY = ("Firefox/140.0", "192.0.2.7"), ("curl/8.1", "198.51.100.9")


@pytest.fixture
def make(wire, key, clock):
    """Give a function that makes an exchange under a reaction to another client."""

    def exchange(reaction):
        policy = SessionPolicy(client=ClientPolicy(user_agent=reaction, address=reaction))
        return Exchange(Operations(wire, keyring=Keyring.parse(key), clock=clock, policy=policy), CookiePolicy())

    return exchange


def begin(exchange, identifier, client):
    """Begin a request of *client* that brings *identifier*."""
    cookies = identifier and f"__Host-session={identifier}"
    return exchange.begin(cookies, https=True, host="shop.example", user_agent=client[0], address=client[1])


def request(exchange, identifier, client, **changes):
    """Carry out a request that makes *changes*; give its session and the Set-Cookie header."""
    visit = begin(exchange, identifier, client)
    session = run(exchange.load(visit))
    session.update(changes)
    return session, run(exchange.finish(visit)).set_cookie


@pytest.mark.requirement("R20")
def test_end(make):
    """The request goes on with a new session, and its response removes the cookie; a later one leaves it alone."""
    exchange = make(OnChange.END)
    known, _ = request(exchange, None, HOME, a=1)

    session, cookie = request(exchange, known.identifier, AWAY)
    _, later = request(exchange, known.identifier, AWAY)
    _, owners = request(exchange, known.identifier, HOME)

    assert (dict(session), session.is_new) == ({}, True)
    assert "Max-Age=0" in cookie
    assert (later, owners) == (None, None)


def test_end_and_a_new_one(make):
    """What the request sets is in a session of its own, whose cookie takes the place of the former one."""
    exchange = make(OnChange.END)
    known, _ = request(exchange, None, HOME, a=1)

    session, cookie = request(exchange, known.identifier, AWAY, b=2)

    assert cookie.startswith(f"__Host-session={session.identifier};")
    assert dict(request(exchange, session.identifier, AWAY)[0]) == {"b": 2}
    assert request(exchange, session.identifier, HOME)[0].is_new


def test_end_in_a_response_to_anybody(make):
    """The response that removes the cookie is kept from shared caches, though the handler did not look."""
    exchange = make(OnChange.END)
    known, _ = request(exchange, None, HOME, a=1)
    visit = begin(exchange, known.identifier, AWAY)
    run(exchange.load(visit))

    assert run(exchange.finish(visit)).is_private


@pytest.mark.parametrize("reaction", [OnChange.STEP_UP, OnChange.END])
def test_outage_stops_the_request(make, wire, reaction):
    """Where a step-up or an end cannot be written the request is refused with 503, and the next one tries again."""
    exchange = make(reaction)
    known, _ = request(exchange, None, HOME, a=1)
    visit = begin(exchange, known.identifier, AWAY)
    wire.calls_left = 1  # the load

    with pytest.raises(StoreUnavailable) as error:
        run(exchange.load(visit))

    assert visit.session is None
    assert exchange.failure(error.value).status == 503
    wire.calls_left = None
    assert run(exchange.load(begin(exchange, known.identifier, AWAY))).is_new == (reaction is OnChange.END)


def test_outage_of_what_is_observed(make, wire, caplog):
    """Where an observation cannot be written the request goes on, and the next one is the one that is told."""
    exchange = make(OnChange.OBSERVE)
    known, _ = request(exchange, None, HOME, a=1)
    visit = begin(exchange, known.identifier, AWAY)
    wire.calls_left = 1

    assert dict(run(exchange.load(visit))) == {"a": 1}

    assert "session_client_not_noted: redis://h cannot be reached: the wire is cut" in caplog.messages
    wire.calls_left = None
    request(exchange, known.identifier, AWAY)
    assert [event.type.value for event in run(exchange.sessions.read_events("test", "one"))] == [
        "created",
        "client changed",
    ]


def test_outside_of_requests(make):
    """What loads a session without a request, a background job with its key, has no client and changes none."""
    exchange = make(OnChange.END)
    known, _ = request(exchange, None, HOME, a=1)
    visit = begin(exchange, known.identifier, AWAY)
    visit.origin = None

    assert dict(run(exchange.load(visit))) == {"a": 1}


def test_session_that_the_application_begins(make):
    """A session that an application puts in the place of the request's knows the request's client."""
    exchange = make(OnChange.END)
    visit = begin(exchange, None, HOME)
    run(exchange.load(visit))
    visit.session = exchange.sessions.new()
    visit.session["a"] = 1

    run(exchange.finish(visit))

    assert visit.session.payload.client == "Firefox\n192.0.2.0/24"
