"""Helpers of the contract suite: calls made at once, and the log as text."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fix_store import Stepped


@pytest.fixture
def at_once():
    """Give a function that makes calls at the same time, in threads or in tasks, and lists what came of them.

    Its arguments are (sessions, name of the method, arguments...); an exception that was raised is listed too.
    """

    def carry_out(*calls):
        if isinstance(calls[0][0], Stepped):
            return calls[0][0]._loop.run_until_complete(_in_tasks(calls))
        with ThreadPoolExecutor(len(calls)) as threads:
            waiting = [threads.submit(getattr(sessions, name), *args) for sessions, name, *args in calls]
        return [future.exception() or future.result() for future in waiting]

    return carry_out


async def _in_tasks(calls):
    running = (getattr(sessions._sessions, name)(*args) for sessions, name, *args in calls)
    return await asyncio.gather(*running, return_exceptions=True)


@pytest.fixture
def logged(caplog):
    """Give a function that lists the events logged so far, with what was logged beside them."""
    caplog.set_level("DEBUG")

    def events(name=None):
        return [
            record for record in caplog.records if record.name == "coatcheck" and name in {None, record.getMessage()}
        ]

    return events
