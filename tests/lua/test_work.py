"""How much a script does at most: the commands that it carries out, as the server counts them.

A server does nothing else while a script runs. These bounds hold on every machine; what they are in milliseconds is
measured in docs/scaling.md.
"""

import pytest

from coatcheck.engine import scripts
from tests.lua.conftest import IDLE, name

CALLERS = ("evalsha", "info", "config")
FEW, MANY = 40, 120


def work_of(bench, run):
    """Count the commands that the script carries out which *run* calls."""
    bench.client.config_resetstat()
    run()
    calls = {key.removeprefix("cmdstat_"): stats["calls"] for key, stats in bench.client.info("commandstats").items()}
    assert calls["evalsha"] == 1
    return sum(count for command, count in calls.items() if not command.startswith(CALLERS))


def signed_in(bench, count, **options):
    """Have the subject signed in with so many sessions."""
    return bench.bound(*(name(number) for number in range(count)), **options)


def forget(bench, sessions):
    """Let *sessions* end without a word, as a timeout does."""
    bench.client.delete(*(bench.key(session.name) for session in sessions))


def revoke_all(bench, at_most):
    """End that many sessions."""
    arguments = (bench.stem, bench.place.digest, "", at_most, bench.now, "", "", "", bench.now + IDLE)
    return work_of(bench, lambda: bench.run(scripts.REVOKE_ALL, (bench.u, bench.x, bench.g, bench.e), *arguments))


def sweep(bench, at_most):
    """Settle that many entries that are due."""
    bench.client.zadd(bench.x, dict.fromkeys(bench.client.zrange(bench.x, 0, -1), 1))
    arguments = (bench.now, bench.stem, bench.subjects, at_most, "")
    return work_of(bench, lambda: bench.run(scripts.SWEEP, (bench.x, bench.g, bench.e), *arguments))


@pytest.mark.parametrize("is_over", [False, True])
@pytest.mark.parametrize("step", [revoke_all, sweep])
def test_a_step(bench, step, is_over):
    """A step of `revoke_all` or `sweep` carries out eleven commands a session at most, however many more there are."""
    sessions = signed_in(bench, MANY)
    if is_over:
        forget(bench, sessions)

    assert step(bench, FEW) <= 11 * FEW + 10


def test_list(bench):
    """A page of a list looks at as many sessions as it was asked for, or as one step of ZSCAN gives."""
    signed_in(bench, 600)

    arguments = (bench.stem, "0", FEW)
    assert work_of(bench, lambda: bench.run(scripts.LIST, (bench.u, bench.g), *arguments)) <= 3 * 3 * FEW + 10


def test_sign_in_without_a_limit(bench):
    """A sign-in without a limit does the same work whether the subject has one session or many."""

    def work(number):
        for index in (bench.u, bench.x):  # it always has to live longer: else that hangs on a millisecond
            bench.client.pexpire(index, 1000)
        return work_of(bench, lambda: bench.bind(name(number)))

    bench.bound(name(9999))
    at_one = work(9000)
    signed_in(bench, MANY)

    assert work(9001) <= at_one <= 20


@pytest.mark.parametrize(("order", "reads"), [("oldest", 2), ("idlest", 3), ("refuse", 1)])
def test_sign_in_at_the_limit(bench, order, reads):
    """A sign-in under a limit reads each live session of the subject, and does little more: the limit bounds it."""
    signed_in(bench, MANY)

    assert work_of(bench, lambda: bench.bind(name(9000), limit=MANY, order=order)) <= reads * MANY + 40


def test_sign_in_at_a_lowered_limit(bench):
    """The first sign-in after a limit was lowered does ten commands for each session that it ends, in one script."""
    signed_in(bench, MANY)

    work = work_of(bench, lambda: bench.bind(name(9000), limit=1))

    assert 2 * MANY < work <= 10 * MANY + 40
