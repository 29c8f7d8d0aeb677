"""Retry budget and breaker, over any history, on a clock that is moved."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.runtime.breaker import FAILURES, REST_SECONDS, Breaker, Budget, backoff

STEPS = st.lists(st.tuples(st.sampled_from(["try", "fail"]), st.floats(0, 2)), max_size=200)


@pytest.mark.requirement("R50")
@given(STEPS)
def test_breaker(steps):
    """A server is tried unless it failed FAILURES times in a row; then once after each rest."""
    breaker, now, in_a_row, last = Breaker(), 0.0, 0, 0.0
    for step, passed in steps:
        now += passed
        if step == "fail":
            breaker.fail(now)
            in_a_row, last = in_a_row + 1, now
        elif in_a_row < FAILURES:
            assert breaker.admits(now)
        elif breaker.admits(now):
            assert now - last >= REST_SECONDS / 2
            assert not breaker.admits(now)  # the next probe is a rest away
            last = now
        else:
            assert now - last < REST_SECONDS
        assert breaker.failures == in_a_row


@pytest.mark.requirement("R50")
@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1), st.integers(0, 10)), max_size=100))
def test_budget(history):
    """Retries are never more than a tenth of the calls, one for each second, and the ten saved up at the start."""
    budget, now, calls, retries = Budget(0.0), 0.0, 0, 0
    for more, passed, wanted in history:
        now += passed
        for _ in range(more):
            budget.count()
        calls += more
        for _ in range(wanted):
            retries += budget.spend(now)
        assert retries <= 10 + calls / 10 + now + 1e-6


def test_budget_is_enough_for_few_calls():
    """An application that calls once a second may retry each time: a proxy may close its connection in between."""
    budget = Budget(0.0)

    for second in range(1, 100):
        budget.count()
        assert budget.spend(float(second))


@given(st.integers(1, 100))
def test_backoff(attempt):
    """The waits get longer, are never nothing and never over 40 ms."""
    assert 0 < backoff(attempt) <= min(0.01 * 2 ** (attempt - 1), 0.04)
