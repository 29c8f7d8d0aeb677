"""Where the store is, and with which keys: a URL, the environment, or the embedded server.

    embedded://                     a private Valkey, shared by this user's processes (extra `embedded`)
    embedded:///folder              the same in a folder of your choice
    redis://host:6379/0             TCP;   rediss:// with verified TLS;   unix:///path for a socket
    sentinel://h1:26379,h2/name/0   the primary that Sentinel knows by *name*;   sentinels:// with TLS
    cluster://h1:6379,h2            the Cluster that these nodes belong to;   clusters:// with TLS

Twins: valkey:// and valkeys:// for redis:// and rediss://; redis+sentinel://, rediss+cluster:// and the like for the
others. A user and password before an @ are the servers'; Sentinel's own are the options `sentinel_username` and
`sentinel_password`. What else follows `?`, and further keyword arguments: see `coatcheck.runtime.settings`.
"""

import os
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from redis.connection import parse_url

from coatcheck.model.errors import ConfigurationError
from coatcheck.model.keyring import Keyring
from coatcheck.runtime.embedded import Embedded
from coatcheck.runtime.key_files import read_key_file

Keys = Keyring | Path | str | Iterable[str] | None
"""A path is that of a key file (`coatcheck.runtime.key_files`)."""


class Kind(Enum):
    """How the servers of an address belong together."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class Node(NamedTuple):
    """A server: host and port, or the path of a unix socket and 0."""

    host: str
    port: int

    def __str__(self) -> str:
        """Show it as a URL does."""
        if not self.port:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_ARGUMENT: Final = "argument"
_PLAIN: Final = {"redis": False, "rediss": True, "valkey": False, "valkeys": True}
_SEVERAL: Final = {
    f"{name}{twin}": (kind, tls)
    for kind, name in ((Kind.SENTINEL, "sentinel"), (Kind.CLUSTER, "cluster"))
    for twin, tls in (("", False), ("s", True))
} | {f"{plain}+{kind.value}": (kind, tls) for plain, tls in _PLAIN.items() for kind in (Kind.SENTINEL, Kind.CLUSTER)}
_SHOWN: Final = (*_PLAIN, "unix", "sentinel", "sentinels", "cluster", "clusters", "embedded")
_KINDS: Final = ", ".join(f"{name}://" for name in _SHOWN)
_PORTS: Final = {Kind.SINGLE: 6379, Kind.SENTINEL: 26379, Kind.CLUSTER: 6379}
_HIGHEST_PORT: Final = 65_535


class Address:
    """Where the store is.

    kind: how its servers belong together. has_tls: whether they are spoken to over TLS. seeds: the servers, sentinels
    or nodes that the URL names (none: it is the embedded server). service: the name by which Sentinel knows the
    primary. options: what else the URL says, as redis-py's and our options.
    """

    __slots__ = ("_embedded", "_shown", "has_tls", "kind", "options", "seeds", "service")

    def __init__(self, url: str | None = None) -> None:
        """Read *url*, or COATCHECK_URL, or else mean the embedded store. Raises ConfigurationError."""
        url = url or os.environ.get("COATCHECK_URL") or "embedded://"
        scheme, separator, _ = url.partition("://")
        if not separator:
            raise ConfigurationError("the address has no scheme: write redis://host:port, or another of " + _KINDS)
        self._embedded: Embedded | None = None
        self.kind, self.has_tls, self.service = Kind.SINGLE, _PLAIN.get(scheme, False), ""
        self.options: dict[str, Any] = {}
        self.seeds: tuple[Node, ...] = ()
        if scheme == "embedded":
            host, path = _parts_of(url)
            if host:
                raise ConfigurationError(f"embedded://{host}: write three slashes before a folder: embedded:///{host}")
            self._embedded = Embedded(Path(path) if path else None)
            self._shown = f"embedded://{self._embedded.folder}"
        elif scheme in _SEVERAL:
            self.kind, self.has_tls = _SEVERAL[scheme]
            self._read_several(scheme, _split(scheme, url))
        elif scheme in _PLAIN or scheme == "unix":
            self._read_one(scheme, url)
        else:
            named = scheme if scheme.isalpha() else "the address"
            raise ConfigurationError(f"{named}: no such kind of store; use one of {_KINDS}")

    def _read_one(self, scheme: str, url: str) -> None:
        twin = "unix" if scheme == "unix" else "rediss" if self.has_tls else "redis"
        self.options = _options(scheme, twin + url[len(scheme) :])
        self.options.pop("connection_class", None)
        path = self.options.pop("path", None)
        host, port = self.options.pop("host", "localhost"), self.options.pop("port", _PORTS[self.kind])
        if scheme == "unix" and path is None:
            raise ConfigurationError(
                "unix://: write the path of the socket after three slashes: unix:///run/redis.sock"
            )
        self.seeds = (Node(path, 0),) if path else (Node(host, port),)
        parts = urlsplit(url)
        database = parts.path.removeprefix("/")
        if scheme != "unix" and database and not database.isdecimal():  # redis-py would take the first
            raise ConfigurationError(
                f"{scheme}://: after the host there is place for the number of a database only: {scheme}://host:6379/0"
            )
        self._shown = f"{twin}://{parts.netloc.rpartition('@')[2]}{parts.path.rpartition('@')[2]}"

    def _read_several(self, scheme: str, parts: SplitResult) -> None:
        """Read a URL that names several hosts: what surrounds these is read as for one."""
        login, at, hosts = parts.netloc.rpartition("@")
        self.seeds = tuple(_node(scheme, host, _PORTS[self.kind]) for host in hosts.split(","))
        service, slash, database = parts.path.removeprefix("/").partition("/")
        if self.kind is Kind.CLUSTER:
            if parts.path.strip("/0"):
                raise ConfigurationError(
                    f"{scheme}://: a Cluster has no services and no databases by number: nothing follows the hosts "
                    "but ?options"
                )
        elif not service:
            raise ConfigurationError(
                f"{scheme}://: say which primary is meant, by the name that Sentinel has for it: "
                f"{scheme}://host1:26379,host2:26379/name"
            )
        elif database and not database.isdecimal():
            raise ConfigurationError(
                f"{scheme}://: after the primary's name there is place for the number of a database only: "
                f"{scheme}://host1:26379,host2:26379/name/0"
            )
        self.service = unquote(service) if self.kind is Kind.SENTINEL else ""
        self.options = _options(scheme, f"redis://{login}{at}host/{database}?{parts.query}")
        for name in ("host", "port", "path"):
            self.options.pop(name, None)
        shown = f"/{service}{slash}{database}" if self.service else ""
        self._shown = f"{scheme}://{','.join(str(node) for node in self.seeds)}{shown}"

    @property
    def is_embedded(self) -> bool:
        """Whether it is the embedded server, which is ours to start."""
        return self._embedded is not None

    def join(self) -> Node:
        """Start or join the embedded server; give where it listens. Blocks; costs nothing once joined."""
        if self._embedded is None:
            raise RuntimeError("only the embedded server can be joined")
        return Node(self._embedded.socket(), 0)

    def revive(self) -> Node | None:
        """Start the embedded server again and say where it listens; None where the server is not ours to start."""
        return None if self._embedded is None else Node(self._embedded.revive(), 0)

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
        return self._shown


def _parts_of(url: str) -> tuple[str, str]:
    """Give host and path of an address of the embedded store; what is no address counts as a host."""
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that hold no IPv6 address
        return url.partition("://")[2], ""
    return parts.netloc, unquote(parts.path)


def _split(scheme: str, url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise _unreadable(scheme) from None


def _options(scheme: str, url: str) -> dict[str, Any]:
    """Read *url* as redis-py does, of which *scheme* is what the user wrote."""
    try:
        return dict(parse_url(url))
    except ValueError:
        raise _unreadable(scheme) from None


def _unreadable(scheme: str) -> ConfigurationError:
    return ConfigurationError(
        f"the {scheme}:// address cannot be read: see that its port and options are right, and that special "
        "characters of its password are percent-encoded (%2F for /, %3F for ?, %23 for #)"
    )


def _node(scheme: str, text: str, port: int) -> Node:
    """Read one of several hosts. What is wrong is not repeated: it may be part of a password."""
    host, colon, number = text.rpartition(":")
    if text.endswith("]") or not colon:
        host, number = text, str(port)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigurationError(
            f"{scheme}://: an IPv6 address is written in brackets: {scheme}://[2001:db8::1]:{port},[2001:db8::2]:{port}"
        )
    if not host:
        raise ConfigurationError(
            f"{scheme}://: write the hosts with commas between: {scheme}://host1:{port},host2:{port}"
        )
    if not number.isdecimal() or not 0 < int(number) <= _HIGHEST_PORT:
        raise _unreadable(scheme)
    return Node(unquote(host), int(number))


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
