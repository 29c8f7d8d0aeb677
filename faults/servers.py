"""Faults of servers: killed, frozen, filled, handed over, forgetful."""

import time
from datetime import timedelta
from typing import Final

import coatcheck
from coatcheck.engine.keys import Keys
from coatcheck.model.ticket import Handle
from coatcheck.runtime.local.settings import Kind
from coatcheck.runtime.topology import slot_of
from faults.checker import Finding, Flaw
from faults.ledger import Kind as Did
from faults.ledger import Outcome
from faults.stage import Stage

_FROZEN_SECONDS: Final = 30.0
_FROZEN_BRIEFLY: Final = 2.5
_BETWEEN_SCRIPTS: Final = 0.2
_AFTERWARDS: Final = 90
_WRITES_AGAIN: Final = 20
_FOR_A_CHECK: Final = timedelta(seconds=5)  # which nobody waits for as for a page
_DATA: Final = ("node1", "node2", "node3")


def kill_and_restart(stage: Stage) -> None:
    """Kill the server and start it again with the data that it had."""
    stage.warm_up()
    stage.strike(lambda: stage.topology.kill("node1"))
    stage.topology.launch("node1")
    stage.served()
    stage.settle()


def kill(stage: Stage) -> None:
    """Kill a primary; a replica takes over."""
    stage.warm_up()
    victim, slots = stage.choose_victim()
    stage.strike(lambda: stage.topology.kill(victim), slots=slots)
    stage.lack_replica()
    stage.await_takeover(victim)
    stage.settle(_AFTERWARDS)


def freeze(stage: Stage) -> None:
    """Freeze a primary; a replica takes over where there is one; the frozen one comes back."""
    stage.warm_up()
    victim, slots = stage.choose_victim()
    began = time.monotonic()
    stage.strike(lambda: stage.topology.pause(victim), slots=slots)
    stage.lack_replica()
    if stage.cell.kind is not Kind.SINGLE:
        stage.await_takeover(victim)
    time.sleep(max(0.0, began + (_FROZEN_BRIEFLY if stage.is_quick else _FROZEN_SECONDS) - time.monotonic()))
    stage.calm()
    stage.have_replicas()
    stage.topology.resume(victim)
    stage.settle(300)


def stop_replica(stage: Stage) -> None:
    """Freeze a replica for as long as it takes, and let it catch up."""
    stage.warm_up()
    slots = stage.choose_victim()[1]
    replica = stage.heirs[0]
    stage.strike(lambda: stage.topology.pause(replica), slots=slots)
    stage.lack_replica()
    stage.settle(_AFTERWARDS)
    stage.calm()
    stage.have_replicas()
    stage.topology.resume()
    stage.settle(writes=_WRITES_AGAIN)


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
        stage.settle(20, seconds=_BETWEEN_SCRIPTS)
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
        # Given back before the epoch of the move is known, a slot has no owner for good, and its keys are deleted.
        stage.wait(lambda: len({_epochs(stage, name) for name in _DATA}) == 1, "epochs that all primaries know")
        stage.topology.move_slot(slot, away, home)
        stage.wait(lambda: len({_epochs(stage, name) for name in _DATA}) == 1, "epochs that all primaries know")
    stage.settle()


def _epochs(stage: Stage, name: str) -> frozenset[tuple[str, str]]:
    """Give the epoch of each node's slots, as the node called *name* knows them."""
    with stage.topology.client(name) as client:
        return frozenset((node["node_id"], node["epoch"]) for node in client.cluster("NODES").values())


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


def restart_empty(stage: Stage) -> None:
    """Let a primary that keeps nothing on disk restart so fast that nobody takes over: its replicas become as empty."""
    wanted = "aof" if stage.cell.kind is Kind.SINGLE else "empty-restart"
    with coatcheck.Sessions(stage.topology.url, keys=stage.keys, deadline=_FOR_A_CHECK) as sessions:
        named = {danger.code for danger in sessions.check_server()}
    if wanted not in named:
        stage.findings.append(Finding(Flaw.DANGER_UNNAMED, "", None, f"{wanted} is not among {sorted(named)}"))
    stage.warm_up()
    victim, slots = stage.choose_victim()
    stage.strike(lambda: stage.topology.kill(victim), slots=slots)
    stage.topology.launch(victim)
    stage.await_service(victim)
    stage.settle(_AFTERWARDS, writes=_WRITES_AGAIN)
