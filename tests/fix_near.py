"""The near mode's account: in how many of the tests that load stored sessions a load was answered from memory.

With fewer than SHARE of them the run fails, for it has not shown what it is for.
"""

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import near_mode

SHARE = 0.95

_loads: dict[str, tuple[int, int]] = {}  # of each test that loaded stored sessions: from memory, in all
_read_to = 0


def pytest_configure() -> None:
    """Have loads counted: each process that runs tests does so for itself and for those that it starts."""
    if near_mode.IS_ON:
        file, path = tempfile.mkstemp()
        os.close(file)
        near_mode.count_in(Path(path))


def pytest_unconfigure() -> None:
    """Remove the count."""
    if near_mode.IS_ON:
        near_mode.stop_counting()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Note the loads of a test, and of what was made for it."""
    global _read_to
    try:
        return (yield)
    finally:
        if near_mode.IS_ON:
            hits, loads, _read_to = near_mode.counted(_read_to)
            item.user_properties.append(("near loads", (hits, loads)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Take the note of a test that ran, here or in a process of pytest-xdist's."""
    hits, loads = dict(report.user_properties).get("near loads", (0, 0))
    if report.when == "call" and not report.skipped and loads:
        _loads[report.nodeid] = hits, loads


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where too few tests had a load answered from memory."""
    if near_mode.IS_ON and not hasattr(session.config, "workerinput") and _hit() < SHARE * max(len(_loads), 1):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many had, and in which files some had not."""
    if not near_mode.IS_ON:
        return
    hits, loads = (sum(each) for each in zip((0, 0), *_loads.values(), strict=True))
    terminalreporter.section("near cache")
    terminalreporter.line(
        f"{_hit()} of {len(_loads)} tests that loaded stored sessions were answered from memory "
        f"(at least {SHARE:.0%} are to be), and {hits} of their {loads} loads"
    )
    missed = defaultdict(list)
    for test, (hit, _) in _loads.items():
        file, _, name = test.partition("::")
        missed[file] += [] if hit else [name]
    for file, names in missed.items():
        if names:
            terminalreporter.line(f"  never in {file}: {len(names)}, {', '.join(names[:4])}")


def _hit() -> int:
    return sum(hits > 0 for hits, _ in _loads.values())
