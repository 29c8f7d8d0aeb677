"""What the store's user of an application may do: the commands that coatcheck sends, or its scripts, on one prefix.

A test compares the list with what the sources send. HELLO and AUTH need no permission.
"""

from typing import Final

from coatcheck.engine.keys import Keys
from coatcheck.model.durability import Durability, Level, Write

_SENT: Final = (
    *("time", "mget", "pexpire", "evalsha", "script|load"),
    *("zscore", "zscan", "zrem", "xrange", "xdel", "xack"),
)
_LISTENS: Final = ("psubscribe", "ping")
_IN_SCRIPTS: Final = (
    *("get", "set", "del", "exists", "pttl"),
    *("zadd", "zcard", "zrange", "zrangebyscore", "zrem", "zremrangebyscore", "zscan"),
    *("publish", "xadd", "xautoclaim", "xgroup|create", "xrange", "xreadgroup", "xrevrange"),
)
_RESEALS: Final = ("scan",)
_NUMBERED: Final = ("select",)
_CLUSTERED: Final = ("cluster|slots", "asking")
_ON_REPLICAS: Final = ("wait",)
_ON_DISK: Final = ("waitaof",)
_NEAR: Final = ("client|tracking", "subscribe")


def access_rules(
    prefix: str,
    *,
    reseals: bool = False,
    numbered: bool = False,
    clustered: bool = False,
    durability: Durability | None = None,
    near_cache: bool = False,
) -> tuple[str, ...]:
    """Give the rules for ``ACL SETUSER`` of a user who needs nothing but the sessions of *prefix*.

    They begin from nothing, and leave the password to the caller. reseals: may also run `Operations.reseal`, which
    needs SCAN: that shows the names of all keys, other tenants' too. numbered: may also choose a database by number,
    which a URL does that ends in one. clustered: may also ask a Cluster which node has which slots. durability: may
    also wait as that asks; Redis before 7.2 does not know WAITAOF, and refuses the rule. near_cache: may also be told
    what is written: the names of the keys of this prefix, and whatever others ask to be told of.
    Raises ConfigurationError for a prefix that is none.
    """
    keys = Keys(prefix)
    asked_for = (_RESEALS if reseals else ()) + (_NUMBERED if numbered else ()) + (_CLUSTERED if clustered else ())
    asked_for += _NEAR if near_cache else ()
    if durability is not None:
        levels = {durability.level_of(write) for write in Write}
        asked_for += _ON_REPLICAS if Level.REPLICAS in levels else ()
        asked_for += _ON_DISK if any(level.needs_disk for level in levels) else ()
    commands = tuple(f"+{name}" for name in _SENT + _LISTENS + _IN_SCRIPTS + asked_for)
    # The brace belongs to the pattern: "shop" is not to touch the keys of "shop:eu". A pattern that is subscribed to
    # has to be allowed letter by letter.
    return ("resetkeys", f"~{prefix}:{{*", "resetchannels", f"&{keys.all_events}", "-@all", *commands)
