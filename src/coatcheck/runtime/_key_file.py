"""The file that keeps the sealing key of an embedded store, readable by its owner alone."""

import os
import secrets
import stat
from pathlib import Path

from coatcheck.model.errors import ConfigurationError
from coatcheck.model.keyring import Keyring, new_key
from coatcheck.runtime.key_files import check_private


def read_keys(path: Path) -> str:
    """Return the keys in the file *path* with commas between, as `Keyring.parse` reads them.

    An absent file is made with one new key; of processes that race, one wins and all return its key.
    In the file, keys stand apart by commas or white space, the one in use first.
    Raises ConfigurationError when others can read the file or it holds anything but keys.
    """
    if not path.exists():
        _make(path)
    found = path.stat()
    check_private(path, found)
    content = path.read_bytes() if stat.S_ISREG(found.st_mode) else b""
    keys = ",".join(content.decode("ascii", errors="replace").replace(",", " ").split())
    try:
        Keyring.parse(keys)
    except ConfigurationError:
        raise ConfigurationError(
            f"{path} holds no sealing key, or a damaged one: restore it from a backup, "
            "or remove it, which ends every session in this folder"
        ) from None
    return keys


def _make(path: Path) -> None:
    """Put a file with a new key at *path*, complete or not at all, unless another process has done so."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, new_key().encode() + b"\n")
        os.fsync(descriptor)
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        os.close(descriptor)
        draft.unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
