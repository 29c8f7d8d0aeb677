"""A worker process: it serves requests by sessions that somebody else revokes meanwhile, and says what became of each.

Its argument is JSON: url, key, identifiers, requests (how many), is_async, staleness (ms, of a near cache; 0: none).
With a near cache each request takes some milliseconds more, for the revocations to keep up. A line for each request:
which session, when its load began (ns, the clock that all processes share), whether it was accepted, whether from
memory, when its save began and whether it was carried out (0 0 without one), when all was over.
"""

import asyncio
import json
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from time import monotonic_ns

import coatcheck

AT_ONCE = 4
PAUSE = 0.01
SAVES = 4  # one request in so many writes


def tell(*words):
    """Say what became of a request, in one write: lines of threads do not mix."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def policy_of(task):
    """Give the policy of *task*."""
    if not task["staleness"]:
        return coatcheck.SessionPolicy()
    near = coatcheck.NearCache(staleness=timedelta(milliseconds=task["staleness"]), ends_wait=True)
    return coatcheck.SessionPolicy(near_cache=near)


def pause_of(task):
    """Say how long to pause behind each request, in seconds."""
    return PAUSE if task["staleness"] else 0


def serve(sessions, identifiers, requests, pause):
    """Serve *requests* requests, one after the other."""
    for number in range(requests):
        which, began = secrets.randbelow(len(identifiers)), monotonic_ns()
        session, save_began, saved = sessions.load(identifiers[which]), 0, 0
        accepted = (0, 0) if session is None else (1, int(session.is_near))
        if session is not None and number % SAVES == 0:
            session.increment("n")
            save_began = monotonic_ns()
            try:
                sessions.save(session)
                saved = 1
            except coatcheck.SessionRevoked:
                pass
        tell(which, began, *accepted, save_began, saved, monotonic_ns())
        time.sleep(pause)


async def a_serve(sessions, identifiers, requests, pause):
    """Do as `serve`, on the event loop."""
    for number in range(requests):
        which, began = secrets.randbelow(len(identifiers)), monotonic_ns()
        session, save_began, saved = await sessions.load(identifiers[which]), 0, 0
        accepted = (0, 0) if session is None else (1, int(session.is_near))
        if session is not None and number % SAVES == 0:
            session.increment("n")
            save_began = monotonic_ns()
            try:
                await sessions.save(session)
                saved = 1
            except coatcheck.SessionRevoked:
                pass
        tell(which, began, *accepted, save_began, saved, monotonic_ns())
        await asyncio.sleep(pause)


async def main_async(task):
    """Serve with tasks."""
    async with coatcheck.AsyncSessions(task["url"], keys=task["key"], policy=policy_of(task)) as sessions:
        share = task["requests"] // AT_ONCE
        await asyncio.gather(*(a_serve(sessions, task["identifiers"], share, pause_of(task)) for _ in range(AT_ONCE)))


def main_sync(task):
    """Serve with threads."""
    sessions = coatcheck.Sessions(task["url"], keys=task["key"], policy=policy_of(task))
    with sessions, ThreadPoolExecutor(AT_ONCE) as threads:
        share = task["requests"] // AT_ONCE
        waiting = [threads.submit(serve, sessions, task["identifiers"], share, pause_of(task)) for _ in range(AT_ONCE)]
    for each in waiting:
        each.result()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    tell("ready")
    sys.stdin.readline()
    if given["is_async"]:
        asyncio.run(main_async(given))
    else:
        main_sync(given)
