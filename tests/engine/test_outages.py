"""Requests while the store cannot be reached: 503, without their session, or read from memory for a moment."""

from datetime import UTC, datetime, timedelta

import pytest

from coatcheck import (
    CookiePolicy,
    Event,
    EventType,
    Keyring,
    OutagePolicy,
    SessionPolicy,
    StoreUnavailable,
)
from coatcheck.engine.exchange import Exchange
from coatcheck.engine.operations import Operations
from coatcheck.runtime.sync import run
from tests.fix_wire import Wire

LEASE = timedelta(seconds=30)


@pytest.fixture
def make(wire, key, clock):
    """Give a function that makes sessions with a read lease, under a policy."""

    def operations(outage=None, **policy):
        policy = SessionPolicy(outage=outage or OutagePolicy(read_lease=LEASE), **policy)
        return Operations(wire, keyring=Keyring.parse(key), clock=clock, policy=policy)

    return operations


def begin(exchange, session, **request):
    """Begin a request of *session*'s browser."""
    cookie = f"__Host-session={session.identifier}"
    return exchange.begin(cookie, https=True, host="shop.example", **request)


@pytest.fixture
def leased(make, wire):
    """Give sessions, and the identifier of one of ada's that they have just loaded before the wire was cut."""
    sessions = make()
    session = run(sessions.create({"cart": ["book"]}))
    run(sessions.bind(session, "ada"))
    run(sessions.load(session.identifier))
    wire.is_cut = True
    return sessions, session


@pytest.mark.requirement("R45")
def test_page_without_its_session(make, wire):
    """A page that may be served without gets an empty session: nothing is saved, no cookie is set or removed."""
    sessions = make(OutagePolicy(anonymous=("/products/*",)))
    exchange = Exchange(sessions, CookiePolicy())
    session = run(sessions.create({"cart": ["book"]}))
    wire.is_cut = True
    visit = begin(exchange, session, method="GET", path="/products/7")
    blind = run(exchange.load(visit))
    assert (blind.is_new, dict(blind)) == (True, {})
    blind["cart"] = ["pen"]
    wire.is_cut = False
    outcome = run(exchange.finish(visit))
    run(exchange.finish_late(visit))

    assert (outcome.set_cookie, outcome.is_private) == (None, True)
    assert run(sessions.load(session.identifier))["cart"] == ["book"]


@pytest.mark.requirement("R45")
def test_page_of_a_new_visitor(make, wire):
    """Who has no session yet is served too, and gets none; a sign-in is not taken for done."""
    sessions = make(OutagePolicy(anonymous=("/",)), subject_attribute="user")
    exchange = Exchange(sessions, CookiePolicy())
    wire.is_cut = True
    for name, value in (("seen", True), ("user", "ada")):
        visit = exchange.begin(None, https=True, host="shop.example", method="GET", path="/")
        run(exchange.load(visit))[name] = value
        if name == "seen":
            outcome = run(exchange.finish(visit))
            assert (outcome.set_cookie, outcome.is_private) == (None, True)
        else:
            with pytest.raises(StoreUnavailable):
                run(exchange.finish(visit))


@pytest.mark.requirement("R45")
@pytest.mark.parametrize(
    "request_", [{"method": "GET", "path": "/account"}, {"method": "POST", "path": "/products/7"}, {}]
)
def test_other_pages(make, wire, request_):
    """Every other request is refused, not served as if nobody were signed in."""
    sessions = make(OutagePolicy(anonymous=("/products/*",)))
    exchange = Exchange(sessions, CookiePolicy())
    session = run(sessions.create({"cart": ["book"]}))
    wire.is_cut = True

    with pytest.raises(StoreUnavailable):
        run(exchange.load(begin(exchange, session, **request_)))


def test_read_lease(leased, make):
    """What this process has loaded a moment ago is read on; what another one has loaded is not."""
    sessions, session = leased
    found = run(sessions.load(session.identifier))

    assert (found.is_leased, found.subject, dict(found)) == (True, "ada", {"cart": ["book"]})
    with pytest.raises(StoreUnavailable):
        run(make().load(session.identifier))


def test_no_lease_by_default(make, wire):
    """Without the policy nothing is read from memory."""
    sessions = make(OutagePolicy())
    session = run(sessions.create({"a": 1}))
    run(sessions.load(session.identifier))
    wire.is_cut = True

    with pytest.raises(StoreUnavailable):
        run(sessions.load(session.identifier))


def test_lease_opens_to_its_secret_only(leased):
    """A lease opens to no other secret than the record does."""
    sessions, session = leased
    other = session.identifier[:-6] + ("AAAAAA" if session.identifier[-6:] != "AAAAAA" else "BBBBBB")

    assert run(sessions.load(other)) is None


def test_lease_is_not_written(leased, wire):
    """A leased session is never written, were the store back meanwhile; who only reads it is served."""
    sessions, session = leased
    exchange = Exchange(sessions, CookiePolicy())
    visit = begin(exchange, session, method="GET", path="/")
    found = run(exchange.load(visit))
    assert found["cart"] == ["book"]
    assert run(exchange.finish(visit)).set_cookie is None
    found["cart"].append("pen")
    wire.is_cut = False

    with pytest.raises(StoreUnavailable, match=r"was read from memory.*nothing was written\. Try again"):
        run(exchange.finish(visit))
    assert run(sessions.load(session.identifier))["cart"] == ["book"]


def test_lease_ends(leased, clock):
    """A lease ends after its time."""
    sessions, session = leased
    clock.advance(LEASE + timedelta(seconds=1))

    with pytest.raises(StoreUnavailable):
        run(sessions.load(session.identifier))


@pytest.mark.parametrize("deadline", ["idle_timeout", "absolute_timeout"])
def test_lease_keeps_deadlines(make, wire, clock, deadline):
    """A lease is never read past a deadline of its session."""
    timeouts = {"idle_timeout": timedelta(seconds=20), deadline: timedelta(seconds=20)}
    sessions = make(**timeouts)
    session = run(sessions.create({"a": 1}))
    run(sessions.load(session.identifier))
    wire.is_cut = True
    clock.advance(timedelta(seconds=10))
    assert run(sessions.load(session.identifier)).is_leased
    clock.advance(timedelta(seconds=10))

    with pytest.raises(StoreUnavailable):
        run(sessions.load(session.identifier))


ENDS = {
    "revoke": lambda sessions, session: sessions.revoke(session.handle),
    "revoke_all": lambda sessions, session: sessions.revoke_all("ada"),
    "revoke_everyone": lambda sessions, session: sessions.revoke_everyone(),
    "bind": lambda sessions, session: sessions.bind(session, "ada"),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("is_cut", [True, False])
def test_ended_by_this_process(leased, wire, end, is_cut):
    """What this process has ended, or has tried to end, is not read from memory."""
    sessions, session = leased
    wire.is_cut = is_cut
    former = session.identifier
    if is_cut:
        with pytest.raises(StoreUnavailable):
            run(end(sessions, session))
        if end is ENDS["bind"]:
            return  # nothing has ended then
    else:
        run(end(sessions, session))
    wire.is_cut = True

    with pytest.raises(StoreUnavailable):
        run(sessions.load(former))


@pytest.mark.parametrize("type_", [EventType.REVOKED, EventType.EVICTED, EventType.EXPIRED, EventType.ROTATED])
@pytest.mark.parametrize("names_it", [True, False])
def test_ended_elsewhere_and_heard(leased, type_, names_it):
    """An end that was heard, of this session or of everybody's, ends the lease; another's leaves it."""
    sessions, session = leased
    handle = session.handle if names_it else None
    other = Event(type=type_, partition=7, handle=type(session.handle).new(), subject_digest=None, at=datetime.now(UTC))
    sessions.leases.hear(other)
    assert run(sessions.load(session.identifier)).is_leased
    sessions.leases.hear(Event(type=type_, partition=7, handle=handle, subject_digest=None, at=datetime.now(UTC)))

    with pytest.raises(StoreUnavailable):
        run(sessions.load(session.identifier))


def test_load_under_way_while_it_ends(make, wire):
    """A load whose reply comes after the session was ended by this process leases nothing."""
    sessions = make()
    session = run(sessions.create({"a": 1}))

    class Late(Wire):
        async def call(self, *commands):
            replies = await super().call(*commands)
            if commands[0][0] == "MGET":
                sessions.leases.drop(session.handle)  # an end comes between the reply and its reader
            return replies

    wire.__class__ = Late
    run(sessions.load(session.identifier))
    wire.is_cut = True

    with pytest.raises(StoreUnavailable):
        run(sessions.load(session.identifier))


def test_bounded(make, wire, monkeypatch):
    """Leases are bounded in number and in bytes; the oldest go first."""
    sessions = make()
    monkeypatch.setattr("coatcheck.engine.leases._MOST", 2)
    stored = [run(sessions.create({"n": number})) for number in range(3)]
    for session in stored:
        run(sessions.load(session.identifier))
    wire.is_cut = True
    with pytest.raises(StoreUnavailable):
        run(sessions.load(stored[0].identifier))
    assert [run(sessions.load(session.identifier))["n"] for session in stored[1:]] == [1, 2]
    wire.is_cut = False
    monkeypatch.setattr("coatcheck.engine.leases._MOST_BYTES", 10)
    run(sessions.load(stored[0].identifier))
    wire.is_cut = True

    with pytest.raises(StoreUnavailable):
        run(sessions.load(stored[0].identifier))


def test_saved_meanwhile(make, wire):
    """A save by this process ends the lease of what was before it."""
    sessions = make()
    session = run(sessions.create({"n": 1}))
    found = run(sessions.load(session.identifier))
    found["n"] = 2
    run(sessions.save(found))
    wire.is_cut = True

    with pytest.raises(StoreUnavailable):
        run(sessions.load(session.identifier))
