"""What TLS connections trust and show, read from the files once, and again when one has changed.

redis-py reads them for every connection, and with them all authorities that the system trusts. That takes tens of
milliseconds in which nothing else runs: after a failover, when all connections are new, no call would meet its
deadline.
"""

import os
import ssl
from pathlib import Path
from typing import Any, Final

from redis.asyncio import SSLConnection

from coatcheck.model.errors import ConfigurationError

_FILES: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")

_Stamp = tuple[tuple[int, int, int], ...]


class Trust:
    """The TLS side of connections with the same options. Safe to share among threads and event loops."""

    def __init__(self, options: dict[str, Any]) -> None:
        """Take redis-py's *options* of a connection; those that begin with ssl_ count. Reads nothing yet."""
        self._options: Final = {name: value for name, value in options.items() if name.startswith("ssl_")}
        self._files: Final = {name: Path(options[name]) for name in _FILES if options.get(name)}
        self._made: tuple[_Stamp, ssl.SSLContext] | None = None

    def check(self, prefix: str = "") -> None:
        """Raise ConfigurationError where a file is not there, or may not be read. prefix: of the options' names.

        That is for the start. Later a file may be missing for a moment, while it is replaced.
        """
        for name, path in self._files.items():
            try:
                os.close(os.open(path, os.O_RDONLY))
            except OSError as error:
                raise ConfigurationError(f"{prefix}{name}: {path} cannot be read: {error.strerror}") from None

    def context(self) -> ssl.SSLContext:
        """Give what a connection is to be made with.

        Raises OSError, which names the files, where one cannot be read or does not fit, TypeError and ValueError for
        options that redis-py does not take.
        """
        stamp = tuple(_stamp(name, path) for name, path in self._files.items())
        made = self._made
        if made is None or made[0] != stamp:
            connection = SSLConnection(**self._options)
            try:
                made = self._made = (stamp, connection.ssl_context.get())
            except OSError as error:
                files = ", ".join(f"{name} ({path})" for name, path in self._files.items())
                raise OSError(f"{files} cannot be used: {error}") from error
        return made[1]


def _stamp(name: str, path: Path) -> tuple[int, int, int]:
    """Give what changes when the file is written anew, or another is put in its place. Raises OSError."""
    try:
        found = path.stat()
    except OSError as error:  # redis-py would leave its name out
        raise OSError(f"{name}: {path} cannot be read: {error.strerror}") from error
    return found.st_mtime_ns, found.st_size, found.st_ino
