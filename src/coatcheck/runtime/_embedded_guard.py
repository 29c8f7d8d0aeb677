"""The guard of an embedded server: a small process that starts it, restarts it and stops it.

`coatcheck.runtime.embedded` runs this file as a script (``python -I -S``, in the server's folder).
It lives as long as the server, so it imports little and stands on nothing else of this library.

Three locks say who lives. They are flocks: the kernel releases them however a process ends, and no
pid is ever believed.

=============  =========  ========================================================================
file           kind       held by
=============  =========  ========================================================================
users.lock     shared     every process that uses the server; by the guard, exclusively, once all left
guard.lock     exclusive  the guard, which inherits it from the process that starts it
server.lock    exclusive  the server, which inherits it from the guard: no two run on one folder
=============  =========  ========================================================================

The guard looks ten times a second, as the server's own timer does.
"""

import os
import signal
import socket
import sys
import time

if sys.platform != "win32":
    import fcntl

USERS_LOCK = "users.lock"
GUARD_LOCK = "guard.lock"
SERVER_LOCK = "server.lock"
SOCKET = "socket"
LOG = "valkey.log"

_TICK = 0.1
_STOP_LIMIT = 10.0
_REPLY_LIMIT = 0.5
_SETTLED_AFTER = 1.0
_LOG_LIMIT = 1_000_000
_STDOUT = 1
_STDERR = 2

# Relative paths: the working directory is the folder, and a socket's path may have 108 bytes at most.
_OPTIONS = (
    *("--port", "0", "--unixsocket", SOCKET, "--unixsocketperm", "700", "--dir", "."),
    *("--appendonly", "yes", "--appendfsync", "everysec", "--aof-load-truncated", "yes", "--save", ""),
    *("--maxmemory-policy", "noeviction", "--daemonize", "no", "--logfile", "", "--loglevel", "notice"),
)


def try_lock(path: str | os.PathLike[str], *, shared: bool = False) -> int | None:
    """Lock the file *path*; return the descriptor that holds the lock, or None when another has it.

    Closing the descriptor and all its duplicates releases it. Raises OSError where there are no locks.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        taken = _take(lock, shared=shared)
    except OSError:
        os.close(lock)
        raise
    if not taken:
        os.close(lock)
        return None
    return lock


def is_answering(path: str, limit: float = _REPLY_LIMIT) -> bool:
    """Say whether the server at the socket *path* answers, within *limit* seconds, and has its data."""
    reply = _ask(path, b"PING", limit)
    return bool(reply) and not reply.startswith(b"-LOADING")


def main(server: str, guard_lock: int) -> None:
    """Leave the starting process and guard the folder that is the working directory.

    *server* is the binary, *guard_lock* the inherited descriptor. Returns in the first process at once,
    in its child when the server has ended.
    """
    os.set_inheritable(guard_lock, False)  # noqa: FBT003 (its only form); the server must not have it
    if os.fork():
        return
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o077)
    _watch(server)


def _watch(server: str) -> None:
    users = os.open(USERS_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    child = 0
    started = 0.0
    is_sound = True  # one that runs without a guard, left by a killed one, has answered before
    while _is_in_place(users) and not _take(users, shared=False):
        child = _reap(child)
        lock = None if child else _free_server_lock()
        if lock is None:
            is_sound = is_sound or (time.monotonic() > started + _SETTLED_AFTER and is_answering(SOCKET))
        elif is_sound:
            child = _start(server, lock)
            started, is_sound = time.monotonic(), False
        else:
            return  # it cannot live: starting it again is for those who ask for it and read its log
        time.sleep(_TICK)
    _stop(child)


def _start(server: str, lock: int) -> int:
    """Start the server, which takes *lock* over; return its process id."""
    if os.fstat(_STDOUT).st_size > _LOG_LIMIT:
        os.ftruncate(_STDOUT, 0)
    child = os.fork()
    if child == 0:
        try:
            os.set_inheritable(lock, True)  # noqa: FBT003 (its only form)
            os.execv(server, (server, *_OPTIONS))  # noqa: S606 (no shell is what we want)
        except OSError as error:
            os.write(_STDERR, f"cannot run {server}: {error.strerror}\n".encode())
        finally:
            os._exit(127)
    os.close(lock)
    return child


def _stop(child: int) -> None:
    """End the server: *child*, or one that an earlier guard started (0), which is asked by its socket."""
    deadline = time.monotonic() + _STOP_LIMIT
    if not child:
        while time.monotonic() < deadline and _free_server_lock() is None:
            _ask(SOCKET, b"SHUTDOWN NOSAVE", _REPLY_LIMIT)
            time.sleep(_TICK / 10)
        return
    os.kill(child, signal.SIGTERM)
    while child := _reap(child):
        time.sleep(_TICK / 10)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)


def _reap(child: int) -> int:
    """Return *child* while it lives, else 0."""
    if child and os.waitpid(child, os.WNOHANG)[0] == child:
        return 0
    return child


def _is_in_place(users: int) -> bool:
    """Say whether the folder is still the one of the lock *users*: somebody may have removed it."""
    try:
        return os.path.samestat(os.stat(USERS_LOCK), os.fstat(users))  # noqa: PTH116 (no pathlib in the guard)
    except FileNotFoundError:
        return False


def _free_server_lock() -> int | None:
    try:
        return try_lock(SERVER_LOCK)
    except FileNotFoundError:  # the folder is being removed: `_is_in_place` will see it
        return None


def _take(lock: int, *, shared: bool) -> bool:
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _ask(path: str, command: bytes, limit: float) -> bytes:
    """Send one command; return the start of the reply, or nothing when nobody answered."""
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(limit)
            line.connect(path)
            line.sendall(command + b"\r\n")
            return line.recv(64)
    except OSError:
        return b""


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
