"""Whether the servers are set up for sessions: what was seen of them, and what to do about it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Severity(Enum):
    """How bad a finding is."""

    ERROR = "error"
    """Sessions that were acknowledged can be lost or evicted, or the server can be taken over."""
    WARNING = "warning"
    """A failure does more harm than it has to."""
    UNKNOWN = "unknown"
    """It could not be looked at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. code: its name; where: the server; text: what it is, and what to do."""

    severity: Severity
    code: str
    where: str
    text: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What a server has told of itself.

    where: its address. info: INFO, by name; config: CONFIG GET, by name; None where it has refused. is_sentinel: info
    is then what SENTINEL MASTER says. quorum_problem: why its CKQUORUM fails, or "".
    """

    where: str
    info: Mapping[str, str] | None
    config: Mapping[str, str] | None = None
    is_sentinel: bool = False
    quorum_problem: str = ""

    def __str__(self) -> str:
        """Say where and what it is: version and role of a server, the quorum of a sentinel."""
        if self.info is None:
            return f"{self.where}: it does not say what it is"
        if self.is_sentinel:
            return f"{self.where}: quorum {self.info.get('quorum')} of {_sentinels_of(self.info)}"
        kind, version = _version_of(self.info)
        if self.info.get("role") == "slave":
            return f"{self.where}: {kind} {version}, replica"
        replicas = self.info.get("connected_slaves", "0")
        return f"{self.where}: {kind} {version}, primary, {replicas} replica{'' if replicas == '1' else 's'}"


class Checkup(list[Finding]):
    """What was found, the worst first. seen: the servers and sentinels that were looked at, each printable."""

    def __init__(self, findings: Iterable[Finding], seen: Iterable[Seen]) -> None:
        """Hold both."""
        super().__init__(findings)
        self.seen: Final = tuple(seen)


def _version_of(info: Mapping[str, str]) -> tuple[str, str]:
    kind = "valkey" if "valkey_version" in info else "redis"
    return kind, info.get(f"{kind}_version", "")


def _sentinels_of(info: Mapping[str, str]) -> int:
    return int(info.get("num-other-sentinels", "0")) + 1


_LUA_FIXED: Final[Mapping[str, tuple[tuple[int, ...], ...]]] = {
    "redis": ((6, 2, 20), (7, 2, 11), (7, 4, 6), (8, 0, 4), (8, 2, 2)),
    "valkey": ((7, 2, 11), (8, 0, 6), (8, 1, 4), (9, 0, 0)),
}
"""The first releases of each branch without CVE-2025-49844 (use after free in Lua); later branches never had it."""

_SENTINELS: Final = 3


def judge(seen: Seen, *, waits_for_disk: bool = False) -> Iterator[Finding]:
    """Say what is not as it should be at one server. waits_for_disk: the policy's durability asks for the disk."""
    if seen.is_sentinel:
        yield from _judge_sentinel(seen)
        return
    if seen.info is None:
        yield _unknown(seen, "info", "INFO", "its version, memory, persistence and replicas")
    else:
        yield from _judge_info(seen.where, seen.info)
    if seen.config is None:
        yield _unknown(seen, "config", "CONFIG GET", "fsync, snapshots, min-replicas-to-write and cluster coverage")
    else:
        yield from _judge_config(seen.where, seen.info or {}, seen.config)
        if waits_for_disk and seen.config.get("appendfsync") == "everysec":
            text = (
                "appendfsync is everysec, and the policy waits for the disk: some servers say that they have synced "
                "before they have, so a loss of power may undo what was confirmed. Set it to always"
            )
            yield Finding(Severity.WARNING, "early-fsync", seen.where, text)


def _judge_info(where: str, info: Mapping[str, str]) -> Iterator[Finding]:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        severity = Severity.ERROR if info.get("maxmemory", "0") != "0" else Severity.WARNING
        text = f"maxmemory-policy is {policy}: where memory is full, live sessions are evicted. Set it to noeviction"
        yield Finding(severity, "eviction", where, text)
    if info.get("aof_enabled") == "0":
        text = "appendonly is no: what was written since the last snapshot is lost in a restart. Set it to yes"
        yield Finding(Severity.WARNING, "aof", where, text)
    if "err" in {info.get("aof_last_write_status"), info.get("rdb_last_bgsave_status")}:
        text = "it cannot write to its disk, so it refuses writes, or is about to. See its log and the space left"
        yield Finding(Severity.ERROR, "disk", where, text)
    yield from _judge_version(where, info)


def _judge_version(where: str, info: Mapping[str, str]) -> Iterator[Finding]:
    kind, text = _version_of(info)
    if not all(part.isdigit() for part in text.split(".")):
        return
    version = tuple(int(part) for part in text.split("."))
    fixed = _LUA_FIXED[kind]
    of_branch = [release for release in fixed if release[:2] == version[:2]]
    if version >= (of_branch or fixed[-1:])[0]:
        return
    newer = next((release for release in fixed if release > version), fixed[-1])
    advice = (
        f"{kind} {text} has CVE-2025-49844 (Lua, remote code execution by who may run scripts of his own), unless the "
        f"distributor has mended it: use {'.'.join(map(str, newer))} or newer, and give the application the user of "
        "`coatcheck acl`, who has no EVAL"
    )
    yield Finding(Severity.WARNING, "cve-2025-49844", where, advice)


def _judge_config(where: str, info: Mapping[str, str], config: Mapping[str, str]) -> Iterator[Finding]:
    replicas = int(info.get("connected_slaves", "0"))
    appends, snapshots = config.get("appendonly") == "yes", bool(config.get("save"))
    if not appends and not snapshots and replicas:
        text = "it keeps nothing on disk and has replicas: if it restarts by itself, they become as empty as it. "
        yield Finding(Severity.ERROR, "empty-restart", where, text + "Set appendonly to yes, or let nobody restart it")
    if appends and config.get("appendfsync") == "no":
        text = "appendfsync is no: a crash of the machine loses what the system has not written. Set it to everysec"
        yield Finding(Severity.WARNING, "fsync", where, text)
    if replicas and config.get("min-replicas-to-write") == "0":
        text = (
            "min-replicas-to-write is 0: a primary that is cut off goes on taking writes, which are lost. Set it to 1"
        )
        yield Finding(Severity.WARNING, "min-replicas", where, text)
    if info.get("cluster_enabled") == "1" and config.get("cluster-require-full-coverage") == "yes":
        text = "cluster-require-full-coverage is yes: one shard that is down takes all sessions with it. Set it to no"
        yield Finding(Severity.WARNING, "full-coverage", where, text)


def _judge_sentinel(seen: Seen) -> Iterator[Finding]:
    if seen.info is None:
        yield _unknown(seen, "sentinel", "SENTINEL MASTER", "the quorum")
        return
    if seen.quorum_problem:
        text = f"the sentinels cannot agree on a failover: {seen.quorum_problem}. See that a majority of them runs"
        yield Finding(Severity.ERROR, "quorum", seen.where, text)
    sentinels, quorum = _sentinels_of(seen.info), int(seen.info.get("quorum", "0"))
    if sentinels < _SENTINELS:
        text = f"there are {sentinels} sentinels: with fewer than 3 the loss of one machine stops failovers. Run 3"
        yield Finding(Severity.WARNING, "sentinels", seen.where, text)
    elif 2 * quorum <= sentinels:
        text = (
            f"the quorum is {quorum} of {sentinels}: fewer than a majority can take a primary for dead. Set it higher"
        )
        yield Finding(Severity.WARNING, "quorum-size", seen.where, text)


def _unknown(seen: Seen, code: str, command: str, what: str) -> Finding:
    text = f"{command} is refused or unanswered, so {what} could not be looked at: run `coatcheck check` as a user "
    return Finding(Severity.UNKNOWN, code, seen.where, text + "who may (+info +config|get), not as the application's")
