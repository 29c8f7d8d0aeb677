"""The near cache: loads that do not ask the store, and what other processes do, noticed in time."""

from datetime import timedelta
from time import monotonic

import pytest

from coatcheck import (
    AuthenticationRequired,
    ClientPolicy,
    NearCache,
    OnChange,
    SessionConflict,
    SessionPolicy,
    SessionRevoked,
)
from tests import near_mode
from tests.waiting import wait_until

pytestmark = pytest.mark.access(near_cache=True)

STALENESS = timedelta(milliseconds=300)
HOUR = timedelta(hours=1)


@pytest.fixture
def open_near(open_sessions):
    """Give a function that makes sessions with a near cache, under a policy; near: its settings."""

    def make(near=None, **policy):
        near = NearCache(**{"staleness": STALENESS, **(near or {})})
        return open_sessions(policy=SessionPolicy(near_cache=near, **policy))

    return make


@pytest.fixture
def near(open_near):
    """Give sessions with a near cache."""
    return open_near(compartments={"cart": timedelta(minutes=5)})


@pytest.fixture
def elsewhere(open_sessions):
    """Give sessions of another process, without one."""
    return open_sessions(policy=SessionPolicy(compartments={"cart": timedelta(minutes=5)}, limit=2))


def held(sessions, identifier):
    """Load until the near cache answers, and give what it does."""
    wait_until(lambda: sessions.load(identifier).is_near, "the near cache does not answer")
    session = sessions.load(identifier)
    return session if session.is_near else held(sessions, identifier)


def stale(sessions, identifier, write):
    """Have the near cache miss what *write* does, however long that takes, and give what it answers then."""
    near, now = getattr(sessions, "core", sessions).near, monotonic()
    held(sessions, identifier)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near, "hear", lambda keys: None)
        patch.setattr("coatcheck.engine.near.monotonic", lambda: now)
        write()
        session = sessions.load(identifier)
    assert session.is_near
    return session


def seen_in_time(sessions, identifier, is_over, done):
    """Load until *is_over* of what is loaded; say whether no load answered otherwise that began too late after *done*.

    done: when the store had certainly done it (monotonic, seconds).
    """
    began, last, limit = monotonic(), None, monotonic() + 15
    while not is_over(sessions.load(identifier)):
        last, began = began, monotonic()
        assert began < limit
    return last is None or last - done <= STALENESS.total_seconds()


@pytest.mark.requirement("R26")
def test_the_store_is_not_asked(near, server):
    """What was loaded before is loaded again without a command to the store, and the counts say so."""
    session = near.create({"n": 1})
    held(near, session.identifier)
    before = near.near_cache()

    with server.commands() as commands:
        assert [near.load(session.identifier)["n"] for _ in range(20)] == [1] * 20

    after = near.near_cache()
    assert commands == []
    assert (after.hits - before.hits, after.misses - before.misses, after.sessions) == (20, 0, 1)
    assert timedelta(0) <= after.behind <= STALENESS


@pytest.mark.skipif(near_mode.IS_ON, reason="all sessions have one then")
def test_without_a_near_cache(sessions):
    """Unless the policy asks for it nothing is kept, and there is nothing to count."""
    session = sessions.create({"n": 1})

    assert not any(sessions.load(session.identifier).is_near for _ in range(5))
    assert sessions.near_cache() is None


def test_requests_do_not_share_values(near):
    """What one request does to a nested value, in a compartment too, no other request sees unless it is saved."""
    session = near.create({"cart": ["book"]})
    session.compartment("cart")["items"] = ["hat"]
    near.save(session)
    first, second = held(near, session.identifier), held(near, session.identifier)

    first["cart"].append("pen")
    first.compartment("cart")["items"].append("coat")
    first["new"] = 1

    third = near.load(session.identifier)
    for other in (second, third):
        assert dict(other) == {"cart": ["book"]}
        assert other.compartment("cart")["items"] == ["hat"]


def test_own_writes(near):
    """What this process has written it reads from then on, at once."""
    session = near.create({"n": 0})
    for number in range(1, 30):
        loaded = held(near, session.identifier) if number % 5 == 0 else near.load(session.identifier)
        loaded.increment("n")
        loaded.compartment("cart")["n"] = number
        near.save(loaded)

        again = near.load(session.identifier)
        assert (again["n"], again.compartment("cart")["n"]) == (number, number)


@pytest.mark.requirement("R19")
@pytest.mark.parametrize("how", ["revoke", "by handle", "revoke_all", "revoke_everyone", "erase", "sign out"])
def test_own_ends(near, how):
    """What this process has ended it accepts no more, at once."""
    session = near.create({"n": 0})
    near.bind(session, "ada")
    loaded = held(near, session.identifier)
    match how:
        case "revoke":
            near.revoke(loaded)
        case "by handle":
            near.revoke(session.handle)
        case "sign out":
            near.unbind(loaded)
        case "revoke_everyone":
            near.revoke_everyone()
        case _:
            getattr(near, how)("ada")

    assert near.load(session.identifier) is None


@pytest.mark.requirement("R26")
@pytest.mark.parametrize(
    "write",
    [
        lambda sessions, session: sessions.revoke(session.handle),
        lambda sessions, session: sessions.revoke_all("ada"),
        lambda sessions, session: sessions.revoke_everyone(),
        lambda sessions, session: sessions.erase("ada"),
        lambda sessions, session: sessions.bind(session, "ada", assurance=2),
        lambda sessions, session: [sessions.bind(sessions.create(), "ada") for _ in range(2)],
        lambda sessions, session: sessions.revoke_others(sessions.load(session.identifier)),
    ],
    ids=["revoke", "revoke_all", "revoke_everyone", "erase", "bind anew", "evict", "renew the secret"],
)
def test_end_elsewhere(near, elsewhere, write):
    """A session that another process ends, or gives a new secret alone, is accepted for no longer than the bound."""
    session = elsewhere.create({"n": 0})
    elsewhere.bind(session, "ada")
    identifier = session.identifier
    held(near, identifier)

    write(elsewhere, elsewhere.load(identifier))

    assert seen_in_time(near, identifier, lambda loaded: loaded is None, monotonic())


@pytest.mark.requirement("R26")
def test_writes_elsewhere(near, elsewhere):
    """What another process saves, in a compartment too, is read no later than the bound says; again and again."""
    session = elsewhere.create({"n": 0})
    for number in range(1, 4):
        held(near, session.identifier)
        theirs = elsewhere.load(session.identifier)
        theirs["n"] = number
        elsewhere.save(theirs)
        assert seen_in_time(near, session.identifier, lambda loaded, n=number: loaded["n"] == n, monotonic())

        held(near, session.identifier)
        theirs.compartment("cart")["n"] = number
        elsewhere.save(theirs)
        assert seen_in_time(
            near, session.identifier, lambda loaded, n=number: loaded.compartment("cart").get("n") == n, monotonic()
        )


def test_flushed(near, server):
    """A server that has lost everything is believed."""
    session = near.create({"n": 0})
    held(near, session.identifier)

    server.client.flushall()

    assert seen_in_time(near, session.identifier, lambda loaded: loaded is None, monotonic())


@pytest.mark.requirement("R15")
@pytest.mark.parametrize("passes", ["idle", "absolute", "compartment"])
def test_deadlines(open_near, clock, passes):
    """What is past a deadline that is known here is not answered from memory: the store decides, and its clock."""
    near = open_near(
        idle_timeout=HOUR if passes != "compartment" else 2 * HOUR,
        absolute_timeout=HOUR if passes == "absolute" else 9 * HOUR,
        compartments={"cart": HOUR},
    )
    session = near.create({"n": 0})
    if passes == "compartment":
        session.compartment("cart")["items"] = ["hat"]
        near.save(session)
    held(near, session.identifier)

    clock.moved += HOUR // timedelta(milliseconds=1)

    loaded = near.load(session.identifier)
    assert loaded is None if passes == "absolute" else not loaded.is_near


def test_fresh(near, elsewhere):
    """Who asks for it reads the store: what another process has just done is there."""
    session = elsewhere.create({"n": 0})
    for number in range(1, 20):
        held(near, session.identifier)
        theirs = elsewhere.load(session.identifier)
        theirs["n"] = number
        elsewhere.save(theirs)

        assert near.load(session.identifier, fresh=True)["n"] == number
    elsewhere.revoke(session.handle)
    assert near.load(session.identifier, fresh=True) is None


def test_refresh(near, elsewhere):
    """A session is brought up to date in place; one that has ended is said to have."""
    session = elsewhere.create({"n": 0})

    def write():
        theirs = elsewhere.load(session.identifier)
        theirs.update({"n": 1, "new": [1]})
        theirs.compartment("cart")["n"] = 1
        elsewhere.save(theirs)

    loaded = stale(near, session.identifier, write)
    assert (loaded["n"], near.refresh(loaded), dict(loaded)) == (0, True, {"n": 1, "new": [1]})
    assert (loaded.is_near, loaded.compartment("cart")["n"], loaded.is_changed) == (False, 1, False)
    loaded["n"] += 1
    with pytest.raises(ValueError, match="before anything is changed"):
        near.refresh(loaded)
    near.save(loaded)
    assert elsewhere.load(session.identifier)["n"] == 2
    elsewhere.revoke(session.handle)
    assert not near.refresh(loaded)


def test_found_by_handle(near, elsewhere):
    """What an administrator looks up is read from the store, and can be refreshed."""
    session = elsewhere.create({"n": 0})
    held(near, session.identifier)
    theirs = elsewhere.load(session.identifier)
    theirs["n"] = 1
    elsewhere.save(theirs)

    found = near.find(session.handle)
    assert (found["n"], found.is_near, near.refresh(found)) == (1, False, True)


@pytest.mark.requirement("R32")
def test_freshness_is_asked_of_the_store(near, elsewhere):
    """A sign-in that has ended elsewhere, unnoticed here, proves nothing to who demands a fresh one."""
    session = elsewhere.create({"n": 0})
    elsewhere.bind(session, "ada", assurance=2)
    near.demand_fresh(held(near, session.identifier), HOUR, 2)

    loaded = stale(near, session.identifier, lambda: elsewhere.revoke(session.handle))

    near.require_fresh(loaded, HOUR, 2)
    with pytest.raises(AuthenticationRequired):
        near.demand_fresh(loaded, HOUR, 2)


def test_freshness_of_a_changed_session(near, elsewhere):
    """What a request has changed before it is asked for freshness stays changed."""
    session = elsewhere.create({"n": 0})
    elsewhere.bind(session, "ada")
    loaded = held(near, session.identifier)
    loaded["n"] = 5

    near.demand_fresh(loaded, HOUR)

    near.save(loaded)
    assert elsewhere.load(session.identifier)["n"] == 5


# What is decided on a state that is out of date


@pytest.mark.requirement("R38")
def test_save_on_a_stale_base(near, elsewhere):
    """A save of a session that another process has written meanwhile is merged with it, as ever: nothing is lost."""
    session = elsewhere.create({"n": 1, "mine": 0, "theirs": 0})

    def write():
        theirs = elsewhere.load(session.identifier)
        theirs.increment("n")
        theirs["theirs"] = 1
        elsewhere.save(theirs)

    loaded = stale(near, session.identifier, write)
    loaded.increment("n")
    loaded["mine"] = 1
    near.save(loaded)

    assert dict(elsewhere.load(session.identifier)) == {"n": 3, "mine": 1, "theirs": 1}


@pytest.mark.requirement("R38")
@pytest.mark.parametrize("is_strict", [False, True])
def test_price_of_a_stale_base(near, elsewhere, server, is_strict):
    """It costs one round trip more, and no write of anybody: inside a value, in a compartment, of a deletion."""
    session = elsewhere.create({"shared": {"mine": 0, "theirs": 0}, "mine": 0, "gone": 0, "theirs gone": 0})
    session.compartment("cart")["n"] = 0
    elsewhere.save(session)

    def write():
        theirs = elsewhere.load(session.identifier)
        theirs["shared"]["theirs"] = 1
        theirs["theirs"] = 1
        theirs.compartment("cart")["n"] = 1
        del theirs["theirs gone"]
        elsewhere.save(theirs)

    loaded = stale(near, session.identifier, write)
    loaded.strict = is_strict
    loaded["mine"] = 1
    if not is_strict:
        loaded["shared"]["mine"] = 1
    del loaded["gone"]
    with server.commands() as commands:
        near.save(loaded)

    found = elsewhere.load(session.identifier)
    assert dict(found) == {"shared": {"mine": int(not is_strict), "theirs": 1}, "mine": 1, "theirs": 1}
    assert found.compartment("cart")["n"] == 1
    assert [command.split()[0] for command in commands].count("EVALSHA") == 2


@pytest.mark.requirement("R38")
def test_compartment_on_a_stale_base(near, elsewhere):
    """What two requests change in a compartment is merged too, where one began from memory."""
    session = elsewhere.create({"a": 1})
    session.compartment("cart").update({"mine": 0, "theirs": 0, "n": 1})
    elsewhere.save(session)

    def write():
        theirs = elsewhere.load(session.identifier)
        theirs.compartment("cart")["theirs"] = 1
        theirs.compartment("cart").increment("n")
        elsewhere.save(theirs)

    loaded = stale(near, session.identifier, write)
    loaded.compartment("cart")["mine"] = 1
    loaded.compartment("cart").increment("n")
    near.save(loaded)

    assert dict(elsewhere.load(session.identifier).compartment("cart")) == {"mine": 1, "theirs": 1, "n": 3}


@pytest.mark.requirement("R38")
def test_strict_save_on_a_stale_base(near, elsewhere):
    """In strict mode it is a conflict, and nothing is written."""
    session = elsewhere.create({"n": 1})

    def write():
        theirs = elsewhere.load(session.identifier)
        theirs["n"] = 2
        elsewhere.save(theirs)

    loaded = stale(near, session.identifier, write)
    loaded.strict, loaded["n"] = True, 3

    with pytest.raises(SessionConflict):
        near.save(loaded)
    assert elsewhere.load(session.identifier)["n"] == 2


@pytest.mark.requirement("R14", "R20")
def test_save_of_what_has_ended(near, elsewhere):
    """A session that has ended, unnoticed here, cannot be written, and does not come back."""
    session = elsewhere.create({"n": 1})
    loaded = stale(near, session.identifier, lambda: elsewhere.revoke(session.handle))
    loaded["n"] = 2

    with pytest.raises(SessionRevoked):
        near.save(loaded)
    assert elsewhere.load(session.identifier) is None
    assert near.load(session.identifier) is None


@pytest.mark.requirement("R29")
def test_rotation_on_a_stale_base(open_near, elsewhere, clock):
    """Where another process has rotated it, unnoticed here, that rotation stands and none is added to it."""
    near = open_near(rotate_every=timedelta(minutes=10))
    session = near.create({"n": 1})
    clock.advance(timedelta(minutes=11))
    theirs = elsewhere.load(session.identifier)
    loaded = stale(near, session.identifier, lambda: elsewhere.rotate(theirs))
    assert near.is_rotation_due(loaded)

    loaded.want_rotation()
    near.save(loaded)

    assert loaded.is_superseded
    assert near.load(theirs.identifier)["n"] == 1


@pytest.mark.requirement("R30")
def test_no_theft_is_seen_in_a_stale_state(near, elsewhere, clock):
    """A secret that does not fit what is kept is not judged by that: the store says which it is."""
    session = elsewhere.create({"n": 1})
    theirs = elsewhere.load(session.identifier)
    stale(near, session.identifier, lambda: elsewhere.rotate(theirs))

    assert near.load(theirs.identifier)["n"] == 1
    held(near, theirs.identifier)
    assert near.load(session.identifier)["n"] == 1  # in the grace
    clock.advance(timedelta(seconds=11))
    assert near.load(session.identifier) is None
    assert elsewhere.load(theirs.identifier) is None  # it was a replay, and has ended the session


def test_no_session_ends_for_a_stale_client(open_near):
    """A client that another process has taken on already, unnoticed here, does not end the session."""
    near = open_near(client=ClientPolicy(user_agent=None, address=OnChange.END))
    elsewhere = open_near(client=ClientPolicy(user_agent=None, address=OnChange.OBSERVE))
    session = near.create({"n": 1})
    home, away = ({"user_agent": None, "address": address} for address in ("192.0.2.1", "198.51.100.1"))
    assert near.recognise(near.load(session.identifier), **home)

    def write():
        assert elsewhere.recognise(elsewhere.load(session.identifier, fresh=True), **away)

    loaded = stale(near, session.identifier, write)
    assert near.recognise(loaded, **away)

    assert not near.recognise(near.load(session.identifier, fresh=True), **home)
    assert near.load(session.identifier) is None


def test_recognised_too_late(open_near):
    """Where something was done to it before it is recognised, a session from memory too says what is wrong."""
    near = open_near(client=ClientPolicy(address=OnChange.OBSERVE))
    loaded = held(near, near.create({"n": 1}).identifier)
    loaded["n"] = 2

    with pytest.raises(ValueError, match="before anything is done to the session"):
        near.recognise(loaded, user_agent=None, address="192.0.2.1")


# What it takes


def test_bounded_in_number(open_near):
    """No more sessions are kept than are allowed; those that were read first go."""
    near = open_near({"max_sessions": 3})
    identifiers = [near.create({"n": number}).identifier for number in range(6)]
    for identifier in identifiers:
        held(near, identifier)

    assert near.near_cache().sessions == 3
    assert [near.load(identifier).is_near for identifier in identifiers[3:]] == [True] * 3
    assert not near.load(identifiers[0]).is_near


def test_bounded_in_bytes(open_near):
    """No more bytes are kept than are allowed; a session that is too large by itself is not."""
    near = open_near({"max_bytes": 30_000})
    for number in range(6):
        held(near, near.create({"text": "x" * 8000, "n": number}).identifier)
    assert (near.near_cache().sessions, near.near_cache().bytes <= 30_000) == (3, True)

    large = near.create({"text": "x" * 40_000}).identifier
    assert not any(near.load(large).is_near for _ in range(5))
    assert near.near_cache().bytes <= 30_000


def test_maximum_age(open_near):
    """However quiet it is, the store is asked again when what is kept has reached its maximum age."""
    near = open_near({"max_age": STALENESS})
    session = near.create({"n": 1})
    held(near, session.identifier)

    wait_until(lambda: not near.load(session.identifier).is_near, "the store is not asked again")
    held(near, session.identifier)
    wait_until(lambda: near.near_cache().sessions == 0, "what is too old stays in memory")


@pytest.mark.requirement("R19")
@pytest.mark.requirement("R41")
def test_ends_that_wait(open_near):
    """Where ends wait, no process accepts the session when the call returns."""
    near, elsewhere = open_near(), open_near({"ends_wait": True})
    session = elsewhere.create({"n": 1})
    held(near, session.identifier)

    began = monotonic()
    elsewhere.revoke(session.handle)

    assert near.load(session.identifier) is None
    assert monotonic() - began >= STALENESS.total_seconds()
