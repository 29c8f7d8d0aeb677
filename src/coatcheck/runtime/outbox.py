"""The outbox: a file in which ends that the store has not confirmed outlive the process.

A line each, as JSON, appended and synced; another line says that one is done. When none is left the file is emptied.
Several processes may share it. It holds handles, digests of subjects, and by whom and why: no secrets.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from coatcheck.engine.endings import Ending
from coatcheck.model.errors import ConfigurationError
from coatcheck.model.events import Cause
from coatcheck.model.keyring import Place
from coatcheck.model.ticket import Handle

log = logging.getLogger("coatcheck")

_MODE: Final = 0o600


class Outbox:
    """The outbox of one prefix; see `coatcheck.engine.endings.Journal`."""

    def __init__(self, path: Path, prefix: str) -> None:
        """Use the file at *path*, made if need be. Raises ConfigurationError if it cannot be, or is open to others."""
        self._path = path
        self._prefix = prefix
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
        """Give the endings that are not done. Lines that cannot be read are logged, and left out."""
        try:
            with self._file() as file:
                return list(self._outstanding(file).values())
        except OSError:
            log.exception("session_outbox_failed", extra={"path": str(self._path)})
            return []

    def add(self, ending: Ending) -> None:
        """Append *ending*; it is on disk when this returns. A failure is logged."""
        self._append(
            {
                "id": ending.id,
                "prefix": self._prefix,
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

    def _append(self, line: dict[str, Any]) -> None:
        try:
            with self._file() as file:
                # A line that a crash has cut short ends here; an empty line is none.
                os.write(file, b"\n" + json.dumps(line).encode() + b"\n")
                os.fsync(file)
        except OSError:
            log.exception("session_outbox_failed", extra={"path": str(self._path)})

    def _outstanding(self, file: int) -> dict[str, Ending]:
        found = {}
        for name, line in self._lines(file).items():
            if line and line["prefix"] == self._prefix:
                found[name] = _ending(line)
        return found

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


def outbox_or_default(path: Path | None, prefix: str) -> Outbox | None:
    """Open the outbox at *path*, or at COATCHECK_OUTBOX; None if neither names one. Raises ConfigurationError."""
    named = os.environ.get("COATCHECK_OUTBOX")
    if path is None and not named:
        return None
    return Outbox(Path(named or "") if path is None else path, prefix)
