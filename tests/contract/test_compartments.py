"""Compartments: parts of a session that end by themselves, loaded, saved and ended with it."""

from datetime import timedelta

import pytest

from coatcheck import (
    AtLimit,
    ConfigurationError,
    SessionConflict,
    SessionLimitReached,
    SessionPolicy,
    SessionRevoked,
    StoreUnavailable,
)
from coatcheck.engine import scripts
from tests import near_mode

MINUTE = timedelta(minutes=1)
POLICY = SessionPolicy(compartments={"cart": 10 * MINUTE, "wizard": MINUTE})


@pytest.fixture
def sessions(open_sessions):
    """Give sessions under a policy with two compartments."""
    return open_sessions(policy=POLICY)


def with_cart(sessions, **attributes):
    """Store a session with something in its cart."""
    session = sessions.new()
    session.update(attributes)
    session.compartment("cart")["items"] = ["hat"]
    sessions.save(session)
    return session


def cart(sessions, session):
    """Read the cart as a later request finds it."""
    return dict(sessions.load(session.identifier).compartment("cart"))


def names(commands):
    """List the names of commands, without those that renew the clock."""
    return [command.split()[0] for command in commands if command != "TIME"]


def test_cart_expires_and_login_stays(sessions, clock):
    """A compartment that is not used ends after its own idle timeout; the session goes on."""
    session = with_cart(sessions, user="ada")
    clock.advance(9 * MINUTE)
    sessions.save(sessions.load(session.identifier))
    clock.advance(2 * MINUTE)

    assert cart(sessions, session) == {}
    assert sessions.load(session.identifier)["user"] == "ada"


def test_use_extends_a_compartment(sessions, clock):
    """To read a compartment is to use it: it outlives its idle timeout."""
    session = with_cart(sessions)
    for _ in range(4):
        clock.advance(6 * MINUTE)
        loaded = sessions.load(session.identifier)
        assert loaded.compartment("cart")["items"] == ["hat"]
        sessions.save(loaded)

    assert cart(sessions, session) == {"items": ["hat"]}


@pytest.mark.requirement("R16")
@pytest.mark.skipif(near_mode.IS_ON, reason=near_mode.LOADS_SEND_NOTHING)
def test_extension_is_coalesced(sessions, server, clock):
    """Within a tenth of its idle timeout a compartment is extended once, in the round trip of the session's touch."""
    session = with_cart(sessions)
    for _ in range(2):  # the first time, the server may have to be told the scripts
        clock.advance(4 * MINUTE)
        with server.commands() as commands:
            for _ in range(50):
                cart_of = sessions.load(session.identifier)
                assert cart_of.compartment("cart")
                sessions.save(cart_of)

    assert names(commands) == ["MGET", "EVALSHA", "EVALSHA", *["MGET"] * 49]


@pytest.mark.requirement("R39")
@pytest.mark.skipif(near_mode.IS_ON, reason=near_mode.LOADS_SEND_NOTHING)
def test_load_is_one_command(sessions, server):
    """Session and compartments are loaded with one command, and nothing is sent where nothing changed."""
    session = with_cart(sessions)
    with server.commands() as commands:
        loaded = sessions.load(session.identifier)
        assert loaded.compartment("cart")["items"] == ["hat"]
        sessions.save(loaded)

    assert names(commands) == ["MGET"]


def test_changes_of_both_are_one_round_trip(sessions):
    """A session and its compartments are saved in one round trip."""
    session = with_cart(sessions)
    loaded = sessions.load(session.identifier)
    loaded["a"] = 1
    loaded.compartment("cart")["items"].append("coat")
    loaded.compartment("wizard")["page"] = 2
    core = getattr(sessions, "core", None) or sessions._sessions
    calls, call = [], core._store.transport.call

    async def counted(*commands):
        calls.append(len(commands))
        return await call(*commands)

    core._store.transport.call = counted
    sessions.save(loaded)

    assert calls == [3]
    assert cart(sessions, session) == {"items": ["hat", "coat"]}


def test_session_without_attributes(sessions, server):
    """A session that holds only a cart is kept; one whose compartments are empty is not stored."""
    session = with_cart(sessions)
    empty = sessions.new()
    assert not empty.compartment("cart")
    sessions.save(empty)

    assert cart(sessions, session) == {"items": ["hat"]}
    assert empty.is_new
    assert len(server.keys(":s:")) == 1


def test_emptied_compartment_leaves_no_key(sessions, server):
    """A compartment with nothing left in it is removed from the store."""
    session = with_cart(sessions, a=1)
    loaded = sessions.load(session.identifier)
    loaded.compartment("cart").clear()
    sessions.save(loaded)

    assert server.keys(":c:") == []


@pytest.mark.requirement("R38")
def test_changes_of_two_requests_merge(sessions):
    """Two requests that change a compartment at once both win."""
    session = with_cart(sessions)
    one, two = sessions.load(session.identifier), sessions.load(session.identifier)
    one.compartment("cart")["gift"] = True
    two.compartment("cart")["note"] = "x"
    sessions.save(one)
    sessions.save(two)

    assert cart(sessions, session) == {"items": ["hat"], "gift": True, "note": "x"}


def test_strict_conflict(sessions):
    """A strict session refuses to write over another request's change in a compartment."""
    session = with_cart(sessions)
    one, two = sessions.load(session.identifier), sessions.load(session.identifier)
    two.strict = True
    one.compartment("cart")["items"] = ["coat"]
    two.compartment("cart")["items"] = ["shoe"]
    sessions.save(one)

    with pytest.raises(SessionConflict):
        sessions.save(two)

    assert cart(sessions, session) == {"items": ["coat"]}


@pytest.mark.requirement("R38")
@pytest.mark.parametrize("where", ["session", "compartment"])
def test_100_parallel_increments(sessions, at_once, where):
    """100 increments at once add up to 100, in the session and in a compartment."""
    session = with_cart(sessions, n=0)
    loaded = [sessions.load(session.identifier) for _ in range(100)]
    for each in loaded:
        (each if where == "session" else each.compartment("cart")).increment("n")
    assert at_once(*((sessions, "save", each) for each in loaded)) == [None] * 100

    after = sessions.load(session.identifier)
    assert (after if where == "session" else after.compartment("cart"))["n"] == 100


@pytest.mark.requirement("R43")
def test_save_again_after_a_lost_reply(sessions):
    """A save that is tried again after its reply was lost counts once, in a compartment and in the activity."""
    session = with_cart(sessions, a=1)
    loaded = sessions.load(session.identifier)
    loaded.compartment("cart").increment("n")
    loaded.record("counted")
    store = (getattr(sessions, "core", None) or sessions._sessions)._store
    call = store.transport.call

    async def loses_the_reply(*commands):
        store.transport.call = call
        await call(*commands)
        raise StoreUnavailable("the reply was lost")

    store.transport.call = loses_the_reply
    with pytest.raises(StoreUnavailable):
        sessions.save(loaded)
    sessions.save(loaded)

    assert cart(sessions, session)["n"] == 1
    assert len(sessions.activity(session)) == 1


def test_server_that_knows_some_scripts_only(sessions, server):
    """A server that has forgotten the script of the session's own write loses nothing that goes along with it."""
    server.client.script_flush()
    for script in (scripts.COMPARTMENT, scripts.ACTIVITY):
        server.client.script_load(script.source)
    session = sessions.new()
    session.compartment("cart")["items"] = ["hat"]
    session.record("landed")
    sessions.save(session)

    assert cart(sessions, session) == {"items": ["hat"]}
    assert len(sessions.activity(session)) == 1


def test_refused_sign_in_keeps_the_cart(open_sessions, server):
    """A sign-in that the limit refuses leaves the cart with the anonymous session, and nowhere else."""
    policy = SessionPolicy(compartments={"cart": MINUTE}, limit=1, at_limit=AtLimit.REFUSE)
    sessions = open_sessions(policy=policy)
    sessions.bind(sessions.new(), "ada")
    session = with_cart(sessions)
    loaded = sessions.load(session.identifier)
    with pytest.raises(SessionLimitReached):
        sessions.bind(loaded, "ada")

    assert cart(sessions, session) == {"items": ["hat"]}
    assert len(server.keys(":c:")) == 1


def test_change_of_a_cart_that_expired_meanwhile(sessions, clock):
    """What a request changes in a compartment that expired meanwhile is kept, the rest stays gone."""
    session = with_cart(sessions)
    loaded = sessions.load(session.identifier)
    loaded.compartment("cart")["note"] = "x"
    clock.advance(11 * MINUTE)
    sessions.save(loaded)

    assert cart(sessions, session) == {"note": "x"}


@pytest.mark.requirement("R14")
def test_write_after_the_end_of_the_session(sessions, server):
    """A compartment is not written once its session has ended, and nothing comes back."""
    session = with_cart(sessions)
    loaded = sessions.load(session.identifier)
    loaded.compartment("cart")["items"] = ["coat"]
    sessions.revoke(session.handle)

    with pytest.raises(SessionRevoked):
        sessions.save(loaded)

    assert server.keys(":c:") == server.keys(":s:") == []


@pytest.mark.parametrize(
    "end",
    [
        lambda sessions, session: sessions.revoke(session.handle),
        lambda sessions, session: sessions.revoke_all("ada"),
        lambda sessions, session: sessions.unbind(session),
        lambda sessions, session: sessions.bind(session, "bob"),
    ],
    ids=["revoke", "revoke all", "sign-out", "another sign-in"],
)
def test_ends_with_the_session(sessions, server, end):
    """Whatever ends a session deletes its compartments and its activity with it."""
    session = with_cart(sessions)
    sessions.bind(session, "ada")
    session.record("signed in")
    sessions.save(session)
    assert len(server.keys(":c:")) == len(server.keys(":a:")) == 1
    end(sessions, session)

    assert server.keys(":c:") == server.keys(":a:") == []


def test_ends_with_an_evicted_session(open_sessions, server):
    """A session that the limit evicts takes its compartments along."""
    sessions = open_sessions(policy=SessionPolicy(compartments={"cart": MINUTE}, limit=1))
    sessions.bind(with_cart(sessions), "ada")
    other = sessions.new()
    sessions.bind(other, "ada")

    assert server.keys(":c:") == []


@pytest.mark.requirement("R31")
@pytest.mark.parametrize(
    ("carried", "after"), [(None, {"items": ["hat"]}), (("cart",), {"items": ["hat"]}), (("user",), {})]
)
def test_crosses_a_sign_in(open_sessions, server, carried, after):
    """A compartment crosses a sign-in where `carried` names it or is None; the former one is gone."""
    sessions = open_sessions(policy=SessionPolicy(compartments={"cart": 10 * MINUTE}, carried=carried))
    session = with_cart(sessions)
    loaded = sessions.load(session.identifier)
    sessions.bind(loaded, "ada")

    assert cart(sessions, loaded) == after
    assert dict(loaded.compartment("cart")) == after
    assert len(server.keys(":c:")) == (1 if after else 0)
    assert server.keys_without_ttl() == []


def test_own_changes_cross_a_sign_in(open_sessions):
    """What the request that signs in puts into a compartment that is not carried is kept."""
    sessions = open_sessions(policy=SessionPolicy(compartments={"cart": 10 * MINUTE}, carried=()))
    loaded = sessions.load(with_cart(sessions).identifier)
    loaded.compartment("cart")["note"] = "x"
    sessions.bind(loaded, "ada")

    assert cart(sessions, loaded) == {"note": "x"}


def test_crosses_a_second_sign_in_of_the_same_subject(sessions):
    """Who authenticates again keeps the cart."""
    session = with_cart(sessions)
    sessions.bind(session, "ada")
    loaded = sessions.load(session.identifier)
    sessions.bind(loaded, "ada")

    assert cart(sessions, loaded) == {"items": ["hat"]}


def test_own_idle_timeout(sessions, clock):
    """A compartment may get an idle timeout of its own, which stays with it."""
    session = with_cart(sessions)
    loaded = sessions.load(session.identifier)
    loaded.compartment("cart", idle_timeout=20 * MINUTE)
    sessions.save(loaded)
    clock.advance(15 * MINUTE)

    assert cart(sessions, session) == {"items": ["hat"]}
    assert sessions.load(session.identifier).compartment("cart").idle_timeout == 20 * MINUTE


def test_contents_are_sealed(sessions, server):
    """What is in a compartment cannot be read in the store."""
    with_cart(sessions)

    assert not any(b"hat" in content for content in server.contents().values())


@pytest.mark.requirement("R13")
def test_never_longer_than_the_session(sessions, server, clock):
    """A compartment's key never outlives its session's absolute deadline."""
    session = with_cart(sessions)
    for _ in range(24 * 6 - 3):
        clock.advance(5 * MINUTE)
        sessions.save(sessions.load(session.identifier))
    loaded = sessions.load(session.identifier)
    loaded.compartment("cart")["note"] = "x"
    clock.advance(10 * MINUTE)
    sessions.save(loaded)
    (name,) = server.keys(":c:")

    assert 0 < server.client.pttl(name) <= 5 * 60 * 1000


def test_undeclared_name(sessions):
    """A compartment that the policy does not declare is a mistake."""
    with pytest.raises(ConfigurationError):
        sessions.new().compartment("carrt")


@pytest.mark.parametrize("declared", [{"Cart": MINUTE}, {"": MINUTE}, {"a b": MINUTE}, {"x" * 33: MINUTE}])
def test_bad_name(declared):
    """The name of a compartment is 1 to 32 of a-z 0-9 _ -."""
    with pytest.raises(ConfigurationError):
        SessionPolicy(compartments=declared)


@pytest.mark.parametrize("timeout", [timedelta(0), timedelta(hours=1), 60])
def test_bad_timeout(timeout):
    """A compartment lives unused for at least a millisecond and no longer than its session."""
    with pytest.raises(ConfigurationError):
        SessionPolicy(compartments={"cart": timeout})
