"""`embedded://`: a private Valkey server on a unix socket, shared by the processes of one machine.

Every process that names the same folder uses the same server. The first starts it, and some tenth of a
second after the last has left it stops. The data stay in the folder (AOF, synced every second).

Each process may be killed at any time, the server and its guard too: the kernel then releases the locks
that say who lives (see `coatcheck.runtime._embedded_guard`), and the next call starts what is missing.

The folder, mode 0700 when made here::

    keys                 the sealing key, mode 0600
    socket               where the server listens; it has no TCP port
    appendonlydir/       the data
    valkey.log           what the server said; emptied at a start once it is over 1 MB
    users.lock, guard.lock, server.lock
"""

import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coatcheck.model.errors import ConfigurationError, SessionError, StoreUnavailable
from coatcheck.runtime import _embedded_guard as guard
from coatcheck.runtime._embedded_host import (
    default_folder,
    find_python,
    find_server,
    prepare_folder,
    translated,
)
from coatcheck.runtime._key_file import read_keys

LIMIT_SECONDS = 10.0
"""How long `Embedded.socket` waits for the server before it raises."""

_PATH_LIMIT: Final = 103  # bytes of a unix socket's path on macOS; Linux has four more
_SHORTEST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.05
_LINES_SHOWN: Final = 5
_STARTS: Final = 3
# The guard lives long, so it gets no secrets from the environment.
_ENVIRONMENT: Final = ("PATH", "HOME", "TZ", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")

# Held while a lock that is to be passed on is open: a child forked then would keep it for its own life.
_forkless = threading.RLock()
if sys.platform != "win32":
    os.register_at_fork(before=_forkless.acquire, after_in_parent=_forkless.release, after_in_child=_forkless.release)


class Embedded:
    """A private Valkey server in *folder*, shared by every process that names the same folder.

    Safe in threads. A forked child uses the server as its parent does and leaves it on its own.
    The end of a process, of whatever kind, counts as `leave`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Name the folder, by default the one of this user. Touches nothing.

        Raises ConfigurationError when *folder* is None and the user has no home.
        """
        self.folder: Final = (default_folder() if folder is None else folder).absolute()
        self._seat: _Seat | None = None
        self._leave: weakref.finalize[..., Embedded] | None = None
        self._socket: str | None = None

    def socket(self) -> str:
        """Start or join the server; return the path of its unix socket.

        The path is for this process and the children it forks. Costs nothing once joined; else it blocks,
        10 seconds at most. Raises as `revive` does.
        """
        return self._socket or self.revive()

    def revive(self) -> str:
        """Do as `socket`, and see that the server lives: for use after a refused connection.

        Raises ConfigurationError when the wheel, the folder or the platform will not do, and
        StoreUnavailable, with the end of the server's log, when the server does not answer in time.
        """
        deadline = time.monotonic() + LIMIT_SECONDS
        find_server()
        with translated(self.folder):
            prepare_folder(self.folder)
            seat = self._sit_down(deadline)
            self._wait_for_server(seat.socket, deadline)
        self._socket = seat.socket
        return seat.socket

    def leave(self) -> None:
        """Stop using the server; the last to leave stops it, a moment later. May be called again."""
        with _forkless:
            self._socket = self._seat = None
            if self._leave is not None:
                self._leave()

    def keys(self) -> str:
        """Return the sealing key of this folder, made on first use, as `Keyring.parse` reads it.

        Raises ConfigurationError when others can read the file `keys` or it is damaged.
        """
        with translated(self.folder):
            prepare_folder(self.folder)
            return read_keys(self.folder / "keys")

    def _sit_down(self, deadline: float) -> "_Seat":
        """Take the shared lock, or keep it; the guard has it for a moment while it stops the server."""
        for _ in _pauses(deadline):
            with _forkless:
                if self._seat is not None and self._seat.is_valid():
                    return self._seat
                self.leave()
                lock = guard.try_lock(self.folder / guard.USERS_LOCK, shared=True)
                if lock is not None:
                    self._seat = _Seat.take(self.folder, lock)
                    self._leave = weakref.finalize(self, self._seat.give_up)
                    return self._seat
        raise self._failure("is still being stopped")

    def _wait_for_server(self, socket: str, deadline: float) -> None:
        """Wait until the server answers; start a guard where there is none to start it.

        More than once, since the first may have been killed; a server that cannot start ends every time.
        """
        starts = 0
        for remaining in _pauses(deadline):
            with _forkless, _absent_guard(self.folder) as lock:
                if lock is not None and starts == _STARTS:
                    self.leave()
                    raise self._failure("does not start")
                if lock is not None:
                    _start_guard(self.folder, lock, remaining)
                    starts += 1
            if guard.is_answering(socket, remaining):
                return
        # The seat is kept: a server with much data may need longer, and a later call finds it ready.
        raise self._failure(f"did not answer within {LIMIT_SECONDS:g} seconds")

    def _failure(self, what: str) -> StoreUnavailable:
        log = self.folder / guard.LOG
        lines = log.read_text(errors="replace").splitlines()[-_LINES_SHOWN:] if log.exists() else []
        summary = f"the embedded server in {self.folder} {what}; {log} ends:"
        return StoreUnavailable("\n".join((summary, *lines)))


@dataclass(frozen=True, slots=True)
class _Seat:
    """One process's share of the server: descriptors, and the path by which it reaches the socket."""

    folder: Path
    lock: int
    identity: tuple[int, int]
    directory: int | None
    socket: str

    @classmethod
    def take(cls, folder: Path, lock: int) -> "_Seat":
        """Sit down with the shared *lock*. Raises ConfigurationError for a path no socket can have."""
        path = str(folder / guard.SOCKET)
        directory = None
        if len(os.fsencode(path)) > _PATH_LIMIT:
            if not Path("/proc/self/fd").is_dir():
                os.close(lock)
                raise ConfigurationError(f"too long for a unix socket ({_PATH_LIMIT} bytes): {path}")
            directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            path = f"/proc/self/fd/{directory}/{guard.SOCKET}"
        return cls(folder, lock, _identity(os.fstat(lock)), directory, path)

    def is_own(self) -> bool:
        """Say whether the descriptor is still ours: a daemon may have closed it and reused its number."""
        try:
            return _identity(os.fstat(self.lock)) == self.identity
        except OSError:
            return False

    def is_valid(self) -> bool:
        """Say whether it counts: the descriptor is ours and the folder is the one that we locked."""
        try:
            found = (self.folder / guard.USERS_LOCK).stat()
        except OSError:
            return False
        return self.is_own() and _identity(found) == self.identity

    def give_up(self) -> None:
        """Release the lock, once a guard is there to notice: an earlier one may have been killed."""
        if not self.is_own():
            return
        with suppress(OSError, SessionError), _forkless, _absent_guard(self.folder) as lock:
            if lock is not None and guard.is_answering(self.socket):
                _start_guard(self.folder, lock, LIMIT_SECONDS)
        os.close(self.lock)
        if self.directory is not None:
            os.close(self.directory)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _pauses(deadline: float) -> Iterator[float]:
    """Yield the seconds that remain until *deadline*, at once and then after ever longer pauses."""
    pause = _SHORTEST_PAUSE
    while (remaining := deadline - time.monotonic()) > 0:
        yield remaining
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


@contextmanager
def _absent_guard(folder: Path) -> Iterator[int | None]:
    """Hold the guard's lock while no guard has it; None when one has."""
    lock = guard.try_lock(folder / guard.GUARD_LOCK)
    try:
        yield lock
    finally:
        if lock is not None:
            os.close(lock)


def _start_guard(folder: Path, lock: int, limit: float) -> None:
    """Start a guard that takes *lock* over; it in turn starts a server where none runs.

    It is no child of this process: it outlives it, and nobody has to wait for its end.
    """
    command = (find_python(), "-I", "-S", Path(guard.__file__).absolute(), find_server(), str(lock))
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    log = os.open(folder / guard.LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        subprocess.run(  # noqa: S603 (no shell; every word is ours)
            command,
            check=False,  # what failed is in the log, and the caller looks whether the server answers
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            start_new_session=True,  # Ctrl-C in a terminal is for the application
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        raise StoreUnavailable(f"the guard of {folder} did not start within {limit:.0f} seconds") from None
    finally:
        os.close(log)
