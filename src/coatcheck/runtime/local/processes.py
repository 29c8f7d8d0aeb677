"""The processes of a local topology, as their owner sees them: they live no longer than it does."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from coatcheck.model.errors import ConfigurationError, StoreUnavailable
from coatcheck.runtime._embedded_host import find_python
from coatcheck.runtime.local import _keeper

# The servers need no secrets of the application's environment.
_ENVIRONMENT: Final = ("PATH", "HOME", "TZ", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class Processes:
    """A folder in the system's temporary one, and the processes that were started for it.

    `end`, and the end of this process however it comes, ends them all and removes the folder (a child that this process
    has forked holds them up until it ends too). Safe in threads.
    """

    def __init__(self, prefix: str) -> None:
        """Start the keeper; the folder's name begins with *prefix*. Raises ConfigurationError without a Python."""
        self._lock = threading.Lock()
        self._keeper = subprocess.Popen(  # noqa: S603 (no shell; every word is ours)
            (find_python(), "-I", "-S", Path(_keeper.__file__).absolute(), prefix),
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C in a terminal is for the owner
        )
        self.folder: Final = Path(self._read()["folder"])

    def start(self, name: str, words: Sequence[str], log: Path) -> int:
        """Start a process called *name*, its output appended to *log*; give its pid. Raises ConfigurationError."""
        answer = self._order("start", name, words, str(log))
        if "error" in answer:
            raise ConfigurationError(f"{words[0]} cannot be run: {answer['error']}")
        return int(answer["pid"])

    def send(self, name: str, number: signal.Signals) -> bool:
        """Send a signal; False where the process has ended. After SIGKILL it has ended when this returns."""
        return bool(self._order("signal", name, number)["delivered"])

    def living(self) -> dict[str, int]:
        """Give the pids of those that have not ended."""
        return self._order("living")

    def end(self) -> None:
        """End everything and remove the folder. May be called again."""
        with self._lock:
            self._keeper.communicate()

    def _order(self, *words: object) -> dict[str, Any]:
        assert self._keeper.stdin is not None  # noqa: S101 (it is a pipe)
        with self._lock:
            try:
                self._keeper.stdin.write(json.dumps(words) + "\n")
                self._keeper.stdin.flush()
            except (OSError, ValueError):
                raise self._gone() from None
            return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._keeper.stdout is not None  # noqa: S101 (it is a pipe)
        line = self._keeper.stdout.readline()
        if not line:
            raise self._gone()
        found: dict[str, Any] = json.loads(line)
        return found

    def _gone(self) -> StoreUnavailable:
        return StoreUnavailable("the keeper of the local topology has ended, and its servers with it: start it anew")
