"""Another client in a session: observed, asked to step up, or the end."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from coatcheck import Client, ClientPolicy, EventType, OnChange, SessionPolicy, SessionRevoked, Status
from tests.fix_store import Stepped

MINUTE = timedelta(minutes=1)
HOME, AWAY = "192.0.2.7", "198.51.100.9"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
)
CHANGED = "user agent: Firefox on Linux -> Chrome on Windows; address"


@pytest.fixture
def under(open_sessions):
    """Give a function that opens sessions under a reaction to both parts of the client."""
    return lambda reaction: open_sessions(
        policy=SessionPolicy(client=ClientPolicy(user_agent=reaction, address=reaction))
    )


def owner(sessions, **attributes):
    """Sign ada in, at home with Firefox; give her session."""
    session = sessions.new()
    session.update(attributes)
    assert sessions.recognise(session, user_agent=FIREFOX, address=HOME)
    sessions.bind(session, "ada", assurance=2)
    return session


def changes(sessions):
    """List the events of clients, as type and why."""
    found = sessions.read_events("test", "one")
    return [(event.type, event.why) for event in found if event.type in {EventType.CLIENT_CHANGED, EventType.REVOKED}]


def visit(sessions, session, user_agent=CHROME, address=AWAY):
    """Load the session again, from a client; give it, and whether it goes on."""
    loaded = sessions.load(session.identifier)
    return loaded, sessions.recognise(loaded, user_agent=user_agent, address=address)


@pytest.mark.parametrize("reaction", OnChange)
def test_same_client(under, server, reaction):
    """The client that signed in, updated and elsewhere in its network, is no event; to compare sends nothing."""
    sessions = under(reaction)
    session = owner(sessions)
    loaded = sessions.load(session.identifier)

    with server.commands() as sent:
        assert sessions.recognise(loaded, user_agent=FIREFOX.replace("140", "141"), address="192.0.2.200")

    assert sent == []
    assert changes(sessions) == []


def test_observe(under):
    """A new client is told of once, and is the one that is known and shown from then on."""
    sessions = under(OnChange.OBSERVE)
    session = owner(sessions, cart=["book"])

    loaded, goes_on = visit(sessions, session)

    assert (goes_on, loaded["cart"], loaded.status) == (True, ["book"], Status.CLEAN)
    assert visit(sessions, session)[1]
    assert changes(sessions) == [(EventType.CLIENT_CHANGED, CHANGED)]
    assert [info.client for info in sessions.list_for("ada")] == [Client("Chrome on Windows", "198.51.100.0/24")]
    assert sessions.is_fresh(loaded, MINUTE, assurance=2)


def test_event_names_the_session(under):
    """The event carries the session's handle and its subject's digest."""
    sessions = under(OnChange.OBSERVE)
    session = owner(sessions)
    visit(sessions, session)

    (event,) = [event for event in sessions.read_events("test", "one") if event.type is EventType.CLIENT_CHANGED]
    assert event.handle == session.handle
    assert {event.subject_digest} == sessions.subject_digests("ada")


@pytest.mark.requirement("R32")
def test_step_up(under, open_sessions):
    """With a new client the subject is not fresh, on any server, until it authenticates anew; then it is."""
    sessions = under(OnChange.STEP_UP)
    session = owner(sessions, cart=["book"])

    loaded, goes_on = visit(sessions, session)

    assert (goes_on, loaded["cart"], loaded.assurance) == (True, ["book"], 0)
    assert loaded.auth_time == session.auth_time
    for found in (loaded, open_sessions().load(session.identifier), visit(sessions, session, FIREFOX, HOME)[0]):
        assert not sessions.is_fresh(found, MINUTE)
        assert not sessions.is_fresh(found, MINUTE, assurance=0)
    again, _ = visit(sessions, session)
    sessions.bind(again, "ada", assurance=2)
    assert sessions.is_fresh(visit(sessions, again)[0], MINUTE, assurance=2)
    assert [event for event, _ in changes(sessions)].count(EventType.CLIENT_CHANGED) == 3


@pytest.mark.requirement("R32")
@pytest.mark.parametrize("reaction", [OnChange.OBSERVE, OnChange.STEP_UP])
def test_late_save_of_the_former_client(under, reaction):
    """What a request of the former client saves late is kept; it brings back neither its client nor its freshness."""
    sessions = under(reaction)
    session = owner(sessions)
    late, _ = visit(sessions, session, FIREFOX, HOME)
    visit(sessions, session)

    late["cart"] = ["book"]
    sessions.save(late)

    loaded, _ = visit(sessions, session)
    assert loaded["cart"] == ["book"]
    assert loaded.assurance == (2 if reaction is OnChange.OBSERVE else 0)
    assert len(changes(sessions)) == 1


@pytest.mark.requirement("R20")
def test_end(under):
    """A new client ends the session, for everybody, and the event says what changed; a late save revives nothing."""
    sessions = under(OnChange.END)
    session = owner(sessions)
    late, _ = visit(sessions, session, FIREFOX, HOME)

    loaded, goes_on = visit(sessions, session)

    assert (goes_on, loaded.status) == (False, Status.REVOKED)
    assert sessions.load(session.identifier) is None
    assert sessions.list_for("ada") == []
    late["cart"] = ["book"]
    with pytest.raises(SessionRevoked):
        sessions.save(late)
    assert changes(sessions) == [(EventType.REVOKED, f"client changed: {CHANGED}")]


def recognise_at_once(sessions, copies):
    """Have a new client use all *copies* of a session at the same time; list which go on."""
    client = {"user_agent": CHROME, "address": AWAY}
    if isinstance(sessions, Stepped):

        async def gather():
            return await asyncio.gather(*(sessions._sessions.recognise(copy, **client) for copy in copies))

        return sessions._loop.run_until_complete(gather())
    with ThreadPoolExecutor(len(copies)) as threads:
        return list(threads.map(lambda copy: sessions.recognise(copy, **client), copies))


@pytest.mark.parametrize("reaction", OnChange)
def test_20_at_once(under, reaction):
    """20 parallel requests of a new client give one event; all of them go on, or none does."""
    sessions = under(reaction)
    session = owner(sessions)
    copies = [sessions.load(session.identifier) for _ in range(20)]

    assert recognise_at_once(sessions, copies) == [reaction is not OnChange.END] * 20

    assert len(changes(sessions)) == 1
    assert [copy.ended for copy in copies].count(True) == (1 if reaction is OnChange.END else 0)
    if reaction is not OnChange.END:
        assert {copy.payload.client for copy in copies} == {"Chrome on Windows\n198.51.100.0/24"}


def test_first_seen(under, open_sessions):
    """A session from before the policy takes on the first client that comes, silently, and knows it then."""
    session = open_sessions().create({"a": 1})
    sessions = under(OnChange.END)

    assert visit(sessions, session)[1]
    assert changes(sessions) == []
    assert not visit(sessions, session, FIREFOX, HOME)[1]


def test_one_of_two_first_seen(under, open_sessions):
    """Of two clients that are the first at the same moment, the second meets what the first has written."""
    session = open_sessions().create({"a": 1})
    sessions = under(OnChange.END)
    first, second = sessions.load(session.identifier), sessions.load(session.identifier)

    assert sessions.recognise(first, user_agent=FIREFOX, address=HOME)
    assert not sessions.recognise(second, user_agent=CHROME, address=AWAY)


def test_unknown_without_policy(open_sessions, server):
    """Without a policy for it nothing is compared and nothing kept, also where another server has kept it before."""
    watching, plain = open_sessions(policy=SessionPolicy(client=ClientPolicy())), open_sessions()
    session = owner(watching)
    loaded = plain.load(session.identifier)

    with server.commands() as sent:
        assert plain.recognise(loaded, user_agent=CHROME, address=AWAY)
    assert sent == []
    plain.bind(loaded, "ada")
    assert [info.client for info in plain.list_for("ada")] == [Client()]
    assert owner(plain).payload.client == ""


def test_anonymous_and_signed_out(under):
    """An anonymous session knows its client from its creation on, and what is left after a sign-out knows it too."""
    sessions = under(OnChange.END)
    session = sessions.new()
    sessions.recognise(session, user_agent=FIREFOX, address=HOME)
    session["cart"] = ["book"]
    sessions.save(session)
    assert session.payload.client == "Firefox on Linux\n192.0.2.0/24"

    sessions.bind(session, "ada")
    sessions.unbind(session)

    assert session.payload.client == "Firefox on Linux\n192.0.2.0/24"
    assert not visit(sessions, session)[1]


def test_rotation_and_saves_keep_it(under):
    """Writes, rotations and new timeouts leave the known client as it is."""
    sessions = under(OnChange.END)
    session = owner(sessions)
    session["a"] = 1
    session.set_timeouts(idle=timedelta(hours=1))
    sessions.save(session)
    sessions.rotate(session)

    assert visit(sessions, session, FIREFOX, HOME)[1]


def test_too_late(under):
    """To have a session recognised after something was done to it is refused: that would be lost."""
    sessions = under(OnChange.OBSERVE)
    loaded = sessions.load(owner(sessions).identifier)
    loaded["a"] = 1

    with pytest.raises(ValueError, match="before anything is done to the session"):
        sessions.recognise(loaded, user_agent=CHROME, address=AWAY)


def test_gone_meanwhile(under):
    """A session that has ended between load and comparison does not go on, and nothing is told of its client."""
    for reaction in OnChange:
        sessions = under(reaction)
        session = owner(sessions)
        loaded = sessions.load(session.identifier)
        sessions.revoke(session.handle)

        assert not sessions.recognise(loaded, user_agent=CHROME, address=AWAY)
        assert not loaded.ended
    assert changes(sessions) == [(EventType.REVOKED, None)] * 3


@pytest.mark.requirement("R60")
def test_whole_address_is_nowhere(under, server, logged):
    """Neither record nor log nor event has the address; the log names the session by its handle."""
    sessions = under(OnChange.STEP_UP)
    session = owner(sessions)
    loaded, _ = visit(sessions, session)

    (line,) = logged("session_client_changed")
    assert (line.handle, line.why) == (str(session.handle), CHANGED)
    kept = f"{loaded.payload} {[vars(record) for record in logged()]} {server.contents()}"
    assert AWAY not in kept
    assert HOME not in kept
