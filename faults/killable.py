"""An application of one worker: tells its ledger on standard output, until it is killed.

Its arguments: url, keys, "sync" or "async", seed.
"""

import asyncio
import os
import sys
from typing import Final

import coatcheck
from coatcheck.runtime.sync import run
from faults.ledger import Ledger, watch
from faults.workers import People, Worker
from faults.workload import POLICY

_PACE: Final = 0.002  # of one worker that is soon killed


def _tell(line: str) -> None:
    os.write(1, f"{line}\n".encode())


async def _work(url: str, keys: str, seed: str) -> None:
    async with coatcheck.AsyncSessions(url, keys=keys, policy=POLICY) as sessions:
        watch(sessions)
        await Worker("task", sessions, People(seed), Ledger(_tell)).work(lambda: False, _PACE)


if __name__ == "__main__":
    _, given_url, given_keys, facade, given_seed = sys.argv
    if facade == "async":
        asyncio.run(_work(given_url, given_keys, given_seed))
    else:
        blocking = coatcheck.Sessions(given_url, keys=given_keys, policy=POLICY)
        watch(blocking.core)
        run(Worker("thread", blocking.core, People(given_seed), Ledger(_tell)).work(lambda: False, _PACE))
