"""The cells of the matrix of faults: a fault, the topology that it happens to, and what may come of it."""

from datetime import timedelta
from typing import Final

from coatcheck.runtime.local.settings import Kind
from faults.applications import kill_applications
from faults.checker import LOSSES, Flaw
from faults.hosts import crowd_disk, lose_host, move_clock, on_small_disk, with_clocks, with_shifted_replicas
from faults.islands import isolate, with_island
from faults.levels import EVERY_LEVEL, NO_LEVEL, UNTIL_DISK, UNTIL_REPLICATED, Level
from faults.lines import fall_silent, lose_replies, on_proxy, with_news_apart, withhold_news
from faults.servers import (
    fail_over,
    fill_memory,
    flush_scripts,
    freeze,
    kill,
    kill_and_restart,
    lose_sentinels,
    lose_shards,
    move_slots,
    restart_empty,
    stop_replica,
)
from faults.stage import Cell

_D0_D1: Final = (Level.D0, Level.D1)
_NOT_BY_ITSELF: Final = timedelta(seconds=10)
"""Before which a server that only lacks the time to answer does not count as down, and is not replaced unplanned."""

_GONE: Final = frozenset({Flaw.SIGN_IN_MISSING})
"""What an empty server may do to sessions: they are not there. Nothing half, nothing older."""


def _cells() -> list[Cell]:
    single, sentinel, cluster = Kind.SINGLE, Kind.SENTINEL, Kind.CLUSTER
    replicated = {"sentinel": sentinel, "cluster": cluster}
    everywhere = {"single": single, **replicated}
    # A primary that no replica follows refuses writes after two seconds.
    guarded = {"config": ["min-replicas-to-write 1", "min-replicas-max-lag 2"]}
    cells = [
        Cell(
            name="single-kill",
            kind=single,
            about="the server is killed and started again",
            act=kill_and_restart,
            levels=(Level.D0, Level.D2),
            losing=UNTIL_DISK,
        ),
        Cell(
            name="app-kill",
            kind=single,
            about="applications are killed at some command, before or after the server has it",
            act=kill_applications,
            prepare=on_proxy,
            has_workload=False,
        ),
        Cell(
            name="lost-reply",
            kind=single,
            about="six scripts of ten are carried out and their replies lost",
            act=lose_replies,
            prepare=on_proxy,
        ),
        Cell(
            name="half-open",
            kind=single,
            about="the line falls silent for a second, then delivers what it held back",
            act=fall_silent,
            prepare=on_proxy,
        ),
        Cell(
            name="near-silent",
            kind=single,
            about="near caches (staleness 500 ms) hear nothing of writes for two seconds, and lose all connections",
            act=withhold_news,
            prepare=with_news_apart,
            near=timedelta(milliseconds=500),
        ),
        Cell(name="memory-full", kind=single, about="the server's memory is full", act=fill_memory),
        Cell(
            name="disk-full",
            kind=single,
            about="the disk of the append-only file is full",
            act=crowd_disk,
            prepare=on_small_disk,
        ),
        Cell(
            name="clock",
            kind=single,
            about="the server's clock jumps an hour ahead, and two hours back",
            act=move_clock,
            prepare=with_clocks,
        ),
        Cell(
            name="sentinel-clock",
            kind=sentinel,
            about="a primary is killed whose replicas' clocks are an hour ahead",
            act=kill,
            losing=UNTIL_REPLICATED,
            prepare=with_shifted_replicas,
        ),
        Cell(
            name="sentinel-majority",
            kind=sentinel,
            about="two sentinels are gone, then the primary too; all come back",
            act=lose_sentinels,
            losing=UNTIL_DISK,
        ),
        Cell(
            name="cluster-majority",
            kind=cluster,
            about="two primaries are gone at once; both come back",
            act=lose_shards,
            losing=UNTIL_DISK,
        ),
        Cell(
            name="cluster-slots",
            kind=cluster,
            about="slots move to another node and back, key by key",
            act=move_slots,
        ),
    ]
    for name, kind in replicated.items():
        cells += [
            Cell(
                name=f"{name}-kill",
                kind=kind,
                about="a primary is killed",
                act=kill,
                levels=(Level.D0, Level.D1, Level.D3),
                losing=UNTIL_REPLICATED,
            ),
            Cell(
                name=f"{name}-isolate",
                kind=kind,
                about="a primary is cut off, with some of the applications",
                act=isolate,
                levels=_D0_D1,
                losing=UNTIL_REPLICATED,
                excused=frozenset({Flaw.STALE_READ}),
                settings=guarded if kind is sentinel else {},
                prepare=with_island,
                has_workload=False,
            ),
            Cell(
                name=f"{name}-disk",
                kind=kind,
                about="the disk of a primary's append-only file is full",
                act=crowd_disk,
                losing=UNTIL_REPLICATED,
                prepare=on_small_disk,
            ),
            Cell(name=f"{name}-memory", kind=kind, about="the memory of a primary is full", act=fill_memory),
            Cell(name=f"{name}-replica", kind=kind, about="a replica is frozen", act=stop_replica, levels=_D0_D1),
            Cell(
                name=f"{name}-failover",
                kind=kind,
                about="a planned failover",
                act=fail_over,
                settings={"detection": _NOT_BY_ITSELF},
            ),
        ]
    for name, kind in everywhere.items():
        is_replicated = kind is not single
        losing = UNTIL_REPLICATED if is_replicated else NO_LEVEL
        cells += [
            Cell(
                name=f"{name}-empty",
                kind=kind,
                about="a primary that keeps nothing on disk is killed, and restarts empty before anybody takes over",
                act=restart_empty,
                levels=_D0_D1 if is_replicated else (Level.D0,),
                losing=EVERY_LEVEL,
                may_lose=_GONE,
                settings={"appendfsync": None},
            ),
            Cell(
                name=f"{name}-host",
                kind=kind,
                about="a primary is killed and its disk is lost; it comes back empty, where there are replicas after "
                "one has taken over",
                act=lose_host,
                levels=(Level.D1, Level.D2, Level.D3) if is_replicated else (Level.D2,),
                losing=UNTIL_REPLICATED if is_replicated else EVERY_LEVEL,
                may_lose=LOSSES if is_replicated else _GONE,
            ),
            Cell(
                name=f"{name}-freeze",
                kind=kind,
                about="a primary is frozen for 30 seconds and comes back",
                act=freeze,
                levels=_D0_D1 if is_replicated else (Level.D0,),
                losing=losing,
            ),
            Cell(name=f"{name}-scripts", kind=kind, about="the servers forget the scripts", act=flush_scripts),
        ]
    return cells


CELLS: Final = {cell.name: cell for cell in _cells()}
