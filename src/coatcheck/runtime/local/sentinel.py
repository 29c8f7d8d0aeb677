"""The sentinel topology: a primary, two replicas, and three sentinels that watch them."""

import secrets
from collections.abc import Iterable, Sequence
from typing import Final

import redis

from coatcheck.model.errors import StoreUnavailable
from coatcheck.runtime.local.node import Node, users
from coatcheck.runtime.local.settings import HOST, TopologySettings, milliseconds

SERVICE: Final = "coatcheck"
"""The name under which the sentinels watch the primary."""

QUORUM: Final = 2
# A sentinel keeps the flag master_down of another until it asks it the next time, so that says nothing.
_UNFIT: Final = frozenset({"s_down", "o_down", "disconnected"})


def sentinel_configs(data: Sequence[Node], sentinels: Sequence[Node], settings: TopologySettings) -> list[list[str]]:
    """Give each sentinel's lines of configuration. The first of *data* is the primary.

    They name replicas and the other sentinels from the start, as a sentinel writes them down once it has found them:
    finding takes many seconds.
    """
    ids = [secrets.token_hex(20) for _ in sentinels]
    configs = []
    for own, own_id in zip(sentinels, ids, strict=True):
        lines = [f"sentinel myid {own_id}", f"sentinel monitor {SERVICE} {HOST} {data[0].port} {QUORUM}"]
        lines += [f"sentinel known-replica {SERVICE} {HOST} {replica.port}" for replica in data[1:]]
        others = [(other.port, id_) for other, id_ in zip(sentinels, ids, strict=True) if other is not own]
        lines += [f"sentinel known-sentinel {SERVICE} {HOST} {port} {id_}" for port, id_ in others]
        configs.append([*lines, *_timing_and_users(settings)])
    return configs


def _timing_and_users(settings: TopologySettings) -> Iterable[str]:
    yield f"sentinel down-after-milliseconds {SERVICE} {milliseconds(settings.detection)}"
    yield f"sentinel failover-timeout {SERVICE} {milliseconds(settings.failover_timeout)}"
    if settings.password is not None:
        yield f"sentinel auth-user {SERVICE} {settings.user}"
        yield f"sentinel auth-pass {SERVICE} {settings.password}"
    if settings.sentinel_password is not None:
        yield from users(settings.sentinel_user, settings.sentinel_password)
        yield f"sentinel sentinel-user {settings.sentinel_user}"
        yield f"sentinel sentinel-pass {settings.sentinel_password}"


def named_primary(sentinel: Node) -> int | None:
    """Give the port of the primary by *sentinel*'s account; None when it does not answer."""
    try:
        reply = sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
    except (redis.RedisError, OSError):
        return None
    return int(reply[1]) if reply else None


def missing(data: Sequence[Node], sentinels: Sequence[Node]) -> str | None:
    """Say what is not ready yet; None when all is."""
    infos = {node: node.info("replication") for node in data}
    silent = [node.name for node, info in infos.items() if not info]
    if silent:
        return f"{silent[0]} does not answer"
    primaries = [node for node, info in infos.items() if info and info["role"] == "master"]
    if len(primaries) != 1:
        return f"there are {len(primaries)} primaries"
    for node, info in infos.items():
        follows = info and (info.get("master_port"), info.get("master_link_status")) == (str(primaries[0].port), "up")
        if node is not primaries[0] and not follows:
            return f"{node.name} does not follow {primaries[0].name} yet"
    for sentinel in sentinels:
        if lack := _missing_at(sentinel, primaries[0].port, len(data) - 1, len(sentinels) - 1):
            return f"{sentinel.name} {lack}"
    return None


def _missing_at(sentinel: Node, primary: int, replicas: int, others: int) -> str | None:
    if named_primary(sentinel) != primary:
        return f"does not take port {primary} for the primary yet"
    try:
        watched = [_fields(sentinel.ask("SENTINEL", "MASTER", SERVICE))]
        found = [_fields(reply) for reply in sentinel.ask("SENTINEL", "REPLICAS", SERVICE)]
        peers = [_fields(reply) for reply in sentinel.ask("SENTINEL", "SENTINELS", SERVICE)]
    except (redis.RedisError, OSError) as error:
        return f"answers {error}"
    if any(_UNFIT.intersection(entry["flags"].split(",")) for entry in (*watched, *found, *peers)):
        return "does not reach everybody yet"
    linked = [entry for entry in found if entry["master-link-status"] == "ok" and entry["role-reported"] == "slave"]
    if (len(linked), len(peers)) != (replicas, others):
        return f"knows {len(linked)} replicas and {len(peers)} sentinels"
    return None


def _fields(reply: Sequence[str]) -> dict[str, str]:
    return dict(zip(reply[::2], reply[1::2], strict=True))


def begin_failover(sentinel: Node) -> None:
    """Let *sentinel* hand the primary's role over: without losing a write where it can (Valkey 9: COORDINATED).

    Raises StoreUnavailable when it refuses.
    """
    try:
        is_coordinated = any("COORDINATED" in line for line in sentinel.ask("SENTINEL", "HELP"))
        sentinel.ask("SENTINEL", "FAILOVER", SERVICE, *(("COORDINATED",) if is_coordinated else ()))
    except (redis.RedisError, OSError) as error:
        raise StoreUnavailable(f"{sentinel.name} does not begin a failover: {error}") from error
