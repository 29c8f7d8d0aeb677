"""Faults of the host that a server runs on: its disk, its clock."""

import errno
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from faults.ledger import Kind, Outcome
from faults.proxy import is_root
from faults.stage import Skipped, Stage

_LIBRARIES: Final = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
_DISK: Final = "24m"
_HOUR: Final = 3600


def on_small_disk(stage: Stage) -> Mapping[str, Any]:
    """Give the server a disk of 24 MB, in memory."""
    if not is_root():
        raise Skipped("only root can mount a disk to fill")
    folder = stage.stack.enter_context(tempfile.TemporaryDirectory())
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        raise Skipped(f"no disk to fill can be mounted here: {made.stderr.strip()}")
    stage.stack.callback(subprocess.run, ["umount", "-l", folder], check=True)
    stage.folder = Path(folder)
    return {"node_config": {"node1": [f"dir {folder}"]}}


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
