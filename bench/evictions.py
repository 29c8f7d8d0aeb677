"""What a sign-in costs the server whose subject has as many sessions as the limit allows: `python -m bench.evictions`.

One script decides whom a sign-in ends, for the limit is to hold when it returns: so it reads every live session of the
subject, however few of them it ends. In each row SIGN_INS of them, one after the other; CPU is that of the server's
process, commands are those that the scripts have carried out (INFO commandstats), for one sign-in.
"""

import argparse
import statistics
from typing import Final, NamedTuple

import redis

from bench.costs import cpu_of, info
from bench.fill import Filler
from bench.load.content import SESSION
from bench.memory import version_of, write
from coatcheck.engine.operations import Operations
from coatcheck.model.errors import SessionLimitReached
from coatcheck.model.policy import AtLimit, SessionPolicy
from coatcheck.runtime.local.settings import TopologySettings
from coatcheck.runtime.local.topology import LocalTopology

LIMITS: Final = (5, 50, 100, 250, 500, 1000, 1500, 2000, 3000, 5000)
LOWERED: Final = 5
SIGN_INS: Final = 9
_CALLED_FROM_OUTSIDE: Final = ("cmdstat_evalsha", "cmdstat_info", "cmdstat_config")


class Spent(NamedTuple):
    """What one sign-in took: ms of the server's CPU, and commands within the script."""

    cpu: float
    commands: float


class Crowd:
    """Subjects with many sessions, on one server."""

    def __init__(self, client: redis.Redis) -> None:
        """Use a server that holds nothing."""
        self._client = client
        self._filler = Filler([client])
        self._subjects = 0

    def subject(self, sessions: int) -> str:
        """Make a subject with so many sessions."""
        self._subjects += 1
        name = f"subject-{self._subjects}"
        self._filler.bound([name] * sessions)
        return name

    def sign_ins(self, subject: str, policy: SessionPolicy, count: int) -> Spent:
        """Sign *subject* in so many times, and give what one took: the median."""
        operations = Operations(self._filler.transport, keyring=self._filler.keyring, policy=policy)
        self._filler.transport.run([_sign_in(operations, "anybody")])  # it learns the time, and of dictionaries
        spent = []
        for _ in range(count):
            self._client.config_resetstat()
            began = cpu_of(self._client)
            self._filler.transport.run([_sign_in(operations, subject)])
            cpu = cpu_of(self._client) - began
            calls = {name: stats["calls"] for name, stats in info(self._client, "commandstats").items()}
            within = [name for name in calls if not name.startswith(_CALLED_FROM_OUTSIDE)]
            spent.append(Spent(cpu / 1000, sum(calls[name] for name in within)))
        return Spent(*(statistics.median(values) for values in zip(*spent, strict=True)))


async def _sign_in(operations: Operations, subject: str) -> None:
    session = operations.new()
    session.update(SESSION)
    try:
        await operations.bind(session, subject)
    except SessionLimitReached:
        return


def main() -> None:
    """Measure, and write a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.evictions", description=__doc__)
    parser.add_argument("--server", help="another server than the bundled one, such as redis-server")
    given = parser.parse_args()
    settings = TopologySettings(server=given.server, appendfsync=None)
    with LocalTopology("single", settings) as topology, redis.Redis.from_url(topology.url) as client:
        crowd = Crowd(client)
        write(f"CPU ms (commands) of one sign-in, {version_of(client)}:\n")
        orders = {"ends the oldest": AtLimit.EVICT_OLDEST, "ends the idlest": AtLimit.EVICT_IDLEST}
        orders["is refused"] = AtLimit.REFUSE
        write(f"| sessions, and limit | {' | '.join(orders)} | the first, the limit now being {LOWERED} |")
        write("| ---: " * (len(orders) + 2) + "|")
        crowd.sign_ins(crowd.subject(100), SessionPolicy(limit=100), 100)  # the server is warm
        for limit in LIMITS:
            cells = []
            for order in orders.values():
                spent = crowd.sign_ins(crowd.subject(limit), SessionPolicy(limit=limit, at_limit=order), SIGN_INS)
                cells.append(f"{spent.cpu:.2f} ({spent.commands:,.0f})")
            lowered = [crowd.sign_ins(crowd.subject(limit), SessionPolicy(limit=LOWERED), 1) for _ in range(3)]
            last = Spent(*(statistics.median(values) for values in zip(*lowered, strict=True)))
            write(f"| {limit:,} | {' | '.join(cells)} | {last.cpu:.2f} ({last.commands:,.0f}) |")


if __name__ == "__main__":
    main()
