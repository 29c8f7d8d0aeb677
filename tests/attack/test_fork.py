"""A process forks after it has connected: parent and children must not share a line, or hear each other."""

import asyncio
import os
import traceback
import warnings
from threading import Thread

import pytest

import coatcheck


@pytest.mark.requirement("R44")
def test_fork_after_use(server, key):
    """Children forked after the parent has connected get connections of their own, and nobody another's answers."""
    with coatcheck.Sessions(server.url, keys=key) as sessions:
        stored = [sessions.create({"n": number}) for number in range(4)]
        children = [fork(lambda own=own: _read_often(sessions, own.identifier, own["n"])) for own in stored]
        _read_often(sessions, stored[0].identifier, 0)

        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4


@pytest.mark.requirement("R44")
def test_fork_before_a_loop(server, key):
    """An object used on a loop before a fork (a server that preloads) works on the child's loop."""
    sessions = coatcheck.AsyncSessions(server.url, keys=key)

    async def use():
        session = await sessions.create({"n": 1})
        return dict(await sessions.load(session.identifier))

    asyncio.run(use())

    def in_child():
        assert asyncio.run(use()) == {"n": 1}

    children = [fork(in_child) for _ in range(2)]
    assert asyncio.run(use()) == {"n": 1}
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]


def _read_often(sessions, identifier, number):
    for _ in range(100):
        assert sessions.load(identifier)["n"] == number


def fork(work):
    """Fork a child that does *work*; its exit status says whether it could."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: a fork with threads about
        child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001  the child must not run the parent's tests
        traceback.print_exc()
    finally:
        os._exit(status)


@pytest.mark.requirement("R44")
def test_fork_amid_requests(server, key):
    """Children forked while other threads are in the midst of a request count with the parent, and none is lost."""
    with coatcheck.Sessions(server.url, keys=key) as sessions:
        session = sessions.create({"n": 0})

        def count():
            for _ in range(20):
                mine = sessions.load(session.identifier)
                mine.increment("n")
                sessions.save(mine)

        threads = [Thread(target=count) for _ in range(3)]
        for thread in threads:
            thread.start()
        children = [fork(count) for _ in range(3)]
        for thread in threads:
            thread.join()

        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 3
        assert sessions.load(session.identifier)["n"] == 120
