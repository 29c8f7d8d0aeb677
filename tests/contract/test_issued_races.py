"""A sign-in and the logout at its issuer at the same time, step by step in every order, and interrupted."""

from itertools import combinations

import pytest

from coatcheck import IssuerSession, Keyring, SessionPolicy, SessionRevoked, StoreUnavailable
from coatcheck.engine.operations import Operations
from coatcheck.runtime.sync import run
from tests.fix_line import Brittle, interruptions, moments

ISSUER = "https://id.example.org"
ISSUED = IssuerSession(ISSUER, "ada@idp", "s-1", 1_767_225_600)
LOGOUTS = {
    "session id": IssuerSession(ISSUER, None, "s-1", 1_767_225_600),
    "subject": IssuerSession(ISSUER, "ada@idp", None, 1_767_225_600),
    "both": IssuerSession(ISSUER, "ada@idp", "s-1", 1_767_225_600),
}

pytestmark = pytest.mark.requirement("R27")


class Turn:
    """Awaited, it lets the test say who goes on."""

    def __await__(self):
        yield


class Stepwise(Brittle):
    """A line that also waits for its turn before each call, while the test plays."""

    plays = False

    async def call(self, *commands):
        """Carry *commands* out."""
        if self.plays:
            await Turn()
        return await super().call(*commands)


@pytest.fixture
def line(server):
    """Give the transport."""
    transport = Stepwise(server.url)
    yield transport
    transport.close()


@pytest.fixture
def operations(line, key, clock):
    """Give operations over it."""
    return Operations(line, keyring=Keyring.parse(key), clock=clock, policy=SessionPolicy(limit=3))


def step(coroutine):
    """Let a coroutine make its next call; give whether it goes on after that, and what it has raised."""
    try:
        coroutine.send(None)
    except StopIteration:
        return False, None
    except SessionRevoked as error:
        return False, error
    return True, None


def play(sign_in, logout, order):
    """Carry both out in *order*, in which True is a step of the sign-in; give what the sign-in has raised.

    Who has a turn left over at the end takes it then.
    """
    going, raised = {True: True, False: True}, None
    for turn in (*order, *[True] * 20, *[False] * 20):
        if going[turn]:
            going[turn], error = step(sign_in if turn else logout)
            raised = raised or error
    assert going == {True: False, False: False}
    return raised


def orders():
    """List the orders of the steps of both, five of a sign-in and six of a logout at most."""
    return [[place in places for place in range(11)] for places in combinations(range(11), 5)]


def begun(operations, kind):
    """Give a session that is about to be signed in: an anonymous one, or one that is ada's already."""
    session = run(operations.create({"a": 1}))
    if kind == "again":
        session.issuer_session = ISSUED
        run(operations.bind(session, "ada"))
    elif kind == "over another's":
        run(operations.bind(session, "bob"))
    session.issuer_session = ISSUED
    return session


@pytest.mark.parametrize("kind", ["anonymous", "again", "over another's"])
@pytest.mark.parametrize("logout", LOGOUTS)
def test_every_order(operations, line, server, kind, logout):
    """In whatever order a sign-in and a logout take their steps, nobody is signed in when both are over."""
    refused = 0
    for order in orders():
        server.client.flushdb()
        session = begun(operations, kind)
        line.plays = True
        sign_in, end = operations.bind(session, "ada"), operations.revoke_issued(LOGOUTS[logout])
        refused += play(sign_in, end, order) is not None
        line.plays = False

        found = run(operations.load(session.identifier))
        assert found is None or found.subject != "ada", order
        assert run(operations.list_for("ada")) == [], order
    assert 0 < refused < len(orders())


@moments
def test_sign_in_interrupted(operations, line, server, after_sending):
    """Wherever a sign-in is interrupted, no signed-in session that a logout misses has an owner."""

    def prepare():
        server.client.flushdb()
        return begun(operations, "anonymous")

    turns = 0
    for session in interruptions(line, after_sending, prepare, lambda session: operations.bind(session, "ada")):
        assert server.keys_without_ttl() == []
        run(operations.revoke_issued(LOGOUTS["both"]))
        found = run(operations.load(session.identifier))
        assert found is None or found.subject is None
        assert run(operations.list_for("ada")) == []
        turns += 1
    assert turns >= 3


@moments
def test_logout_interrupted(operations, line, server, after_sending):
    """Wherever a logout is interrupted, it can be carried out again, and then all is ended."""

    def prepare():
        server.client.flushdb()
        return [begun(operations, "again") for _ in range(2)]

    turns = 0
    for sessions in interruptions(line, after_sending, prepare, lambda _: operations.revoke_issued(LOGOUTS["both"])):
        assert server.keys_without_ttl() == []
        run(operations.revoke_issued(LOGOUTS["both"]))
        assert [run(operations.load(session.identifier)) for session in sessions] == [None, None]
        turns += 1
    assert turns >= 3


def test_refused_sign_in_can_be_tried_again(operations, line):
    """A sign-in whose check was lost has given out no identifier; tried again it is linked."""
    session = begun(operations, "anonymous")
    former, line.breaks_at = session.identifier, 3
    with pytest.raises(StoreUnavailable):
        run(operations.bind(session, "ada"))
    assert session.identifier == former

    run(operations.bind(session, "ada"))

    assert run(operations.revoke_issued(LOGOUTS["session id"])) == 2
    assert run(operations.load(session.identifier)) is None
