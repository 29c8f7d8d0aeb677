"""The cells of the matrix of faults: one function for each, a topology and what happens to it."""

import time
from typing import Final

from coatcheck.engine.keys import Keys
from coatcheck.model.ticket import Handle
from coatcheck.runtime.local.settings import Kind
from coatcheck.runtime.topology import slot_of
from faults.applications import kill_applications
from faults.checker import Finding, Flaw
from faults.hosts import crowd_disk, move_clock, on_small_disk, with_clocks, with_shifted_replicas
from faults.islands import isolate, with_island
from faults.ledger import Kind as Did
from faults.ledger import Outcome
from faults.lines import fall_silent, lose_replies, on_proxy
from faults.stage import NO_LEVEL, UNTIL_DISK, UNTIL_REPLICATED, Cell, Stage

_FROZEN_SECONDS: Final = 30.0
_FROZEN_BRIEFLY: Final = 2.5
_DATA: Final = ("node1", "node2", "node3")


def kill_and_restart(stage: Stage) -> None:
    """Kill the server and start it again with the data that it had."""
    stage.settle()
    stage.strike(lambda: stage.topology.kill("node1"))
    stage.topology.launch("node1")
    stage.served()
    stage.settle()


def kill(stage: Stage) -> None:
    """Kill a primary; a replica takes over."""
    stage.settle()
    victim, slots = stage.choose_victim()
    stage.strike(lambda: stage.topology.kill(victim), slots=slots)
    stage.await_takeover(victim)
    stage.settle(200)


def freeze(stage: Stage) -> None:
    """Freeze a primary; a replica takes over where there is one; the frozen one comes back."""
    stage.settle()
    victim, slots = stage.choose_victim()
    began = time.monotonic()
    stage.strike(lambda: stage.topology.pause(victim), slots=slots)
    if stage.cell.kind is not Kind.SINGLE:
        stage.await_takeover(victim)
    time.sleep(max(0.0, began + (_FROZEN_BRIEFLY if stage.is_quick else _FROZEN_SECONDS) - time.monotonic()))
    stage.calm()
    stage.topology.resume(victim)
    stage.settle(300)


def stop_replica(stage: Stage) -> None:
    """Freeze a replica for as long as it takes."""
    stage.settle()
    stage.strike(lambda: stage.topology.pause("replica"))
    stage.settle(300)
    stage.topology.resume()
    stage.settle()


def fail_over(stage: Stage) -> None:
    """Let a primary hand its role over, as planned."""
    stage.settle()
    stage.strike(stage.topology.failover)
    stage.settle()


def flush_scripts(stage: Stage) -> None:
    """Let every server forget the scripts, again and again."""
    stage.settle()
    names = _DATA[:1] if stage.cell.kind is Kind.SINGLE else _DATA
    stage.strike(lambda: None)
    for _ in range(5 if stage.is_quick else 20):
        for name in names:
            with stage.topology.client(name) as client:
                client.script_flush()
        stage.settle(20)
    stage.settle()


def move_slots(stage: Stage) -> None:
    """Move slots with sessions to another node and back, key by key."""
    stage.settle()
    handles = [Handle.parse(one.handle) for one in stage.workload.people.living()]
    slots = sorted({slot_of(("GET", Keys("cc").record(handle))) or 0 for handle in handles})
    stage.strike(lambda: None)
    for slot in slots[: 3 if stage.is_quick else 12]:
        home = stage.topology.primary(slot)
        away = next(name for name in _DATA if name != home)
        stage.topology.move_slot(slot, home, away)
        stage.topology.move_slot(slot, away, home)
    stage.settle()


def fill_memory(stage: Stage) -> None:
    """Fill the memory: sessions are read and end, nobody signs in, nothing is evicted."""
    stage.settle()
    with stage.topology.client("node1") as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] - 256 * 1024)
        stage.strike(lambda: None)
        stage.wait(
            lambda: any("memory" in entry.problem for entry in stage.workload.ledger.entries[-200:]), "full memory"
        )
        full = time.monotonic()
        stage.settle(200)
        client.config_set("maxmemory", 0)
        evicted = client.info("stats")["evicted_keys"]
    stage.calm()
    stage.settle()
    refused = [
        entry
        for entry in stage.workload.ledger.entries
        if entry.kind in {Did.REVOKE, Did.REVOKE_ALL} and entry.began > full and entry.outcome is not Outcome.DONE
    ]
    stage.numbers["evicted keys"] = evicted
    stage.numbers["revocations refused"] = len(refused)
    stage.findings.extend(Finding(Flaw.FALSE_LOGOUT, "", None, f"{evicted} keys evicted") for _ in range(bool(evicted)))


def lose_sentinels(stage: Stage) -> None:
    """Kill two of three sentinels, then the primary too: nobody takes over. All come back."""
    stage.settle()
    stage.topology.kill("sentinel2")
    stage.topology.kill("sentinel3")
    stage.settle()
    stage.strike(lambda: stage.topology.kill("node1"))
    time.sleep(1 if stage.is_quick else 5)
    for name in ("node1", "sentinel2", "sentinel3"):
        stage.topology.launch(name)
    stage.settle(limit=60)


def lose_shards(stage: Stage) -> None:
    """Kill two of three primaries at once: nobody can elect. Both come back."""
    stage.settle()

    def kill_two() -> None:
        stage.topology.kill("node1")
        stage.topology.kill("node2")

    stage.strike(kill_two)
    time.sleep(2 if stage.is_quick else 5)
    stage.topology.launch("node1")
    stage.topology.launch("node2")
    stage.topology.wait_until_ready(60)
    stage.settle(200)


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
            Cell(name=f"{name}-kill", kind=kind, about="a primary is killed", act=kill, losing=UNTIL_REPLICATED),
            Cell(
                name=f"{name}-isolate",
                kind=kind,
                about="a primary is cut off, with some of the applications",
                act=isolate,
                losing=UNTIL_REPLICATED,
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
            Cell(name=f"{name}-replica", kind=kind, about="a replica is frozen", act=stop_replica),
            Cell(name=f"{name}-failover", kind=kind, about="a planned failover", act=fail_over),
        ]
    for name, kind in everywhere.items():
        losing = NO_LEVEL if kind is single else UNTIL_REPLICATED
        cells += [
            Cell(
                name=f"{name}-freeze",
                kind=kind,
                about="a primary is frozen for 30 seconds and comes back",
                act=freeze,
                losing=losing,
            ),
            Cell(name=f"{name}-scripts", kind=kind, about="the servers forget the scripts", act=flush_scripts),
        ]
    return cells


CELLS: Final = {cell.name: cell for cell in _cells()}
