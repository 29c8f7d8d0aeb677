"""What redis-py's errors mean, in our words. They are translated here, once."""

import re
import ssl
from collections.abc import Iterator
from typing import Final

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    OutOfMemoryError,
    RedisError,
)
from redis.exceptions import (
    ConnectionError as LostConnection,
)
from redis.exceptions import (
    TimeoutError as NoAnswer,
)

from coatcheck.model.errors import ConfigurationError, SessionError, StoreUnavailable
from coatcheck.runtime.address import Address

FOREIGN: Final = (RedisError, OSError)
"""What redis-py raises."""

_DENIED_IN_SCRIPT: Final = re.compile(
    r"(?:Error running script \(call to \S+: @user_script:\d+: @user_script: \d+: )?"  # Redis before 7
    r"(?:ACL failure in script|The user executing the script can't)"  # Valkey; Redis
)
_IN_SCRIPT: Final = re.compile(r"^(?:ERR )?Error running script.*?-([A-Z]+) ", re.DOTALL)  # before Redis 7
_CODE: Final = re.compile(r"^([A-Z]+)\b")
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"})  # OpenSSL's, which vary by version
_ADVICE: Final = {
    "OOM": "has no memory left for writes: raise its maxmemory, or end sessions",
    "MISCONF": "refuses writes because it cannot write to its disk: see its log and the space left",
    "NOREPLICAS": "refuses writes because too few replicas follow it (min-replicas-to-write): see that they run",
    "READONLY": "is a replica that was to be the primary: a failover may be under way",
    "CLUSTERDOWN": "is a cluster that does not serve all its slots: see that every shard has a primary",
    "CROSSSLOT": "refuses keys of several slots in one command",
}


class NotPrimary(LostConnection):
    """A server that should be the primary says that it is none."""


class NoHandshake(NoAnswer):
    """Nothing came of an attempt to speak TLS, in the time that there was: no connection, or no TLS behind it."""


class Interrupted(LostConnection):
    """A connection that many calls share was lost, and this was one of them."""


class Busy(Exception):
    """All connections were in use for as long as there was time to wait."""


class Overloaded(Busy):
    """A connection that many calls share has as much to do as it may have: this call was refused, and not sent."""


def code_of(error: BaseException) -> str:
    """Give the first word of what the server replied ("OOM", "MOVED"...), also where a script met it; "" if none."""
    if status := getattr(error, "status_code", None):
        return str(status)
    text = str(error)
    found = _IN_SCRIPT.search(text) or _CODE.search(text)
    return found[1] if found else ""


def is_refusal(error: BaseException) -> bool:
    """Say whether the server refuses the credentials; asyncio's redis-py wraps that in a lost connection."""
    return any(isinstance(reason, AuthenticationError | AuthorizationError) for reason in (error, error.__cause__))


def is_refused(error: BaseException) -> bool:
    """Say whether nobody listens there: the host answers, and says so."""
    return any(isinstance(reason, ConnectionRefusedError) for reason in _reasons(error))


def is_untrusted(error: BaseException) -> bool:
    """Say whether the server's certificate was refused."""
    return any(isinstance(reason, ssl.SSLCertVerificationError) for reason in _reasons(error))


def _is_plain(error: BaseException) -> bool:
    """Say whether what came back from the server was no TLS."""
    return any(isinstance(reason, ssl.SSLError) and reason.reason in _NO_TLS for reason in _reasons(error))


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """Give *error*, and what lies behind it."""
    reason: BaseException | None = error
    while reason is not None:
        yield reason
        reason = reason.__cause__ or reason.__context__


def translated(error: BaseException, address: Address) -> SessionError:
    """Say in our words what *error* of redis-py means."""
    if is_refusal(error):
        return ConfigurationError(f"{address} refuses the user or the password: {error}")
    if setting := _setting_wrong(error):
        return ConfigurationError(f"{address} {setting}")
    if is_untrusted(error):
        return StoreUnavailable(
            f"{address} cannot be reached: its certificate is refused: {error} "
            "See that ssl_ca_certs names the authority that has signed it, that it names the host, and its dates"
        )
    if isinstance(error, LostConnection | NoAnswer | OSError | Busy):
        return StoreUnavailable(f"{address} {_silence(error)}")
    if advice := _ADVICE.get("OOM" if isinstance(error, OutOfMemoryError) else code_of(error)):
        return StoreUnavailable(f"{address} {advice} ({error})")
    return StoreUnavailable(f"{address} refused a command: {error}")


def _silence(error: BaseException) -> str:
    """Say why there is no answer."""
    if isinstance(error, Overloaded):
        return f"was not asked: {error} already. See why the server is slow, or serve fewer requests at once"
    hint = " See that it speaks TLS there" if _is_plain(error) else ""
    return f"cannot be reached: {error}{hint}"


def _setting_wrong(error: BaseException) -> str:
    """Say what the server, or what is asked of it, lacks for good; "" if it is nothing of that kind."""
    text = str(error)
    if isinstance(error, NoPermissionError) or _DENIED_IN_SCRIPT.match(text):
        return f"does not let this user do what sessions need: {text}"
    if "DB index" in text or "SELECT is not allowed" in text:
        return (
            f"has no database of the number that its URL asks for: {text}. "
            "See `databases` in the server's configuration; a Cluster has no databases by number"
        )
    if "WAITAOF" in text:
        return (
            f"cannot say when a write is on disk, which the policy's durability asks for: {text} "
            "It takes Redis 7.2 or Valkey, and appendonly yes; or ask for Level.REPLICAS, or Level.MEMORY"
        )
    return ""
