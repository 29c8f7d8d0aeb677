"""One node of a local topology: its configuration, its command, and how to ask it."""

import secrets
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import redis
from redis.connection import Connection, SSLConnection

from coatcheck.runtime.local.settings import BUS_OFFSET, HOST, TopologySettings, milliseconds

REPLY_LIMIT: Final = 1.0
"""Seconds that a node has for an answer; a paused one has none."""

# Below 32768 no system hands out ports by itself: nobody takes the port of a killed node. The bus stays below it too.
_PORTS: Final = range(10_240, 22_000)
_LINES_SHOWN: Final = 8


class Node:
    """A node: a name that stays, whatever its role becomes."""

    def __init__(self, name: str, port: int, folder: Path, settings: TopologySettings) -> None:
        """Describe a node that keeps its files in *folder*. Touches nothing."""
        self.name: Final = name
        self.port: Final = port
        self.folder: Final = folder
        self.is_sentinel: Final = name.startswith("sentinel")
        self.is_paused = False
        self.is_expected = False
        """Whether its process should be there."""
        self._line: Connection | None = None  # kept, since making one for TLS reads all authorities of the system
        self._settings = settings

    @property
    def address(self) -> str:
        """The address for clients."""
        return f"{HOST}:{self.port}"

    @property
    def config(self) -> Path:
        """Where its configuration is; the server writes into it too."""
        return self.folder / "server.conf"

    @property
    def log(self) -> Path:
        """What the server said."""
        return self.folder / "server.log"

    def write_config(self, lines: Iterable[str]) -> None:
        """Make the folder and the configuration: what all have, then *lines*, then the settings' own."""
        further = (() if self.is_sentinel else self._settings.config, self._settings.node_config.get(self.name, ()))
        text = "\n".join((*self._common(), *lines, *(line for part in further for line in part), ""))
        self.folder.mkdir(mode=0o700)
        self.config.touch(mode=0o600)
        self.config.write_text(text, encoding="utf-8")

    def command(self) -> list[str]:
        """Give the words that start it."""
        words = [*self._settings.launchers.get(self.name, ()), self._settings.program(), str(self.config)]
        return [*words, "--sentinel"] if self.is_sentinel else words

    def ask(self, *words: object) -> Any:
        """Send one command; give the reply, strings decoded.

        Raises redis.RedisError (OSError too) when it refuses or does not answer within REPLY_LIMIT.
        """
        kept, self._line = self._line, None
        if kept is not None:
            try:
                return self._exchange(kept, words)
            except redis.ConnectionError:
                pass  # closed meanwhile: sentinels have servers do that in a failover
        return self._exchange(self._connection(), words)

    def hang_up(self) -> None:
        """Close the connection that `ask` keeps open."""
        if self._line is not None:
            self._line.disconnect()
            self._line = None

    def _exchange(self, line: Connection, words: tuple[object, ...]) -> Any:
        try:
            line.send_command(*words)
            reply = line.read_response()
        except redis.ResponseError:  # an answer too
            self._line = line
            raise
        except BaseException:
            line.disconnect()
            raise
        self._line = line
        return reply

    def _connection(self) -> Connection:
        options = self.options()
        return (SSLConnection if options.pop("ssl") else Connection)(**options, protocol=2, decode_responses=True)

    def info(self, section: str) -> dict[str, str] | None:
        """Give a section of INFO; None when it does not answer, or is loading its data."""
        try:
            text = self.ask("INFO", section)
        except (redis.RedisError, OSError):
            return None
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def options(self) -> dict[str, Any]:
        """Give the options of `redis.Redis` that lead to this node."""
        settings, tls = self._settings, self._settings.tls
        user, password = (
            (settings.sentinel_user, settings.sentinel_password)
            if self.is_sentinel
            else (settings.user, settings.password)
        )
        options: dict[str, Any] = {"host": HOST, "port": self.port, "ssl": tls is not None}
        options |= {"socket_timeout": REPLY_LIMIT, "socket_connect_timeout": REPLY_LIMIT}
        if password is not None:
            options |= {"username": user, "password": password}
        if tls is not None:
            options |= {"ssl_ca_certs": str(tls.authority)}
            options |= {"ssl_certfile": str(tls.certificate), "ssl_keyfile": str(tls.key)} if tls.clients else {}
        return options

    def last_words(self) -> list[str]:
        """Give the last lines of its log."""
        try:
            return self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES_SHOWN:]
        except OSError:
            return []

    def _common(self) -> Iterable[str]:
        tls = self._settings.tls
        yield f"port {0 if tls else self.port}"
        yield f"bind {HOST}"
        yield f"dir {self.folder}"
        yield 'logfile ""'
        if tls is not None:
            yield f"tls-port {self.port}"
            yield f"tls-cert-file {tls.certificate}"
            yield f"tls-key-file {tls.key}"
            yield f"tls-ca-cert-file {tls.authority}"
            yield f"tls-auth-clients {'yes' if tls.clients else 'no'}"
            yield "tls-replication yes"


def data_config(settings: TopologySettings) -> Iterable[str]:
    """Give the lines that every server which holds data has."""
    yield 'save ""'
    yield f"appendonly {'no' if settings.appendfsync is None else 'yes'}"
    yield f"appendfsync {settings.appendfsync or 'everysec'}"
    yield "maxmemory-policy noeviction"
    yield "repl-diskless-sync-delay 0"  # by default a primary waits 5 seconds for further replicas
    yield "repl-diskless-load on-empty-db"  # by default Valkey looks once a second whether a file has been received
    if settings.password is not None:
        yield from users(settings.user, settings.password)
        yield f"masteruser {settings.user}"
        yield f"masterauth {settings.password}"


def cluster_config(node: Node, settings: TopologySettings) -> Iterable[str]:
    """Give the lines that a node of a cluster has besides."""
    yield "cluster-enabled yes"
    # Not in its `dir`, whose disk a test may fill: a node that cannot write this file ends.
    yield f"cluster-config-file {node.folder / 'nodes.conf'}"
    yield f"cluster-node-timeout {milliseconds(settings.detection)}"
    if settings.tls is not None:
        yield "tls-cluster yes"


def users(user: str, password: str) -> Iterable[str]:
    """Give the lines that let *user*, and nobody else, do everything."""
    yield f"user {user} on >{password} ~* &* +@all"
    if user != "default":
        yield "user default off"


def free_ports(count: int) -> list[int]:
    """Choose ports that nobody listens on, with room for a cluster's bus. Another process may yet take one."""
    found: list[int] = []
    while len(found) < count:
        port = secrets.choice(_PORTS)
        if port not in found and is_free(port):
            found.append(port)
    return found


def is_free(port: int) -> bool:
    """Say whether nobody listens on *port*, nor where a cluster's bus of it would be."""
    for number in (port, port + BUS_OFFSET):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, number))
            except OSError:
                return False
    return True
