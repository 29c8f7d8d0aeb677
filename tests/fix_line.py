"""A line to the store that breaks: at any call, before it is sent or after it, or by sending it twice.

It stands for a process that dies or a connection that is lost; the store behind it is a real one.
"""

import os
from datetime import timedelta

import pytest

from coatcheck import Keyring, SessionPolicy, StoreUnavailable
from coatcheck.engine.operations import Operations
from coatcheck.runtime.address import Address
from coatcheck.runtime.blocking import BlockingTransport
from coatcheck.runtime.sync import run

POLICY = SessionPolicy(limit=3, compartments={"cart": timedelta(minutes=5)})


class Brittle:
    """A transport that breaks at its *breaks_at*-th call from now, before or after sending it."""

    def __init__(self, url):
        self._sound = BlockingTransport(Address(url), {})
        self.breaks_at = 0
        self.after_sending = False
        self.sends_twice = False
        self.between = None
        self.is_deadly = False

    async def call(self, *commands):
        """Carry *commands* out, or not, or twice."""
        self.breaks_at -= 1
        if self.breaks_at == 0 and not self.after_sending:
            self._break("the line broke")
        replies = await self._sound.call(*commands)
        if self.breaks_at == 0:
            self._break("the reply was lost")
        if self.sends_twice:
            if self.between is not None:
                self.between()
            replies = await self._sound.call(*commands)
        return replies

    async def pause(self, seconds):
        """Wait."""
        await self._sound.pause(seconds)

    def time_left(self):
        """Say how long a call has."""
        return self._sound.time_left()

    async def has_stood_since(self, moment):
        """Say that nobody took the server's place."""
        return await self._sound.has_stood_since(moment)

    def signal(self):
        """Make a signal."""
        return self._sound.signal()

    def close(self):
        """Close the connections."""
        self._sound.close()

    def _break(self, how):
        if self.is_deadly:
            os._exit(9)
        raise StoreUnavailable(how)


@pytest.fixture
def line(server):
    """Give the transport."""
    brittle = Brittle(server.url)
    yield brittle
    brittle.close()


@pytest.fixture
def brittle(line, key, clock):
    """Give operations over the brittle transport."""
    return Operations(line, keyring=Keyring.parse(key), clock=clock, policy=POLICY)


@pytest.fixture
def sound(line, key, clock):
    """Give operations of another process, whose line does not break."""
    transport = BlockingTransport(line._sound.address, {})
    yield Operations(transport, keyring=Keyring.parse(key), clock=clock, policy=POLICY)
    transport.close()


def anonymous(operations):
    """Make an anonymous session."""
    return run(operations.create({"a": 1, "n": 10}))


def signed_in(operations):
    """Make a session of ada's."""
    session = anonymous(operations)
    run(operations.bind(session, "ada"))
    return session


def with_cart(operations):
    """Make a session of ada's, with a cart and an activity."""
    session = signed_in(operations)
    session.compartment("cart")["items"] = ["hat"]
    session.record("view")
    run(operations.save(session))
    return session


def save(operations, session):
    """Change something and save it."""
    session["b"] = 2
    session.increment("n")
    return operations.save(session)


def save_timeouts(operations, session):
    """Give a session timeouts of its own."""
    session.set_timeouts(idle=timedelta(hours=2))
    return operations.save(session)


def save_all(operations, session):
    """Change something everywhere and save it."""
    session.compartment("cart")["items"] = ["coat"]
    session.record("buy")
    return save(operations, session)


OPERATIONS = {
    "sign in": (anonymous, lambda operations, session: operations.bind(session, "ada")),
    "sign in again": (signed_in, lambda operations, session: operations.bind(session, "ada")),
    "step up": (with_cart, lambda operations, session: operations.bind(session, "ada", assurance=2)),
    "sign somebody else in": (signed_in, lambda operations, session: operations.bind(session, "bob")),
    "sign out": (signed_in, lambda operations, session: operations.unbind(session)),
    "rotate": (signed_in, lambda operations, session: operations.rotate(session)),
    "save": (signed_in, save),
    "save timeouts": (signed_in, save_timeouts),
    "save all": (with_cart, save_all),
    "revoke": (signed_in, lambda operations, session: operations.revoke(session)),
    "revoke by handle": (with_cart, lambda operations, session: operations.revoke(session.handle)),
    "revoke all": (with_cart, lambda operations, session: operations.revoke_all("ada")),
}
SAVES = {"save", "save timeouts", "save all"}
KEEPS_THE_OLD = {"rotate", *SAVES}
ENDS = {"revoke", "revoke by handle", "revoke all"}

every_operation = pytest.mark.parametrize("name", OPERATIONS)
moments = pytest.mark.parametrize("after_sending", [False, True], ids=["before sending", "after sending"])


def interruptions(line, after_sending, prepare, operate):
    """Interrupt *operate* at each of its calls in turn; give, for each, what *prepare* had made for it."""
    for call in range(1, 20):
        prepared = prepare()
        line.breaks_at, line.after_sending = call, after_sending
        try:
            run(operate(prepared))
        except StoreUnavailable:
            line.breaks_at = 0
            yield prepared
        else:
            assert call > 1
            line.breaks_at = 0
            return
    raise AssertionError("the operation does not come to an end")


def interrupted(name, brittle, line, sound, after_sending):
    """Interrupt the operation at each of its calls in turn; give, for each, the old identifier and the session."""
    make, operate = OPERATIONS[name]

    def prepare():
        run(sound.revoke_all("ada"))
        run(sound.revoke_all("bob"))
        brittle._endings.open.clear()  # what the last turn could not end is not this one's
        session = make(brittle)
        return session.identifier, session

    return interruptions(line, after_sending, prepare, lambda prepared: operate(brittle, prepared[1]))
