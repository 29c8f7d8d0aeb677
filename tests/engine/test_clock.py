"""The server's time as a client knows it."""

import time

import pytest

from coatcheck.engine.clock import Clock


@pytest.fixture
def ticks(monkeypatch):
    """Give a list whose last entry is the monotonic clock."""
    values = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: values[-1])
    return values


def test_time_is_unknown_at_first():
    """Before it has asked the server, a clock does not guess."""
    clock = Clock()

    assert not clock.is_known
    assert clock.due_at < time.monotonic()
    for ask in (clock.now, clock.latest):
        with pytest.raises(RuntimeError, match="the server's time is not known yet"):
            ask()


def test_counts_on_from_what_it_learned(ticks):
    """The time goes on from the server's answer with the monotonic clock, in whole milliseconds."""
    clock = Clock()
    clock.learn((5_000, 250_999), ticks[-1])
    assert clock.now() == 5_000_250

    ticks.append(1002.5)
    assert clock.now() == 5_002_750


def test_is_renewed_once_a_minute(ticks):
    """What was learned is good for a minute; it goes on to be used until it is renewed."""
    clock = Clock()
    clock.learn((5_000, 0), ticks[-1])
    ticks.append(1059.9)
    assert time.monotonic() < clock.due_at

    ticks.append(1060.1)
    assert clock.due_at < time.monotonic()
    assert clock.now() == 5_060_100


def test_latest_is_never_behind(ticks):
    """The latest that the time can be allows for how long the answer was on its way, and for clocks that drift."""
    clock = Clock()
    ticks.append(1000.2)
    clock.learn((5_000, 0), 1000.0)  # sent in any of those 200 ms
    assert clock.now() == 5_000_000
    assert 5_000_200 <= clock.latest() <= 5_000_202

    ticks.append(1060.2)
    assert 5_060_200 + 60 <= clock.latest() <= 5_060_202 + 60


@pytest.mark.parametrize("skew", [3600, -3600, 1e9])
def test_wall_clock_changes_nothing(ticks, monkeypatch, skew):
    """A wrong wall clock, or one that is set meanwhile, does not matter."""
    clock = Clock()
    clock.learn((5_000, 0), ticks[-1])
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + skew)

    assert clock.now() == 5_000_000


def test_server_with_another_clock(ticks):
    """After a failover to a server whose clock is behind, the time is that server's."""
    clock = Clock()
    clock.learn((5_000, 0), ticks[-1])
    clock.learn((4_000, 0), ticks[-1])

    assert clock.now() == 4_000_000


def test_slow_answer_says_too_little(ticks):
    """An answer that took over a second is used only where there is nothing better."""
    clock = Clock()
    ticks.append(1003.0)
    clock.learn((5_000, 0), 1000.0)
    assert clock.now() == 5_000_000

    ticks.append(1006.0)
    clock.learn((9_000, 0), 1004.0)
    assert clock.now() == 5_003_000


def test_two_threads_learn_at_once(ticks):
    """What one thread learns while another does just that is not mixed with it."""
    clock = Clock()

    class Interrupted(int):
        def __int__(self):
            ticks.append(1030.0)  # the other thread is a while later
            clock.learn((5_030, 0), ticks[-1])
            return 5_000

    clock.learn((Interrupted(), 0), ticks[-1])

    assert clock.now() == 5_030_000
