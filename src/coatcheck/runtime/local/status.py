"""What the nodes of a local topology are at one moment, by their own account."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from coatcheck.runtime.local import cluster, sentinel
from coatcheck.runtime.local.node import Node


class Role(StrEnum):
    """What a node is at the moment."""

    PRIMARY = "primary"
    REPLICA = "replica"
    SENTINEL = "sentinel"


class State(StrEnum):
    """What its process does."""

    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeStatus:
    """What is known of a node. What it did not say, or what does not concern it, is None."""

    name: str
    address: str
    pid: int | None
    state: State
    role: Role | None = None
    follows: str | None = None
    """The name of a replica's primary; of the node that a sentinel takes for the primary."""
    link: str | None = None
    """Of a replica: up or down."""
    offset: int | None = None
    """How many bytes of the stream of changes it has."""
    lag: int | None = None
    """Of a replica: how many bytes its primary has beyond that."""
    slots: str | None = None
    """Of a primary in a cluster, as CLUSTER NODES writes them: "0-5460 [93->-<id>]"."""


def read_status(nodes: Iterable[Node], living: Mapping[str, int]) -> list[NodeStatus]:
    """Ask those of *nodes* that live and are not paused; takes a second for each that does not answer."""
    nodes = list(nodes)
    asked = [node for node in nodes if node.name in living and not node.is_paused]
    infos = {node.port: info for node in asked if not node.is_sentinel and (info := node.info("replication"))}
    names = {node.port: node.name for node in nodes}
    found = []
    for node in nodes:
        pid = living.get(node.name)
        state = State.ENDED if pid is None else State.PAUSED if node.is_paused else State.RUNNING
        bare = NodeStatus(name=node.name, address=node.address, pid=pid, state=state)
        found.append(_with_account(bare, node, infos, names) if node in asked else bare)
    return found


def _with_account(
    bare: NodeStatus, node: Node, infos: Mapping[int, Mapping[str, str]], names: Mapping[int, str]
) -> NodeStatus:
    if node.is_sentinel:
        watched = sentinel.named_primary(node)
        return bare if watched is None else replace(bare, role=Role.SENTINEL, follows=names.get(watched, str(watched)))
    info = infos.get(node.port)
    if info is None:
        return bare
    if info["role"] == "master":
        offset = int(info["master_repl_offset"])
        return replace(bare, role=Role.PRIMARY, offset=offset, slots=cluster.own_slots(node))
    port, offset = int(info["master_port"]), int(info["slave_repl_offset"])
    follows, link = names.get(port, str(port)), info["master_link_status"]
    lag = max(0, int(infos[port]["master_repl_offset"]) - offset) if port in infos else None
    return replace(bare, role=Role.REPLICA, follows=follows, link=link, offset=offset, lag=lag)


def holds(slots: str, slot: int) -> bool:
    """Say whether *slot* is among *slots*, written as CLUSTER NODES does."""
    ranges = [part.split("-") for part in slots.split() if not part.startswith("[")]
    return any(int(bounds[0]) <= slot <= int(bounds[-1]) for bounds in ranges)
