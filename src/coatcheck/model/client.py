"""The client of a session: which browser on which system it is, and from where; and what a change of that means.

Both are coarse on purpose. A user agent counts by the families of browser and system, so that an update is no change;
an address counts by its network, and nothing more of it is kept.
"""

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, Self

from coatcheck.model.errors import ConfigurationError
from coatcheck.model.extras import installation

_LONGEST_HEADER: Final = 512
_LONGEST_NAME: Final = 32
_UNKNOWN: Final = "unknown"


class OnChange(Enum):
    """What to do when a request of a session comes from another client than the session knows."""

    OBSERVE = "observe"
    """Tell of it (an event), and know the new client from then on."""
    STEP_UP = "step up"
    """The same, and the subject is not fresh any more until it authenticates anew."""
    END = "end"
    """End the session; the request goes on with a new one."""


_WEAKEST_FIRST: Final = (OnChange.OBSERVE, OnChange.STEP_UP, OnChange.END)


@dataclass(frozen=True, slots=True)
class Client:
    """The client of a session, as far as its policy looks.

    user_agent: the families of browser and system ("Firefox on Linux"; "unknown" where the header is missing or says
    nothing). address: its network ("192.0.2.0/24"). None: not looked at, or, of an address, not known.
    """

    user_agent: str | None = None
    address: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `text` has written."""
        user_agent, _, address = text.partition("\n")
        return cls(user_agent or None, address or None)

    @property
    def text(self) -> str:
        """It as a record keeps it; "" for one of which nothing is known."""
        return f"{self.user_agent or ''}\n{self.address or ''}" if self.user_agent or self.address else ""


NO_CLIENT: Final = Client()


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a request's client compares with the one that the session knows.

    client: what to know from now on. reaction: what the change calls for; None where nothing has changed.
    why: what has changed, for an event: no addresses, for events are not sealed.
    """

    client: Client
    reaction: OnChange | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPolicy:
    """What is looked at of a session's client, and what a change of it does.

    user_agent, address: what a change of that part does; None: it is not looked at. Where both have changed the
        stricter counts. The user agent takes ``pip install "coatcheck[client]"``.
    ipv4_prefix, ipv6_prefix: how many bits of an address count, and are kept: at most 24 and 64.
    """

    user_agent: OnChange | None = OnChange.OBSERVE
    address: OnChange | None = OnChange.OBSERVE
    ipv4_prefix: int = 24
    ipv6_prefix: int = 48

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, and a user agent that cannot be told."""
        for name in ("user_agent", "address"):
            if not isinstance(getattr(self, name), OnChange | None):
                raise ConfigurationError(f"{name} is a member of OnChange or None, not {getattr(self, name)!r}")
        if self.user_agent is None and self.address is None:
            raise ConfigurationError("a ClientPolicy looks at something: give user_agent or address, or client=None")
        for name, most in (("ipv4_prefix", 24), ("ipv6_prefix", 64)):
            bits = getattr(self, name)
            if type(bits) is not int or not 1 <= bits <= most:
                raise ConfigurationError(f"{name} is a number of bits from 1 to {most}, not {bits!r}")
        if self.user_agent is not None:
            family_of("")  # also has the first request not wait until the patterns are compiled

    def look(self, user_agent: str | None, address: str | None) -> Client:
        """Give the client of a request with this User-Agent header (None: it has none) from this address."""
        return Client(
            None if self.user_agent is None else family_of((user_agent or "")[:_LONGEST_HEADER]),
            None if self.address is None else network_of(address, self.ipv4_prefix, self.ipv6_prefix),
        )

    def compare(self, known: Client, seen: Client) -> Comparison:
        """Compare the client that a request was *seen* with to the one that is *known*.

        What is not known yet is taken on without a word. What is known has changed also where the request does not
        say it: to leave a header out must not help anybody. What is not looked at stays as it is.
        """
        changed, reactions = [], []
        user_agent, address = known.user_agent, known.address
        if self.user_agent is not None and user_agent != seen.user_agent:
            if user_agent is not None:
                changed.append(f"user agent: {user_agent} -> {seen.user_agent}")
                reactions.append(self.user_agent)
            user_agent = seen.user_agent
        if self.address is not None and not _is_same(address, seen.address):
            if address is not None:
                changed.append("address")
                reactions.append(self.address)
            address = seen.address
        reaction = max(reactions, key=_WEAKEST_FIRST.index, default=None)
        return Comparison(Client(user_agent, address), reaction, "; ".join(changed))

    def __str__(self) -> str:
        """Give it in a line."""
        looks = [("user agent", self.user_agent), (f"address (/{self.ipv4_prefix}, /{self.ipv6_prefix})", self.address)]
        return ", ".join(f"{what}: {reaction.value}" for what, reaction in looks if reaction is not None)


@lru_cache(maxsize=1024)
def family_of(user_agent: str) -> str:
    """Name the families of browser and system that a User-Agent header tells: "Firefox on Linux".

    Raises ConfigurationError where the library for it is missing.
    """
    try:
        import ua_parser  # noqa: PLC0415  an extra
    except ModuleNotFoundError:
        raise ConfigurationError(
            f"to look at user agents takes ua-parser: {installation('client')}, or ClientPolicy(user_agent=None)"
        ) from None
    browser, system = (_name(parse(user_agent)) for parse in (ua_parser.parse_user_agent, ua_parser.parse_os))
    if system == _UNKNOWN:
        return browser
    return f"{browser} on {system}"


def network_of(address: str | None, ipv4_prefix: int, ipv6_prefix: int) -> str | None:
    """Give the network that *address* lies in; None for what is no IP address.

    An IPv4 address that is written as an IPv6 one (::ffff:192.0.2.7) is an IPv4 address.
    """
    try:
        found = ip_address(address or "")
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is None:
            return str(IPv6Network((int(found), ipv6_prefix), strict=False))
        found = found.ipv4_mapped
    return str(IPv4Network((int(found), ipv4_prefix), strict=False))


def _is_same(known: str | None, seen: str | None) -> bool:
    """Say whether two networks are the same, as far as both say: a policy's prefix may have been changed."""
    if known == seen or known is None or seen is None:
        return known == seen
    return ip_network(known).overlaps(ip_network(seen))


def _name(found: Any) -> str:
    """Give a family as one short line: some patterns take it from the header, which anybody may write."""
    family = found.family if found is not None else ""
    return "".join(mark for mark in family if mark.isprintable())[:_LONGEST_NAME].strip() or _UNKNOWN
