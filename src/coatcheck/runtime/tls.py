"""What TLS connections trust and show, read from the files once, and again when one has changed.

redis-py reads them for every connection, and with them all authorities that the system trusts. That takes tens of
milliseconds in which nothing else runs: after a failover, when all connections are new, no call would meet its
deadline.
"""

import ssl
from pathlib import Path
from typing import Any, Final

from redis.asyncio import SSLConnection

_FILES: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")

_Stamp = tuple[tuple[int, int, int], ...]


class Trust:
    """The TLS side of connections with the same options. Safe to share among threads and event loops."""

    def __init__(self, options: dict[str, Any]) -> None:
        """Take redis-py's *options* of a connection; those that begin with ssl_ count. Reads nothing yet."""
        self._options: Final = {name: value for name, value in options.items() if name.startswith("ssl_")}
        self._files: Final = [Path(options[name]) for name in _FILES if options.get(name)]
        self._made: tuple[_Stamp, ssl.SSLContext] | None = None

    def context(self) -> ssl.SSLContext:
        """Give what a connection is to be made with.

        Raises OSError (ssl.SSLError among them) where a file cannot be read or does not fit, TypeError and ValueError
        for options that redis-py does not take.
        """
        stamp = tuple(_stamp(path) for path in self._files)
        made = self._made
        if made is None or made[0] != stamp:
            made = self._made = (stamp, SSLConnection(**self._options).ssl_context.get())
        return made[1]


def _stamp(path: Path) -> tuple[int, int, int]:
    """Give what changes when the file is written anew, or another is put in its place. Raises OSError."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
