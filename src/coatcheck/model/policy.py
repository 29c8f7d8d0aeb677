"""How long sessions last, how many a subject may have, what is shown of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import cached_property

from coatcheck.model.caps import Caps
from coatcheck.model.client import ClientPolicy
from coatcheck.model.compartment import check_compartments
from coatcheck.model.compression import LARGEST_PAYLOAD
from coatcheck.model.device import check_limits
from coatcheck.model.durability import Durability
from coatcheck.model.errors import ConfigurationError
from coatcheck.model.near import NearCache
from coatcheck.model.outage import OutagePolicy
from coatcheck.model.sources import SourcePolicy

LONGEST = timedelta(days=3650)
_SHORTEST = timedelta(milliseconds=1)
_MOST_ACTIVITY = 10_000
_PARTS = (
    ("client", ClientPolicy),
    ("sources", SourcePolicy),
    ("durability", Durability),
    ("outage", OutagePolicy),
    ("near_cache", NearCache),
)


class AtLimit(Enum):
    """What a sign-in does when its subject already has as many sessions as the policy allows."""

    EVICT_OLDEST = "evict oldest"
    EVICT_IDLEST = "evict idlest"
    REFUSE = "refuse"


@dataclass(frozen=True, kw_only=True)
class SessionPolicy:
    """The rules of an application's sessions, checked when they are written down.

    idle_timeout: a session ends when it has not been used for this long. Use is recorded once in a
        tenth of it, so a session may end up to that tenth early for who used it in between.
    absolute_timeout: a session ends this long after it was created or bound, used or not.
    rotation_grace: for this long after a rotation the former secret is still honoured, so that
        requests already on their way are not refused.
    rotate_every: a web request that comes this long after the session last got a secret gives it a new one;
        None for never.
    rotating: names of attributes whose change gives the session a new secret ("roles"): the old one must not
        carry the new rights.
    carried: names of the attributes of an anonymous session that cross a sign-in, beside those that the request
        that signs in sets itself; None for all.
    persistent: True lets the browser keep the cookie until the absolute deadline; False makes it
        forget the cookie when it closes.
    subject_attribute: the attribute that says who is signed in. A save that finds it changed binds
        the session to its new value (as a string), one that finds it gone unbinds the session.
    limit: how many sessions a subject may have; None for any number.
    at_limit: what a sign-in beyond the limit does.
    device_limits: how many sessions a subject may have on a class of devices (``{"phone": 2, "desktop": 3}``), beside
        *limit*, which counts all of them; kept as a tuple of pairs. What a session's class is, `Session.device` says.
        At most 16 classes; one that is not named counts for *limit* only.
    listed: names of the attributes that ``list_for`` shows beside each session ("device", "address").
    compartments: the named parts that a session has beside its attributes, each with the time it lives unused
        (``{"cart": timedelta(minutes=10)}``); kept as a tuple of pairs. They are loaded with the session. To be carried
        across a sign-in, a compartment's name must be among *carried*, unless that is None.
    activity_kept: how many entries a session keeps of what was done in it, the latest.
    max_bytes: how much the attributes may take, names and encoded values together and before compression. A session
        travels whole with each request that uses it.
    max_attributes: how many attributes there may be.
    client: what is looked at of the client that uses a session, and what a change of it does; None for nothing.
    sources: how many sessions and unknown identifiers may come from one source; None for any number.
    outage: what web requests get while the store cannot be reached; None: always 503.
    durability: how durable each kind of write must be before it counts as done; None: in the primary's memory.
    near_cache: how sessions are kept in each process's memory, so that most loads do not ask the store; None: not at
        all.
    """

    idle_timeout: timedelta = timedelta(minutes=30)
    absolute_timeout: timedelta = timedelta(hours=12)
    rotation_grace: timedelta = timedelta(seconds=10)
    rotate_every: timedelta | None = None
    rotating: tuple[str, ...] = ()
    carried: tuple[str, ...] | None = None
    persistent: bool = True
    subject_attribute: str | None = None
    limit: int | None = None
    at_limit: AtLimit = AtLimit.EVICT_OLDEST
    device_limits: Mapping[str, int] | tuple[tuple[str, int], ...] = ()
    listed: tuple[str, ...] = ()
    compartments: Mapping[str, timedelta] | tuple[tuple[str, timedelta], ...] = ()
    activity_kept: int = 200
    max_bytes: int = 256 * 1024
    max_attributes: int = 1000
    client: ClientPolicy | None = None
    sources: SourcePolicy | None = None
    outage: OutagePolicy | None = None
    durability: Durability | None = None
    near_cache: NearCache | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        self._check_types()
        check_timeouts(self.idle_timeout, self.absolute_timeout)
        self._check_bounds()
        object.__setattr__(self, "compartments", tuple(dict(self.compartments).items()))
        check_compartments(self.declared_compartments, self.idle_timeout)
        object.__setattr__(self, "device_limits", tuple(dict(self.device_limits).items()))
        check_limits(self._limits_of_devices)

    def _check_types(self) -> None:
        for name in ("idle_timeout", "absolute_timeout", "rotation_grace"):
            if not isinstance(getattr(self, name), timedelta):
                raise ConfigurationError(f"{name} is a timedelta, not {getattr(self, name)!r}")
        if type(self.limit) not in {int, type(None)}:
            raise ConfigurationError(f"limit is a whole number, or None for no limit, not {self.limit!r}")
        if not isinstance(self.subject_attribute, str | None):
            raise ConfigurationError(f"subject_attribute is the name of an attribute, not {self.subject_attribute!r}")
        for name, kind in _PARTS:
            if not isinstance(getattr(self, name), kind | None):
                raise ConfigurationError(f"{name} is a {kind.__name__}, or None, not {getattr(self, name)!r}")
        if not isinstance(self.at_limit, AtLimit):
            raise ConfigurationError(f"at_limit is a member of AtLimit, not {self.at_limit!r}")
        for field, names in (("listed", self.listed), ("rotating", self.rotating), ("carried", self.carried or ())):
            if not isinstance(names, tuple):
                raise ConfigurationError(f"{field} is a tuple of attribute names, not {names!r}")

    def _check_bounds(self) -> None:
        if not timedelta(0) <= self.rotation_grace <= timedelta(minutes=5):
            raise ConfigurationError("rotation_grace must lie between 0 and 5 minutes")
        if self.limit is not None and self.limit < 1:
            raise ConfigurationError("limit must be at least 1, or None for no limit")
        if self.rotate_every is not None and self.rotate_every <= self.rotation_grace:
            raise ConfigurationError("rotate_every must be longer than rotation_grace")
        if not 1 <= self.activity_kept <= _MOST_ACTIVITY:
            raise ConfigurationError(f"activity_kept must lie between 1 and {_MOST_ACTIVITY}")
        if not 1 <= self.max_bytes <= LARGEST_PAYLOAD:
            raise ConfigurationError(f"max_bytes must lie between 1 and {LARGEST_PAYLOAD}")
        if self.max_attributes < 1:
            raise ConfigurationError("max_attributes must be at least 1")

    @property
    def declared_compartments(self) -> tuple[tuple[str, timedelta], ...]:
        """The names of the compartments and how long each lives unused."""
        return self.compartments if isinstance(self.compartments, tuple) else tuple(self.compartments.items())

    def limit_of(self, device: str | None) -> int:
        """Give how many sessions a subject may have on devices of the class *device*; 0: any number."""
        return next((limit for name, limit in self._limits_of_devices if name == device), 0)

    @property
    def _limits_of_devices(self) -> tuple[tuple[str, int], ...]:
        return self.device_limits if isinstance(self.device_limits, tuple) else tuple(self.device_limits.items())

    @cached_property
    def caps(self) -> Caps:
        """What a session may hold at most."""
        return Caps(self.max_bytes, self.max_attributes)


def check_timeouts(idle: timedelta, absolute: timedelta) -> None:
    """Raise ConfigurationError unless 1 ms <= idle <= absolute <= 3650 days."""
    if not _SHORTEST <= idle <= absolute <= LONGEST:
        raise ConfigurationError(
            f"need 1 ms <= idle_timeout <= absolute_timeout <= {LONGEST.days} days, not {idle} and {absolute}"
        )


def milliseconds(duration: timedelta) -> int:
    """Give *duration* in whole milliseconds, as it goes over the wire."""
    return duration // _SHORTEST
