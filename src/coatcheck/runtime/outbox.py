"""The outbox: a file in which ends that the store has not confirmed outlive the process.

A line each, as JSON, appended and synced; another line says that one is done. When none is left the file is emptied.
Several processes may share it. It holds handles, digests of subjects, by whom and why, and fingerprints of keys: no
secrets.

A line says under which keys it was written. A process that lacks one of them leaves the line alone: it could not find,
or not open, what is to end, and would take it for done.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from coatcheck.engine.endings import Ending
from coatcheck.model.errors import ConfigurationError
from coatcheck.model.events import Cause
from coatcheck.model.keyring import Keyring, Place
from coatcheck.model.ticket import Handle

log = logging.getLogger("coatcheck")

_MODE: Final = 0o600


class Outbox:
    """The outbox of one prefix and one ring of keys; see `coatcheck.engine.endings.Journal`."""

    def __init__(self, path: Path, prefix: str, keyring: Keyring) -> None:
        """Use the file at *path*, made if need be. Raises ConfigurationError if it cannot be, or is open to others."""
        self._path = path
        self._prefix = prefix
        self._keys = tuple(key.fingerprint for key in keyring.keys)
        try:
            with self._file() as file:
                mode = os.fstat(file).st_mode
        except OSError as error:
            raise ConfigurationError(
                f"the outbox {path} cannot be used: {error}. Name a file in a folder that this process may write to"
            ) from None
        if mode & 0o077:
            raise ConfigurationError(f"the outbox {path} is open to others: chmod 600 {path}")

    def load(self) -> list[Ending]:
        """Give the endings that are not done. Lines that cannot be read, or whose keys lack, are logged and left."""
        try:
            with self._file() as file:
                return list(self._outstanding(file).values())
        except OSError:
            log.exception("session_outbox_failed", extra={"path": str(self._path)})
            return []

    def add(self, ending: Ending) -> bool:
        """Append *ending*; say whether it is on disk now. A failure is logged."""
        return self._append(
            {
                "id": ending.id,
                "prefix": self._prefix,
                "keys": self._keys,
                "at": ending.at,
                "handle": str(ending.handle) if ending.handle else None,
                "places": [[place.partition, place.digest] for place in ending.places],
                "keep": str(ending.keep) if ending.keep else None,
                "by": ending.cause.by,
                "why": ending.cause.why,
            }
        )

    def done(self, ending: Ending) -> None:
        """Note that *ending* is confirmed; empty the file if it was the last."""
        self._append({"done": ending.id})
        try:
            with self._file() as file:
                if not any(self._lines(file, quietly=True).values()):
                    os.ftruncate(file, 0)
        except OSError:
            log.exception("session_outbox_failed", extra={"path": str(self._path)})

    @contextmanager
    def _file(self) -> Iterator[int]:
        """Open the file, for this process alone."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)

    def _append(self, line: dict[str, Any]) -> bool:
        try:
            with self._file() as file:
                # A line that a crash has cut short ends here; an empty line is none.
                os.write(file, b"\n" + json.dumps(line).encode() + b"\n")
                os.fsync(file)
        except OSError:
            log.exception("session_outbox_failed", extra={"path": str(self._path)})
            return False
        return True

    def _outstanding(self, file: int) -> dict[str, Ending]:
        lines = {name: line for name, line in self._lines(file).items() if line and line["prefix"] == self._prefix}
        lacking = {name: missing for name, line in lines.items() if (missing := _keys(line).difference(self._keys))}
        if lacking:
            log.warning(
                "session_outbox_keys_missing: %s keeps ends (%d) that were asked for under keys which this process "
                "does not have (%s). They are left to a process that has these; if none will ever have them, stop all "
                "processes and remove the file",
                self._path,
                len(lacking),
                ", ".join(sorted(set().union(*lacking.values()))),
                extra={"path": str(self._path), "count": len(lacking)},
            )
        return {name: _ending(line) for name, line in lines.items() if name not in lacking}

    def _lines(self, file: int, *, quietly: bool = False) -> dict[str, dict[str, Any]]:
        """Read what was kept, by its id; what is done is empty."""
        text = os.pread(file, os.fstat(file).st_size, 0)
        found: dict[str, dict[str, Any]] = {}
        for number, raw in enumerate(text.split(b"\n"), start=1):
            if not raw.strip():
                continue
            try:
                line = json.loads(raw)
                if "done" in line:
                    found[str(line["done"])] = {}
                else:
                    _ending(line)
                    _keys(line)
                    found[str(line["id"])] = line
            except (ValueError, TypeError, KeyError, AttributeError):
                if not quietly:
                    log.error(  # noqa: TRY400  what the parser says of it helps nobody
                        "session_outbox_line_unreadable", extra={"path": str(self._path), "line": number}
                    )
        return found


def _ending(line: dict[str, Any]) -> Ending:
    """Read a line. Raises ValueError, TypeError, KeyError or AttributeError for one that is none."""
    line["prefix"].encode()
    return Ending(
        id=str(line["id"]),
        at=int(line["at"]),
        cause=Cause(line["by"], line["why"]),
        handle=Handle.parse(line["handle"]) if line["handle"] is not None else None,
        places=tuple(Place(int(partition), str(digest)) for partition, digest in line["places"]),
        keep=Handle.parse(line["keep"]) if line["keep"] is not None else None,
    )


def _keys(line: dict[str, Any]) -> set[str]:
    """Give the fingerprints of the keys that *line* was written under; none where a former version wrote it."""
    return {str(fingerprint) for fingerprint in line.get("keys", ())}


def outbox_or_default(path: Path | Literal[False] | None, prefix: str, keyring: Keyring) -> Outbox | None:
    """Open the outbox at *path*, or at COATCHECK_OUTBOX; None for False, or if neither names one.

    Raises ConfigurationError.
    """
    named = os.environ.get("COATCHECK_OUTBOX")
    if path is False or (path is None and not named):
        return None
    return Outbox(Path(named or "") if path is None else path, prefix, keyring)
