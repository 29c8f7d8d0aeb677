"""Faults of the host that a server runs on: its disk, its clock, all of it."""

import errno
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from coatcheck.runtime.local.settings import Kind as TopologyKind
from faults.ledger import Kind, Outcome
from faults.levels import Skipped
from faults.stage import Stage

_LIBRARIES: Final = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
_DISK: Final = "24m"
_HOUR: Final = 3600
_SYS_ADMIN: Final = 21  # linux/capability.h
_AFTERWARDS: Final = 90
_WRITES_AGAIN: Final = 20
_REFILLED: Final = 60.0  # seconds until sentinels have made a former primary a replica


def on_small_disk(stage: Stage) -> Mapping[str, Any]:
    """Give the server a disk of 24 MB, in memory."""
    if not may_administer():
        raise Skipped("only root can mount a disk to fill, and in a container only with CAP_SYS_ADMIN")
    folder = stage.stack.enter_context(tempfile.TemporaryDirectory())
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        raise Skipped(f"no disk to fill can be mounted here: {made.stderr.strip()}")
    stage.stack.callback(subprocess.run, ["umount", "-l", folder], check=True)
    stage.folder = Path(folder)
    return {"node_config": {"node1": [f"dir {folder}"]}}


def may_administer() -> bool:
    """Say whether this process may mount disks and make network namespaces (CAP_SYS_ADMIN)."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return bool(int(status["CapEff"], 16) >> _SYS_ADMIN & 1)


def crowd_disk(stage: Stage) -> None:
    """Fill the disk of the append-only file, and make room again."""
    stage.settle()
    filler = stage.folder / "filler"
    stage.strike(lambda: _fill(filler))
    stage.wait(lambda: any("disk" in e.problem for e in stage.workload.ledger.entries[-200:]), "a full disk")
    full = time.monotonic()
    time.sleep(1 if stage.is_quick else 3)
    stage.calm()
    freed = time.monotonic()
    filler.unlink()
    stage.settle(200)
    meanwhile = [entry for entry in stage.workload.ledger.entries if full < entry.began and entry.ended < freed]
    stage.numbers["reads answered while full"] = sum(
        entry.kind is Kind.READ and entry.outcome is Outcome.DONE for entry in meanwhile
    )
    stage.numbers["revocations refused"] = sum(
        entry.kind in {Kind.REVOKE, Kind.REVOKE_ALL} and entry.outcome is not Outcome.DONE for entry in meanwhile
    )


def _fill(path: Path) -> None:
    piece = bytes(1 << 20)
    with path.open("wb", buffering=0) as file:
        while piece:
            try:
                file.write(piece)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                piece = piece[: len(piece) // 2]


def lose_host(stage: Stage) -> None:
    """Kill a primary and remove all that it has written. It comes back empty, after a replica has taken over."""
    stage.warm_up()
    victim, slots = stage.choose_victim()
    stage.strike(lambda: _lose(stage, victim), slots=slots)
    stage.lack_replica()
    if stage.cell.kind is not TopologyKind.SINGLE:
        stage.await_takeover(victim)
        stage.settle(_AFTERWARDS)
    stage.calm()
    stage.have_replicas()
    stage.topology.launch(victim)
    if stage.cell.kind is TopologyKind.SINGLE:
        stage.served()
    if stage.cell.kind is TopologyKind.SENTINEL and not stage.is_quick:
        stage.topology.wait_until_ready(_REFILLED)
        stage.settle(writes=_WRITES_AGAIN)
    stage.settle(_AFTERWARDS)


def _lose(stage: Stage, name: str) -> None:
    """Kill a node, and remove its files but its configuration, which no host is set up without, and its log."""
    node = stage.topology._nodes[name]
    stage.topology.kill(name)
    for path in node.folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path not in {node.config, node.log}:
            path.unlink()


def with_clocks(stage: Stage) -> Mapping[str, Any]:
    """Give the server a clock that can be moved."""
    return {"launchers": {"node1": _fake_clock(stage, 0)}}


def with_shifted_replicas(stage: Stage) -> Mapping[str, Any]:
    """Let the clocks of both replicas be an hour ahead."""
    launcher = _fake_clock(stage, _HOUR)
    return {"launchers": {"node2": launcher, "node3": launcher}}


def move_clock(stage: Stage) -> None:
    """Set the server's clock an hour ahead, then an hour back."""
    stage.settle()
    stage.strike(lambda: None)
    for shift in (_HOUR, -_HOUR):
        (stage.folder / "clock").write_text(f"{shift:+}s")
        with stage.topology.client("node1") as client:
            stage.wait(lambda: abs(client.time()[0] - time.time() - shift) < _HOUR / 60, "a moved clock")  # noqa: B023
        stage.settle(300)


def _fake_clock(stage: Stage, shift: int) -> tuple[str, ...]:
    """Give the words before a command whose clock is what a file says. Raises Skipped without libfaketime."""
    library = os.environ.get("COATCHECK_LIBFAKETIME") or next(
        (str(found) for place in _LIBRARIES for found in Path(place).glob("**/faketime/libfaketime.so.1")), None
    )
    if library is None:
        raise Skipped("there is no libfaketime (COATCHECK_LIBFAKETIME names it): apt-get install libfaketime")
    stage.folder = Path(stage.stack.enter_context(tempfile.TemporaryDirectory()))
    (stage.folder / "clock").write_text(f"{shift:+}s")
    words = (f"LD_PRELOAD={library}", f"FAKETIME_TIMESTAMP_FILE={stage.folder / 'clock'}")
    return ("env", *words, "FAKETIME_CACHE_DURATION=1", "FAKETIME_DONT_FAKE_MONOTONIC=1")
