"""Files of sealing keys that an operator keeps: one key a line, the one that seals first, `#` begins a comment.

Only the file's owner may be able to read it. A ring changes in two steps, and the file says which comes next:
`add_key` puts a new key at the end and marks it as waiting; when every process knows it, `promote_key` moves it to the
front. Processes read a file when they start, and not again.
"""

import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from coatcheck.model.errors import ConfigurationError
from coatcheck.model.keyring import Key, Keyring, new_key

WAITING: Final = "waiting"
_PRIVATE: Final = 0o600


def read_key_file(path: Path) -> Keyring:
    """Read the keys in the file *path*.

    Raises ConfigurationError when it cannot be read, others may read it, or a line of it is no key.
    """
    return Keyring(_keys(path, _lines(path)))


def create_key_file(path: Path) -> Key:
    """Make the file *path* with one new key; return the key. Raises ConfigurationError where there is a file."""
    text = new_key()
    _write_new(path, f"{text}  # added {_today()}\n", f"{path} is there already; to add a key: keys rotate {path}")
    return Keyring.parse(text).keys[0]


def add_key(path: Path) -> Key:
    """Put a new key at the end of the file *path*, so that every process can open with it; return the key.

    Raises ConfigurationError, with the file as it was, also while another new key waits to be promoted.
    """
    path = path.resolve()
    lines = _lines(path)
    _keys(path, lines)
    if any(_waits(line) for line in lines):
        raise ConfigurationError(f"a new key waits in {path} already: restart every process, then promote it")
    text = new_key()
    _replace(path, [*lines, f"{text}  # {WAITING} since {_today()}: promote it when every process has restarted"])
    return Keyring.parse(text).keys[0]


def promote_key(path: Path) -> Key:
    """Move the key that `add_key` has put at the end of the file *path* to the front, to seal; return it.

    Raises ConfigurationError, with the file as it was, unless one key is marked as waiting.
    """
    path = path.resolve()
    lines = _lines(path)
    _keys(path, lines)
    waiting = [line for line in lines if _waits(line)]
    if len(waiting) != 1:
        raise ConfigurationError(
            f"{len(waiting)} keys of {path} wait to be promoted, not one: let one line only say {WAITING}"
            if waiting
            else f"no key of {path} waits to be promoted: add one first with keys rotate {path}"
        )
    rest = [line for line in lines if line is not waiting[0]]
    front = next((i for i, line in enumerate(rest) if _key_text(line)), 0)
    text = _key_text(waiting[0])
    _replace(path, [*rest[:front], f"{text}  # promoted {_today()}", *rest[front:]])
    return Keyring.parse(text).keys[0]


def check_private(path: Path, found: os.stat_result) -> None:
    """Raise ConfigurationError when other users may read the file *path*."""
    if found.st_mode & 0o077 or found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"other users may read the sealing key in {path}: replace it if they did, else chmod 600 {path}"
        )


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            check_private(path, found)
            content = file.read() if stat.S_ISREG(found.st_mode) else b""
    except OSError as error:
        raise ConfigurationError(f"the keys in {path} cannot be read: {error.strerror}") from error
    return content.decode("utf-8", errors="replace").splitlines()


def _keys(path: Path, lines: list[str]) -> list[Key]:
    keys: list[Key] = []
    for number, line in enumerate(lines, 1):
        if text := _key_text(line):
            try:
                keys += Keyring.parse([text]).keys
            except ConfigurationError:
                raise ConfigurationError(f"{path}, line {number}: this is no sealing key (one a line)") from None
    if not keys:
        raise ConfigurationError(f"{path} holds no sealing key")
    return keys


def _key_text(line: str) -> str:
    return line.partition("#")[0].strip()


def _waits(line: str) -> bool:
    return bool(_key_text(line)) and line.partition("#")[2].strip().startswith(WAITING)


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _write_new(path: Path, content: str, occupied: str) -> None:
    """Write a file that is not there yet, to disk. Raises ConfigurationError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE)
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise ConfigurationError(occupied) from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error


def _replace(path: Path, lines: list[str]) -> None:
    """Replace the file at once. The draft beside it keeps two from doing so together."""
    draft = path.with_name(f"{path.name}.draft")
    busy = f"{draft} is there: another rotation is under way, or was interrupted; then remove it"
    _write_new(draft, "\n".join(lines) + "\n", busy)
    try:
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
