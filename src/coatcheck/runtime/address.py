"""Where the store is, and with which keys: a URL, the environment, or the embedded server.

    embedded://                 a private Valkey, shared by this user's processes (extra `embedded`)
    embedded:///folder          the same in a folder of your choice
    redis://host:6379/0         TCP;   rediss:// with verified TLS;   unix:///path for a socket
    valkey://  valkeys://       the same as redis:// and rediss://

What follows `?` in a URL, and further keyword arguments, are redis-py's options.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from redis.connection import parse_url

from coatcheck.model.errors import ConfigurationError
from coatcheck.model.keyring import Keyring
from coatcheck.runtime.embedded import Embedded
from coatcheck.runtime.key_files import read_key_file

Keys = Keyring | Path | str | Iterable[str] | None
"""A path is that of a key file (`coatcheck.runtime.key_files`)."""

_ARGUMENT: Final = "argument"
_TWINS: Final = {"valkey": "redis", "valkeys": "rediss"}
_SCHEMES: Final = ("redis", "rediss", "unix", *_TWINS, "embedded")
_KINDS: Final = ", ".join(f"{name}://" for name in _SCHEMES)


class Address:
    """Where the store is."""

    __slots__ = ("_embedded", "_url")

    def __init__(self, url: str | None = None) -> None:
        """Read *url*, or COATCHECK_URL, or else mean the embedded store. Raises ConfigurationError."""
        url = url or os.environ.get("COATCHECK_URL") or "embedded://"
        scheme, separator, rest = url.partition("://")
        if not separator:
            raise ConfigurationError("the address has no scheme: write redis://host:port, or another of " + _KINDS)
        if scheme not in _SCHEMES:
            named = scheme if scheme.isalpha() else "the address"
            later = " yet" if scheme.startswith(("sentinel", "cluster", "redis+", "valkey+")) else ""
            raise ConfigurationError(f"{named}: no such kind of store{later}; use one of {_KINDS}")
        self._embedded: Embedded | None = None
        if scheme == "embedded":
            host, path = urlsplit(url).netloc, unquote(urlsplit(url).path)
            if host:
                raise ConfigurationError(f"embedded://{host}: write three slashes before a folder: embedded:///{host}")
            self._embedded = Embedded(Path(path) if path else None)
        self._url = f"{_TWINS.get(scheme, scheme)}://{rest}"
        if self._embedded is None and not _is_readable(self._url):
            raise ConfigurationError(
                f"the {scheme}:// address cannot be read: see that its port and options are right, and that special "
                "characters of its password are percent-encoded (%2F for /, %3F for ?, %23 for #)"
            )

    def url(self) -> str:
        """Give the URL to connect to, once the embedded server, if it is that, runs."""
        return self._url if self._embedded is None else f"unix://{self._embedded.socket()}"

    def revive(self) -> str | None:
        """Start the embedded server again and give its URL; None where the server is not ours to start."""
        if self._embedded is None:
            return None
        self._embedded.revive()
        return self.url()

    def leave(self) -> None:
        """Stop using the embedded server; the last to leave stops it."""
        if self._embedded is not None:
            self._embedded.leave()

    def keyring(self, keys: Keys) -> Keyring:
        """Make the keyring: see `keyring_and_source`. Raises ConfigurationError."""
        return self.keyring_and_source(keys)[0]

    def keyring_and_source(self, keys: Keys = None) -> tuple[Keyring, str]:
        """Make the keyring from *keys*, the environment or the embedded store's own file; say from which.

        Raises ConfigurationError.
        """
        if isinstance(keys, Keyring):
            return keys, _ARGUMENT
        if isinstance(keys, Path):
            return read_key_file(keys), f"{_ARGUMENT}, file {keys}"
        if keys:
            return Keyring.parse(keys), _ARGUMENT
        found = environment_keyring()
        if found is not None:
            return found
        if self._embedded is not None:
            return Keyring.parse(self._embedded.keys()), f"file {self._embedded.folder / 'keys'}"
        raise ConfigurationError(
            "sessions are stored sealed, and there is no key to seal them with: set COATCHECK_KEYS, or pass keys=... "
            "Make a key with: python -c 'import coatcheck; print(coatcheck.new_key())'"
        )

    def __str__(self) -> str:
        """Show the address without user, password and options."""
        if self._embedded is not None:
            return f"embedded://{self._embedded.folder}"
        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rpartition('@')[2]}"


def _is_readable(url: str) -> bool:
    try:
        parse_url(url)
    except ValueError:
        return False
    return True


def environment_keyring() -> tuple[Keyring, str] | None:
    """Make the keyring that COATCHECK_KEYS or the file COATCHECK_KEYS_FILE gives, and say which; None without both.

    Raises ConfigurationError, also when both are set.
    """
    text, file = os.environ.get("COATCHECK_KEYS"), os.environ.get("COATCHECK_KEYS_FILE")
    if text and file:
        raise ConfigurationError("COATCHECK_KEYS and COATCHECK_KEYS_FILE are both set: unset one of them")
    if text:
        return Keyring.parse(text), "environment COATCHECK_KEYS"
    return (read_key_file(Path(file)), f"environment COATCHECK_KEYS_FILE, file {file}") if file else None


def prefix_or_default(prefix: str | None) -> str:
    """Give *prefix*, or COATCHECK_PREFIX, or "cc"."""
    return prefix or os.environ.get("COATCHECK_PREFIX") or "cc"
