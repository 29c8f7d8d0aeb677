"""Applications that are killed at some command, before or after the server has it."""

import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Final

from faults.checker import Finding, Flaw
from faults.ledger import Kind, Ledger, Operation, Outcome, from_lines
from faults.stage import Stage
from faults.workers import Known, People
from faults.workload import read_all

ROOT: Final = Path(__file__).parents[1]


def kill_applications(stage: Stage) -> None:
    """Let one application after the other work until it is killed at some script that it sends."""
    chance = Random()  # noqa: S311  it chooses when to kill
    for number in range(2 if stage.is_quick else 12):
        stage.further.extend(_run_one(stage, ("sync", "async")[number % 2], chance.randrange(30, 150), chance))
    ledger = Ledger()
    read_all(stage.topology.url, stage.keys, people_of(stage.further), ledger)
    stage.further.extend(ledger.entries)
    with stage.topology.client("node1") as client:
        eternal = [key for key in client.scan_iter() if client.pttl(key) == -1]
    stage.findings.extend(Finding(Flaw.KEY_WITHOUT_TTL, "", None, key.decode()) for key in eternal)


def _run_one(stage: Stage, facade: str, scripts: int, chance: Random) -> list[Operation]:
    (way,) = stage.proxy.ways
    command = (sys.executable, "-m", "faults.killable", stage.url, stage.keys, facade, secrets.token_hex(4))
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        left, is_before = scripts, chance.random() < 0.5  # noqa: PLR2004  either as often

        def sees(piece: bytes) -> bool:
            nonlocal left
            left -= b"EVALSHA" in piece
            if left > 0:
                return False
            os.kill(process.pid, signal.SIGKILL)
            if is_before:
                raise ConnectionResetError("the application was killed before its command had left it")
            return True

        way.sees = sees
        output, _ = process.communicate(timeout=60)
        way.sees = None
    if process.returncode != -signal.SIGKILL:
        raise RuntimeError(f"an application has ended by itself: {process.returncode}")
    whole, _, _ = output.rpartition("\n")
    return from_lines(whole.splitlines())


def people_of(history: list[Operation]) -> People:
    """Give the sessions that *history* tells of."""
    people = People("last")
    known: dict[str, Known] = {}
    for entry in history:
        if entry.kind is Kind.SIGN_IN and entry.outcome is Outcome.DONE:
            known[entry.session] = Known(entry.session, entry.subject, entry.handle, entry.identifier or "")
        elif entry.kind is Kind.ROTATE and entry.outcome is Outcome.DONE and entry.identifier:
            known[entry.session].identifier, known[entry.session].secret = entry.identifier, entry.secret
        elif entry.kind in {Kind.ROTATE, Kind.REVOKE} and entry.outcome is not Outcome.FAILED:
            known[entry.session].is_retired = True
        elif entry.kind is Kind.REVOKE_ALL:
            for one in known.values():
                one.is_retired |= one.subject == entry.subject
    people.known.extend(known.values())
    return people
