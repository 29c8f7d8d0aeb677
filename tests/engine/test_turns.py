"""Turns, by themselves: who has one, who waits, and where nobody does."""

import os
import time

import pytest

from coatcheck import StoreUnavailable
from coatcheck.engine.deadline import OneDeadline
from coatcheck.engine.durability import Receipt
from coatcheck.engine.turns import Turns, Writing
from coatcheck.model.durability import Write
from coatcheck.model.ticket import Handle
from coatcheck.runtime.address import Address
from coatcheck.runtime.blocking import BlockingTransport
from coatcheck.runtime.sync import run


@pytest.fixture
def turns():
    """Give the turns of a process whose waits are short."""
    return Turns(BlockingTransport(Address("redis://127.0.0.1:1"), {"deadline": 0.04}))


def take(turns, handle, one):
    """Take a turn, or wait for it."""
    if not turns.take(handle, one):
        run(turns.wait(handle, one))


def writing():
    """Make somebody who writes."""
    return Writing([], b"", Receipt(Write.SAVE))


def test_alone(turns):
    """Who is alone has the turn at once, and leaves nothing behind."""
    handle, one = Handle.new(), writing()

    take(turns, handle, one)
    assert one.line is not None
    turns.leave(handle, one)

    assert one.line is None
    assert not turns._lines


def test_different_sessions(turns):
    """Writers of different sessions do not wait for each other."""
    first, second = writing(), writing()

    take(turns, Handle.new(), first)
    take(turns, Handle.new(), second)

    assert second.line is not None


def test_in_vain(turns):
    """Who has waited in vain goes on without a turn, and who comes then has one at once."""
    handle, first, second, third = Handle.new(), writing(), writing(), writing()
    take(turns, handle, first)

    take(turns, handle, second)
    take(turns, handle, third)

    assert second.line is None
    assert third.line is not None
    turns.leave(handle, first)
    turns.leave(handle, second)
    assert third.line is not None
    turns.leave(handle, third)
    assert not turns._lines


def test_no_time_left(turns):
    """Who has no time left does not wait, and leaves nothing behind in the line."""
    handle, first, second = Handle.new(), writing(), writing()
    take(turns, handle, first)

    with OneDeadline(time.monotonic() - 1), pytest.raises(StoreUnavailable, match="what went before took all of it"):
        take(turns, handle, second)
    turns.leave(handle, first)

    assert (first.line, second.line, turns._lines) == (None, None, {})


def test_fork(turns):
    """A child process does not wait for those who have a turn in its parent."""
    handle, first, second = Handle.new(), writing(), writing()
    take(turns, handle, first)

    child = os.fork()
    if not child:
        take(turns, handle, second)
        os._exit(0 if second.line is not None else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
