"""Limits per source: how many sessions of nobody, and unknown identifiers, one address may cause in a time."""

import asyncio
from datetime import timedelta

import pytest

import coatcheck
from coatcheck import ConfigurationError, CookiePolicy, SessionPolicy, SourceLimited, SourcePolicy
from coatcheck.engine import sources as engine_sources
from coatcheck.engine.exchange import Exchange
from coatcheck.model.ticket import Handle, Ticket
from coatcheck.runtime.sync import run

MINUTE = timedelta(minutes=1)
HERE, THERE = "192.0.2.7", "192.0.2.8"


@pytest.fixture
def make(server, key, clock):
    """Give a function that makes an exchange, a process of its own, under limits of sources."""
    opened = []

    def exchange(**limits):
        policy = SessionPolicy(subject_attribute="user", sources=SourcePolicy(**limits) if limits else None)
        opened.append(coatcheck.Sessions(server.url, keys=key, clock=clock, policy=policy))
        return Exchange(opened[-1].core, CookiePolicy())

    yield exchange
    for sessions in opened:
        sessions.close()


def stranger():
    """Make a well-formed identifier that nobody was ever given."""
    return Ticket.new(Handle.new()).identifier


def request(exchange, identifier=None, address=HERE, **changes):
    """Carry out a request that makes *changes*; give its session and the Set-Cookie header."""
    cookies = identifier and f"__Host-session={identifier}"
    visit = exchange.begin(cookies, https=True, host="shop.example", address=address, user_agent=None)
    session = run(exchange.load(visit))
    session.update(changes)
    return session, run(exchange.finish(visit)).set_cookie


def wait_of(exchange, *given, **changes):
    """Carry out a request that is refused; give how long it is asked to wait."""
    with pytest.raises(SourceLimited) as error:
        request(exchange, *given, **changes)
    return error.value.retry_after


@pytest.mark.requirement("R56")
def test_creations(make, server, clock):
    """A source creates so many sessions in a time, and no more until it has passed; nothing is written for the rest."""
    exchange = make(creations=3)
    for _ in range(3):
        request(exchange, a=1)
    clock.advance(timedelta(seconds=20))
    before = server.keys()

    assert timedelta(seconds=35) < wait_of(exchange, a=1) <= timedelta(seconds=41)

    assert server.keys() == before
    request(exchange, address=THERE, a=1)
    clock.advance(timedelta(seconds=41))
    request(exchange, a=1)


@pytest.mark.requirement("R56")
def test_creations_of_known_visitors(make):
    """Over its limit a source reads on, uses the sessions that there are, and signs in: none of that creates one."""
    exchange = make(creations=1)
    known, _ = request(exchange, a=1)
    wait_of(exchange, a=1)

    assert request(exchange)[1] is None
    assert request(exchange, known.identifier, b=2)[0]["a"] == 1
    for _ in range(3):
        assert request(exchange, user="ada")[1] is not None
    assert request(exchange, known.identifier, user="bob")[1] is not None


@pytest.mark.requirement("R56")
def test_unknown(make, server, clock):
    """So many unknown identifiers are looked up, then the next is refused, and after that nothing is even asked."""
    exchange = make(unknown=3)
    with server.commands() as asked:
        for _ in range(3):
            assert request(exchange, stranger())[0].is_new
        wait_of(exchange, stranger())
    assert [command.partition(" ")[0] for command in asked if command != "TIME"] == ["MGET"] * 4

    with server.commands() as asked:
        for _ in range(50):
            wait_of(exchange, stranger())
    assert asked == []
    assert request(exchange, stranger(), THERE)[0].is_new
    clock.advance(MINUTE)
    assert request(exchange, stranger())[0].is_new


@pytest.mark.requirement("R56")
def test_person_at_a_limited_source(make, key, server, clock):
    """Who has a session is never shown as signed out: served where this process knows them, else told to wait."""
    exchange, other = make(unknown=1), make(unknown=1)
    known, _ = request(exchange, user="ada")
    for process in (exchange, other):
        request(process, stranger())
        wait_of(process, stranger())

    assert request(exchange, known.identifier)[0].subject == "ada"
    assert wait_of(other, known.identifier) > timedelta(0)
    assert request(other, known.identifier, THERE)[0].subject == "ada"
    assert request(other, known.identifier)[0].subject == "ada"
    clock.advance(MINUTE)
    assert request(make(unknown=1), known.identifier)[0].subject == "ada"


def test_wrong_secret_for_a_known_session(make):
    """A handle that is in use opens no way around the limit: with another secret it counts, and is refused."""
    exchange = make(unknown=1)
    known, _ = request(exchange, a=1)
    for _ in range(2):
        guess = Ticket.new(known.handle).identifier
        try:
            request(exchange, guess)
        except SourceLimited:
            break
    wait_of(exchange, Ticket.new(known.handle).identifier)

    assert request(exchange, known.identifier)[0]["a"] == 1


def test_a_browser_that_keeps_its_old_cookie(make):
    """A cookie of a session that is over counts once, however often a browser sends it with its pictures and styles."""
    exchange = make(unknown=2)
    old, other = stranger(), stranger()

    for _ in range(50):
        assert request(exchange, old)[0].is_new
        assert request(exchange, other)[0].is_new


def test_request_without_cookie(make):
    """A source that has sent too many unknown identifiers is served where it sends none, and may create a session."""
    exchange = make(unknown=1)
    request(exchange, stranger())
    wait_of(exchange, stranger())

    assert request(exchange, a=1)[1] is not None


@pytest.mark.parametrize("address", [None, "", "testclient", "unix:"])
def test_no_address(make, address):
    """Where there is no address nothing is limited: it would be everybody."""
    exchange = make(creations=1, unknown=1)

    for _ in range(5):
        request(exchange, stranger(), address, a=1)


def test_ipv6_network(make):
    """The addresses of one IPv6 network of 64 bits are one source; those of another are another."""
    exchange = make(creations=1)
    request(exchange, None, "2001:db8::1", a=1)

    wait_of(exchange, None, "2001:db8::ffff:1", a=1)
    request(exchange, None, "2001:db8:0:1::1", a=1)


def test_ipv4_in_ipv6(make):
    """An IPv4 address is one source, also where a server writes it as an IPv6 one."""
    exchange = make(creations=1)
    request(exchange, a=1)

    wait_of(exchange, None, f"::ffff:{HERE}", a=1)


@pytest.mark.requirement("R56")
def test_memory(make, monkeypatch):
    """Only so many sources are remembered: the one that was quiet for longest is forgotten first."""
    monkeypatch.setattr(engine_sources, "_REMEMBERED", 3)
    exchange = make(creations=1)
    for last in (1, 2, 3):
        request(exchange, None, f"192.0.2.{last}", a=1)
    wait_of(exchange, None, "192.0.2.1", a=1)

    request(exchange, None, "192.0.2.4", a=1)

    assert len(exchange.sessions.sources._tallies) == 3
    wait_of(exchange, None, "192.0.2.1", a=1)
    request(exchange, None, "192.0.2.2", a=1)


@pytest.mark.requirement("R56")
@pytest.mark.requirement("R60")
def test_alert(make, clock, caplog):
    """It is logged once for each source and period, with the network of the source and not its address."""
    exchange = make(creations=1, unknown=1)

    def told():
        lines = [record for record in caplog.records if record.getMessage() == "session_source_limited"]
        return [(line.levelname, line.source, line.what, line.count) for line in lines]

    for _ in range(2):
        request(exchange, stranger(), a=1)
        for _ in range(5):
            wait_of(exchange, a=1)
            wait_of(exchange, stranger())
        clock.advance(MINUTE)
    request(exchange, None, "2001:db8:1:2::3", a=1)
    wait_of(exchange, None, "2001:db8:1:2::3", a=1)

    here = ("WARNING", "192.0.2.0/24", "creations", 2)
    assert told() == [here, here, ("WARNING", "2001:db8:1::/48", "creations", 2)]
    assert HERE not in str([vars(record) for record in caplog.records])


def test_answer(make):
    """It is answered with 429, with when to come again, and says that nobody is signed out."""
    exchange = make(creations=1)

    failure = exchange.failure(SourceLimited(timedelta(milliseconds=20_001)))

    assert (failure.status, dict(failure.headers)["Retry-After"]) == (429, "21")
    assert failure.text == (
        "Too many requests come from your network. You have not been signed out; try again in 21 seconds.\n"
    )


def test_error_says_what_to_do():
    """The error's text, in a log, says what it is and which setting it is."""
    assert str(SourceLimited(timedelta(seconds=3))) == (
        "too many new sessions or unknown identifiers come from this source: wait 0:00:03, or set "
        "SessionPolicy(sources=...) higher"
    )


def test_off_by_default(make):
    """Without a policy nothing is counted."""
    exchange = make()

    assert exchange.sessions.sources is None
    for _ in range(50):
        request(exchange, stranger(), a=1)


@pytest.mark.requirement("R56")
@pytest.mark.anyio
async def test_flood(server, key, clock):
    """10,000 requests of one source leave 20 sessions in the store; a visitor beside it notices nothing."""
    policy = SessionPolicy(sources=SourcePolicy(creations=20, unknown=20))
    async with coatcheck.AsyncSessions(server.url, keys=key, clock=clock, policy=policy) as sessions:
        exchange = Exchange(sessions, CookiePolicy())
        visitor = await sessions.create({"a": 0})
        asked = 0
        call = sessions._store.transport.call

        async def counted(*commands):
            nonlocal asked
            asked += 1
            return await call(*commands)

        sessions._store.transport.call = counted

        async def attack(cookie):
            visit = exchange.begin(cookie, https=True, host="h", address=HERE)
            try:
                (await exchange.load(visit))["a"] = 1
                await exchange.finish(visit)
            except SourceLimited:
                return 429
            return 200

        answers = []
        for _ in range(100):
            cookies = [f"__Host-session={stranger()}" for _ in range(50)] + [None] * 50
            answers += await asyncio.gather(*(attack(cookie) for cookie in cookies))
            mine = exchange.begin(f"__Host-session={visitor.identifier}", https=True, host="h", address=THERE)
            session = await exchange.load(mine)
            session.increment("a")
            await exchange.finish(mine)

        assert (session["a"], len(answers), answers.count(200)) == (100, 10_000, 20)
        assert asked - 200 <= 20 + 50 + 2  # what was created, and what was on its way when the limit was passed
        assert len(server.keys(":s:")) == 21
        assert server.client.dbsize() <= 21 + 21  # records, and the streams of their partitions


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "a SourcePolicy limits something"),
        ({"creations": 0}, "creations is a whole number from 1 on, or None for any number, not 0"),
        ({"unknown": 1.5}, "unknown is a whole number from 1 on, or None for any number, not 1.5"),
        ({"creations": 1, "per": 60}, "per is a timedelta from 1 second to 1 day, not 60"),
        ({"creations": 1, "per": timedelta(0)}, "per is a timedelta from 1 second to 1 day"),
    ],
)
def test_refused(fields, message):
    """A policy that cannot be meant is refused."""
    with pytest.raises(ConfigurationError, match=message):
        SourcePolicy(**fields)


def test_policy_of_another_type():
    """A session's policy takes a SourcePolicy and nothing else."""
    with pytest.raises(ConfigurationError, match="sources is a SourcePolicy, or None, not 5"):
        SessionPolicy(sources=5)


def test_shown():
    """A policy is shown in a line, for the report of the session policy."""
    assert str(SourcePolicy(creations=5, unknown=9)) == "5 creations, 9 unknown identifiers in 0:01:00"
