"""A worker process: it serves requests by sessions that somebody else revokes meanwhile, and says what became of each.

Its argument is JSON: url, key, identifiers, requests (how many), is_async. A line for each request: which session, when
its load began (ns, the clock that all processes share), whether it was accepted, when its save began and whether it
was carried out (0 0 without one), when all was over.
"""

import asyncio
import json
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from time import monotonic_ns

import coatcheck

AT_ONCE = 4
SAVES = 4  # one request in so many writes


def tell(*words):
    """Say what became of a request, in one write: lines of threads do not mix."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def serve(sessions, identifiers, requests):
    """Serve *requests* requests, one after the other."""
    for number in range(requests):
        which, began = secrets.randbelow(len(identifiers)), monotonic_ns()
        session, save_began, saved = sessions.load(identifiers[which]), 0, 0
        if session is not None and number % SAVES == 0:
            session.increment("n")
            save_began = monotonic_ns()
            try:
                sessions.save(session)
                saved = 1
            except coatcheck.SessionRevoked:
                pass
        tell(which, began, int(session is not None), save_began, saved, monotonic_ns())


async def a_serve(sessions, identifiers, requests):
    """Do as `serve`, on the event loop."""
    for number in range(requests):
        which, began = secrets.randbelow(len(identifiers)), monotonic_ns()
        session, save_began, saved = await sessions.load(identifiers[which]), 0, 0
        if session is not None and number % SAVES == 0:
            session.increment("n")
            save_began = monotonic_ns()
            try:
                await sessions.save(session)
                saved = 1
            except coatcheck.SessionRevoked:
                pass
        tell(which, began, int(session is not None), save_began, saved, monotonic_ns())


async def main_async(task):
    """Serve with tasks."""
    async with coatcheck.AsyncSessions(task["url"], keys=task["key"]) as sessions:
        share = task["requests"] // AT_ONCE
        await asyncio.gather(*(a_serve(sessions, task["identifiers"], share) for _ in range(AT_ONCE)))


def main_sync(task):
    """Serve with threads."""
    with coatcheck.Sessions(task["url"], keys=task["key"]) as sessions, ThreadPoolExecutor(AT_ONCE) as threads:
        share = task["requests"] // AT_ONCE
        waiting = [threads.submit(serve, sessions, task["identifiers"], share) for _ in range(AT_ONCE)]
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
