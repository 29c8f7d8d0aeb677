"""A process that does anything at random with sessions until it is killed, and says after each thing that it is done.

Its arguments: url, key, limit of sessions, "sync" or "async", seed.
"""

import asyncio
import os
import sys
from contextlib import suppress

import coatcheck
from tests.contract.chaos import Chaos
from tests.fix_store import Stepped


class Told(Chaos):
    """Chaos among others, who may end its sessions; it says on standard output that a thing is done."""

    def step(self, action):
        """Let one thing happen, and say it."""
        with suppress(coatcheck.SessionRevoked):
            super().step(action)
        os.write(1, b".")


if __name__ == "__main__":
    _, url, key, limit, kind, seed = sys.argv
    options = {"keys": key, "policy": coatcheck.SessionPolicy(limit=int(limit))}
    if kind == "sync":
        sessions = coatcheck.Sessions(url, **options)
    else:
        sessions = Stepped(coatcheck.AsyncSessions(url, **options), asyncio.new_event_loop())
    Told(sessions, seed=seed).run(1_000_000)
