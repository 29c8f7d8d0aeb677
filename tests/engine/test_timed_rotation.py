"""Timed rotation: a web request that comes late enough gives the session a new secret."""

import asyncio
from datetime import timedelta

import pytest

import coatcheck
from coatcheck import ConfigurationError, CookiePolicy, SessionPolicy, StoreUnavailable
from coatcheck.engine.exchange import Exchange
from coatcheck.runtime.sync import run

HOUR = timedelta(hours=1)
POLICY = SessionPolicy(rotate_every=HOUR, idle_timeout=4 * HOUR)


@pytest.fixture
def exchange(server, key, clock):
    """Give the exchange of an application whose sessions rotate every hour."""
    with coatcheck.Sessions(server.url, keys=key, clock=clock, policy=POLICY) as sessions:
        yield Exchange(sessions.core, CookiePolicy())


async def request(exchange, identifier, *, reads=True, gate=None):
    """Make a request with the identifier; give the one that its response sets, and its session."""
    visit = exchange.begin(f"__Host-session={identifier}", https=True, host="example.org")
    session = await exchange.load(visit)
    if reads:
        session.get("a")
    if gate is not None:
        await gate.wait()
    outcome = await exchange.finish(visit)
    given = outcome.set_cookie.partition("=")[2].partition(";")[0] if outcome.set_cookie else None
    return given, session


@pytest.fixture
def stored(exchange):
    """Give a stored session."""
    return run(exchange.sessions.create({"a": 1}))


@pytest.mark.requirement("R29")
def test_rotation_when_it_is_due(exchange, stored, clock):
    """The first request after the time gets a new identifier, of the same session; those before and after it do not."""
    clock.advance(HOUR - timedelta(seconds=5))
    assert run(request(exchange, stored.identifier))[0] is None

    clock.advance(timedelta(seconds=6))
    given, session = run(request(exchange, stored.identifier))

    assert given == session.identifier != stored.identifier
    assert session.handle == stored.handle
    assert run(request(exchange, given))[0] is None
    clock.advance(HOUR)
    assert run(request(exchange, given))[0] not in {None, given}


def test_request_that_does_not_look_rotates_nothing(exchange, stored, clock):
    """A response that does not depend on the session carries no cookie: a cache may keep it."""
    clock.advance(2 * HOUR)

    assert run(request(exchange, stored.identifier, reads=False))[0] is None


def test_saves_without_a_request_rotate_nothing(exchange, stored, clock):
    """Only web requests rotate by time: nobody would get what a background job was given."""
    clock.advance(2 * HOUR)
    session = run(exchange.sessions.load(stored.identifier))
    session["b"] = 2

    run(exchange.sessions.save(session))

    assert session.identifier == stored.identifier
    assert run(exchange.sessions.load(stored.identifier)).is_superseded is False


@pytest.mark.requirement("R29")
@pytest.mark.requirement("R30")
@pytest.mark.anyio
async def test_20_requests_at_once(server, key, clock, caplog):
    """Of 20 requests at once when it is due one gives out a successor; all are served, and no alarm is raised."""
    async with coatcheck.AsyncSessions(server.url, keys=key, clock=clock, policy=POLICY) as sessions:
        exchange = Exchange(sessions, CookiePolicy())
        stored = await sessions.create({"a": 1})
        clock.advance(HOUR)
        gate = asyncio.Event()
        requests = [asyncio.create_task(request(exchange, stored.identifier, gate=gate)) for _ in range(20)]
        await asyncio.sleep(0)
        gate.set()
        answers = await asyncio.gather(*requests)

        given = {identifier for identifier, _ in answers} - {None}
        assert len(given) == 1
        assert len([identifier for identifier, _ in answers if identifier]) == 1
        (successor,) = given
        late = [await request(exchange, stored.identifier) for _ in range(20)]
        assert all(identifier is None and session.get("a") == 1 for identifier, session in late)
        assert (await sessions.load(successor)).handle == stored.handle
        told = [event.type.value for event in await sessions.read_events("test", "one")]
        assert told == ["created", "rotated"]
    assert "session_secret_replayed" not in caplog.messages


def test_outage_when_it_is_due(exchange, stored, clock, monkeypatch):
    """Where the store is lost as a request that only read would rotate, its response is good all the same."""
    clock.advance(HOUR)
    visit = exchange.begin(f"__Host-session={stored.identifier}", https=True, host="example.org")
    run(exchange.load(visit)).get("a")

    async def lost(*_):
        raise StoreUnavailable("the line broke")

    monkeypatch.setattr(exchange.sessions._store.transport, "call", lost)

    assert run(exchange.finish(visit)).set_cookie is None


@pytest.mark.parametrize("every", [timedelta(0), timedelta(seconds=10)])
def test_rotation_within_the_grace_is_refused(every):
    """A policy whose rotations would overtake their grace is refused."""
    with pytest.raises(ConfigurationError, match="rotate_every must be longer than rotation_grace"):
        SessionPolicy(rotate_every=every)
