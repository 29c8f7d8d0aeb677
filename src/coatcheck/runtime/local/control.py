"""How another process, `coatcheck up --kill primary`, reaches the one that owns a local topology.

The owner listens on a socket in the topology's folder, which is its user's alone. A request and its answer are a line
of JSON each: ``["kill", "primary"]``; ``{"text": "..."}``, ``{"status": [...]}`` or ``{"error": "...", "code": 2}``.
"""

import json
import os
import socket
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from coatcheck.model.errors import ConfigurationError, SessionError, StoreUnavailable
from coatcheck.runtime.local.settings import Kind
from coatcheck.runtime.local.topology import FAILOVER_LIMIT, START_LIMIT, LocalTopology

_SOCKET: Final = "control"
_REQUEST_LIMIT: Final = 1.0
_ANSWER_LIMIT: Final = max(FAILOVER_LIMIT, START_LIMIT) + 10


class Control:
    """The owner's end. Close it when done."""

    def __init__(self, topology: LocalTopology) -> None:
        """Listen in the folder of *topology*, which runs. Raises ConfigurationError where its path is too long."""
        self._topology = topology
        self._listening = socket.socket(socket.AF_UNIX)
        try:
            self._listening.bind(str(topology.folder / _SOCKET))
        except OSError as error:
            self._listening.close()
            raise ConfigurationError(
                f"no socket can be made in {topology.folder} ({error}): name a folder with a short path in TMPDIR"
            ) from None
        self._listening.listen()

    def serve(self, seconds: float) -> str | None:
        """Wait that long for one request and carry it out; give what was done, None where there was nothing to tell."""
        self._listening.settimeout(seconds)
        try:
            line, _ = self._listening.accept()
        except TimeoutError:
            return None
        with line, suppress(OSError, ValueError):  # one that asks and leaves, or asks for nothing known
            line.settimeout(_REQUEST_LIMIT)
            request = json.loads(line.makefile().readline())
            answer = self._answer(*request)
            line.sendall(json.dumps(answer).encode() + b"\n")
            return answer.get("text")
        return None

    def close(self) -> None:
        """Stop listening."""
        self._listening.close()

    def _answer(self, action: str, which: str) -> dict[str, Any]:
        try:
            if action == "status":
                return {"status": [asdict(status) for status in self._topology.status()]}
            return {"text": self._act(action, which)}
        except SessionError as error:
            return {"error": str(error), "code": 2 if isinstance(error, ConfigurationError) else 3}

    def _act(self, action: str, which: str) -> str:
        topology = self._topology
        match action:
            case "kill":
                return f"{topology.kill(which)} is killed"
            case "pause":
                return f"{topology.pause(which)} is paused"
            case "resume":
                return f"resumed: {', '.join(topology.resume()) or 'nothing, for nothing was paused'}"
            case "start":
                return f"{topology.launch(which)} runs again"
            case "failover":
                return f"planned failover: the new primary is {topology.failover()}"
        raise ConfigurationError(f"{action}: no such action")


def ask(folder: Path, action: str, which: str = "") -> dict[str, Any]:
    """Let the owner of the topology in *folder* carry out *action*; give its answer, with "text" or "status".

    Raises what the owner ran into: ConfigurationError or StoreUnavailable, the latter also when it does not answer.
    """
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(_ANSWER_LIMIT)
            line.connect(str(folder / _SOCKET))
            line.sendall(json.dumps([action, which]).encode() + b"\n")
            answer: dict[str, Any] = json.loads(line.makefile().readline())
    except (OSError, ValueError):
        raise StoreUnavailable(f"the local topology in {folder} does not answer") from None
    if "error" in answer:
        raise (ConfigurationError if answer["code"] == 2 else StoreUnavailable)(answer["error"])  # noqa: PLR2004
    return answer


def find_running(what: str | None) -> Path:
    """Find the folder of the running topology that *what* names: a kind, a folder, or None for the only one.

    Raises ConfigurationError when there is none, or more than one.
    """
    if what is not None and what not in set(Kind):
        if _is_running(Path(what)):
            return Path(what)
        raise ConfigurationError(f"no local topology runs in {what}")
    found = running(what)
    if not found:
        raise ConfigurationError(f"no local topology runs: start one with coatcheck up {what or 'sentinel'}")
    if len(found) > 1:
        raise ConfigurationError(f"several run, name one of: {', '.join(sorted(map(str, found)))}")
    return found[0]


def running(kind: str | None = None) -> list[Path]:
    """Give the folders of this user's topologies that run: of that kind, or all."""
    folders = Path(tempfile.gettempdir()).glob(f"coatcheck-up-{kind or '*'}-*")
    return [folder for folder in folders if _is_own(folder) and _is_running(folder)]


def _is_own(folder: Path) -> bool:
    try:
        return folder.lstat().st_uid == os.geteuid()
    except OSError:
        return False


def _is_running(folder: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(str(folder / _SOCKET))
        except OSError:
            return False
        return True
