"""The options of a store, from its URL, from keyword arguments and from the environment.

Ours:

    deadline          how long an operation may take with the store, all in all (250 ms; COATCHECK_DEADLINE). A
                      timedelta; in a URL and in the environment, seconds
    socket_timeout    how much of that one attempt may take, in seconds (half of the deadline)
    max_connections   to one server, of one process or event loop (64)
    sentinel_lease    for how long a primary is used that no majority of the sentinels has confirmed (3 s; 0: until it
                      fails). A timedelta, or seconds
    sentinel_...      what Sentinel is to be told otherwise: sentinel_username, sentinel_password,
                      sentinel_credential_provider, sentinel_ssl_...

All others are redis-py's, of a connection: ssl_ca_certs, ssl_certfile, ssl_keyfile, credential_provider, client_name...
"""

import inspect
import math
import os
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any, Final

import redis

from coatcheck.model.errors import ConfigurationError
from coatcheck.model.policy import SessionPolicy
from coatcheck.runtime.address import Address, Kind
from coatcheck.runtime.batch import longest_wait, time_for

_DEADLINE: Final = timedelta(milliseconds=250)
_MAX_CONNECTIONS: Final = 64
_SENTINEL: Final = "sentinel_"
_LEASE: Final = timedelta(seconds=3)
_SHORTEST_LEASE: Final = 0.5
_LONGEST_LEASE: Final = 60.0
_LOGIN: Final = frozenset({"username", "password", "credential_provider"})
_SET: Final[dict[str, Any]] = {"protocol": 2, "driver_info": None, "decode_responses": False}
_WITH_TLS: Final = {Kind.SINGLE: "rediss", Kind.SENTINEL: "sentinels", Kind.CLUSTER: "clusters"}
_TAKEN: Final = {
    "timeout": "the deadline covers waiting for a connection",
    "socket_connect_timeout": "the deadline covers connecting; socket_timeout says how much of it one attempt may take",
    "retry": "what is sent again, and when, is decided within the deadline",
    "retry_on_error": "what is sent again, and when, is decided within the deadline",
    "retry_on_timeout": "what is sent again, and when, is decided within the deadline",
    "health_check_interval": "a connection that has died is replaced within the deadline",
    "redis_connect_func": "how a connection begins is coatcheck's",
    "parser_class": "replies are read by coatcheck's",
    "protocol": "replies are read as RESP2",
    "decode_responses": "replies are read as bytes",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What was set.

    deadline, attempt, lease: seconds; lease 0: none. connection: redis-py's options of a connection; sentinel: of one
    to a sentinel. They hold secrets.
    """

    deadline: float
    attempt: float
    lease: float
    max_connections: int
    connection: dict[str, Any] = field(repr=False)
    sentinel: dict[str, Any] = field(repr=False)

    @classmethod
    def read(cls, address: Address, given: dict[str, Any]) -> "Settings":
        """Take the options *given*; those in the URL of *address* win. Raises ConfigurationError."""
        options = {**given, **address.options}
        for name, reason in _TAKEN.items():
            if name in options:
                raise ConfigurationError(f"{name} cannot be set: {reason}. Leave it out")
        if "deadline" not in options and (there := os.environ.get("COATCHECK_DEADLINE")):
            deadline = _seconds("COATCHECK_DEADLINE", there)
        else:
            deadline = _seconds("deadline", options.pop("deadline", _DEADLINE))
        attempt = _seconds("socket_timeout", options.pop("socket_timeout", None) or deadline / 2)
        max_connections = options.pop("max_connections", None) or _MAX_CONNECTIONS
        if not isinstance(max_connections, int) or max_connections < 1:
            raise ConfigurationError("max_connections must be a number of connections, at least 1")
        own = {name.removeprefix(_SENTINEL): options.pop(name) for name in list(options) if name.startswith(_SENTINEL)}
        if own and address.kind is not Kind.SENTINEL:
            raise ConfigurationError(f"{_SENTINEL}{next(iter(own))} is for a sentinel:// address; leave it out")
        lease = _lease(own.pop("lease", None))
        _refuse_unknown(address, options)
        _refuse_unknown(address, own, _SENTINEL)
        connection = {**options, **_SET}
        shared = {name: value for name, value in connection.items() if name not in _LOGIN and name != "db"}
        return cls(
            deadline=deadline,
            attempt=min(attempt, deadline),
            lease=lease,
            max_connections=max_connections,
            connection=connection,
            sentinel={**shared, **own},
        )

    def check(self, policy: SessionPolicy | None) -> None:
        """Raise ConfigurationError where *policy* asks to wait for longer than the deadline has time."""
        wait = policy.durability.timeout if policy and policy.durability else None
        if wait is not None and wait.total_seconds() > longest_wait(self.deadline):
            needed = math.ceil(time_for(wait.total_seconds()) * 1000)
            raise ConfigurationError(
                f"Durability(timeout={wait}) does not fit in {self.deadline * 1000:g} ms: set the deadline to "
                f"{needed} ms or more, or the timeout shorter"
            )


def _seconds(name: str, value: object) -> float:
    try:
        seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(f"{name} must be longer than nothing: a timedelta, or a number of seconds")
    return seconds


@cache
def _known_options(*, has_tls: bool, has_port: bool) -> frozenset[str]:
    """Name the options of redis-py's connections of that kind."""
    kind: type[Any] = redis.SSLConnection if has_tls else redis.Connection
    if not has_tls and not has_port:
        kind = redis.UnixDomainSocketConnection
    return frozenset(name for base in kind.__mro__ for name in inspect.signature(base).parameters)


def _refuse_unknown(address: Address, options: dict[str, Any], prefix: str = "") -> None:
    """Raise ConfigurationError for an option that redis-py's connections to *address* do not have."""
    has_port = bool(address.seeds and address.seeds[0].port)
    known = _known_options(has_tls=address.has_tls, has_port=has_port)
    for name in options:
        if name not in known and has_port and name in _known_options(has_tls=True, has_port=True):
            raise ConfigurationError(
                f"{prefix}{name} is for TLS, and {address} is without: "
                f"write {_WITH_TLS[address.kind]}://, or leave it out"
            )
        if name not in known:
            raise ConfigurationError(
                f"there is no option {prefix}{name} for {address}: see the list in docs/settings.md"
            )


def _lease(value: object) -> float:
    if value is None:
        value = _LEASE
    if value in {0, "0", timedelta(0)}:
        return 0.0
    try:
        seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = math.nan
    if not _SHORTEST_LEASE <= seconds <= _LONGEST_LEASE:
        raise ConfigurationError(
            f"{_SENTINEL}lease must be {_SHORTEST_LEASE:g} to {_LONGEST_LEASE:g} seconds, or 0: then a primary is used "
            "until it fails, also where it is cut off and another has taken over"
        )
    return seconds
