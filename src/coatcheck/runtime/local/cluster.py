"""The cluster topology: three primaries with a replica each, made by the servers' own commands."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import redis

from coatcheck.model.errors import StoreUnavailable
from coatcheck.runtime.local.node import Node
from coatcheck.runtime.local.settings import HOST

PRIMARIES: Final = 3
SLOTS: Final = 16_384


@dataclass(frozen=True, slots=True)
class Member:
    """A node as a line of CLUSTER NODES describes it."""

    id: str
    port: int
    flags: frozenset[str]
    primary_id: str
    link: str
    slots: str

    @classmethod
    def parse(cls, line: str) -> "Member":
        """Read ``<id> <ip>:<port>@<bus>[,<name>] <flags> <primary> <ping> <pong> <epoch> <link> [<slots> ...]``."""
        id_, address, flags, primary_id, _, _, _, link, *slots = line.split(" ")
        port = int(address.partition("@")[0].rpartition(":")[2])
        return cls(id_, port, frozenset(flags.split(",")), primary_id, link, " ".join(slots))


def members(node: Node) -> list[Member]:
    """Give the cluster as *node* sees it. Raises redis.RedisError or OSError."""
    return [Member.parse(line) for line in node.ask("CLUSTER", "NODES").splitlines()]


def own_slots(node: Node) -> str | None:
    """Give what *node* says that it serves; None when it does not answer."""
    try:
        return next(member.slots for member in members(node) if "myself" in member.flags)
    except (redis.RedisError, OSError):
        return None


def introduce(nodes: Sequence[Node]) -> None:
    """Share the slots among the first three of *nodes*, and let all meet. Raises redis.RedisError or OSError."""
    for number, node in enumerate(nodes):
        node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        if number < PRIMARIES:
            slots = range(number * SLOTS // PRIMARIES, (number + 1) * SLOTS // PRIMARIES)
            node.ask("CLUSTER", "ADDSLOTS", *slots)
    for one, other in combinations(nodes, 2):
        one.ask("CLUSTER", "MEET", HOST, other.port)


def have_met(nodes: Sequence[Node]) -> bool:
    """Say whether everybody knows everybody. Raises redis.RedisError or OSError."""
    return all(len(_settled(node)) == len(nodes) for node in nodes)


def assign_replicas(nodes: Sequence[Node]) -> None:
    """Let the fourth to the sixth of *nodes* follow the first to the third. Raises redis.RedisError or OSError."""
    for primary, replica in zip(nodes, nodes[PRIMARIES:], strict=False):
        replica.ask("CLUSTER", "REPLICATE", primary.ask("CLUSTER", "MYID"))


def missing(nodes: Sequence[Node]) -> str | None:
    """Say what is not ready yet; None when all is."""
    for node in nodes:
        try:
            info = dict(line.split(":", 1) for line in node.ask("CLUSTER", "INFO").splitlines() if ":" in line)
            found = _settled(node)
        except (redis.RedisError, OSError) as error:
            return f"{node.name} answers {error}"
        if (info["cluster_state"], info["cluster_slots_ok"]) != ("ok", str(SLOTS)):
            return f"{node.name} says that the cluster's state is {info['cluster_state']}"
        replicas = [member for member in found if "slave" in member.flags]
        if (len(found), len(replicas)) != (len(nodes), len(nodes) - PRIMARIES):
            return f"{node.name} reaches {len(found)} nodes, {len(replicas)} of them replicas"
        replication = node.info("replication") or {}
        if replication.get("role") != "master" and replication.get("master_link_status") != "up":
            return f"{node.name} does not follow its primary yet"
    return None


def _settled(node: Node) -> list[Member]:
    unsettled = {"handshake", "fail", "fail?", "noaddr"}
    return [member for member in members(node) if member.link == "connected" and not member.flags & unsettled]


def begin_failover(replica: Node) -> None:
    """Let *replica* take over from its primary without losing a write. Raises StoreUnavailable when it refuses."""
    try:
        replica.ask("CLUSTER", "FAILOVER")
    except (redis.RedisError, OSError) as error:
        raise StoreUnavailable(f"{replica.name} does not begin a failover: {error}") from error


class SlotMove:
    """The move of one slot, step by step, so that a test can stop half-way.

    Between `begin` and `finish` the source answers ASK for keys that it has no more, and the target TRYAGAIN for
    several keys of which it has some. Every step may raise redis.RedisError.
    """

    def __init__(self, slot: int, source: Node, target: Node, nodes: Sequence[Node], password: Sequence[str]) -> None:
        """Plan it. *nodes* are those that are to be told in the end; *password* is what MIGRATE signs in with."""
        self.slot: Final = slot
        self._source, self._target, self._nodes, self._password = source, target, nodes, password

    def begin(self) -> None:
        """Open the slot on both sides."""
        self._target.ask("CLUSTER", "SETSLOT", self.slot, "IMPORTING", self._source.ask("CLUSTER", "MYID"))
        self._source.ask("CLUSTER", "SETSLOT", self.slot, "MIGRATING", self._target.ask("CLUSTER", "MYID"))

    def move_keys(self, limit: int | None = None) -> int:
        """Move *limit* keys of the slot, or all of them; give how many it were."""
        moved = 0
        while limit is None or moved < limit:
            count = 100 if limit is None else min(100, limit - moved)
            keys = self._source.ask("CLUSTER", "GETKEYSINSLOT", self.slot, count)
            if not keys:
                break
            auth = ("AUTH2", *self._password) if self._password else ()
            self._source.ask("MIGRATE", HOST, self._target.port, "", 0, 1000, *auth, "KEYS", *keys)
            moved += len(keys)
        return moved

    def finish(self) -> None:
        """Give the slot to the target: it first, then the source, then the others."""
        owner = self._target.ask("CLUSTER", "MYID")
        others = [node for node in self._nodes if node not in {self._target, self._source}]
        for node in (self._target, self._source, *others):
            node.ask("CLUSTER", "SETSLOT", self.slot, "NODE", owner)
