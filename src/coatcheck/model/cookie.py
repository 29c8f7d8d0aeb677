"""The session's cookie: how it is named, read, set and removed, and what caches may keep beside it.

Standards: RFC 6265bis (cookie prefixes, attributes), RFC 9111 (caching).
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from coatcheck.model.errors import ConfigurationError

_NAME_SHAPE: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII)
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_PREFIXES: Final = ("__host-", "__secure-", "__http-")


class SameSite(Enum):
    """When a browser sends the cookie with requests that other sites cause."""

    LAX = "Lax"
    STRICT = "Strict"
    NONE = "None"


@dataclass(frozen=True, slots=True, kw_only=True)
class CookiePolicy:
    """How the cookie is set: over https only, for this host only, unless said otherwise.

    name: without prefix; over https the cookie is ``__Host-<name>``, which browsers accept only with Secure,
        Path=/ and without Domain, so that neither plain http nor a sister domain can plant one.
    secure: False gives a plain name without Secure. For a site without https; never for one with it.
    development: allows the same for requests to http://localhost; the framework's debug switch sets it.
    same_site: when the cookie travels with requests caused by other sites.
    path, domain: where browsers send it; other than "/" and None take the ``__Host-`` prefix away, and so
        must be chosen together with host_prefix=False.
    """

    name: str = "session"
    secure: bool = True
    development: bool = False
    same_site: SameSite | Literal["Lax", "Strict", "None"] = SameSite.LAX
    path: str = "/"
    domain: str | None = None
    host_prefix: bool = True

    def __post_init__(self) -> None:
        """Refuse what browsers would refuse, or what contradicts itself."""
        try:
            object.__setattr__(self, "same_site", SameSite(self.same_site))
        except ValueError:
            raise ConfigurationError(f"same_site is 'Lax', 'Strict' or 'None', not {self.same_site!r}") from None
        if not _NAME_SHAPE.fullmatch(self.name):
            raise ConfigurationError(f"{self.name!r} cannot be the name of a cookie")
        if self.name.lower().startswith(_PREFIXES):  # browsers heed them in any case
            raise ConfigurationError(f"name the cookie {self.name.partition('-')[2]!r}: its prefix is set by itself")
        if self.secure and self.host_prefix and (self.path != "/" or self.domain is not None):
            raise ConfigurationError("a __Host- cookie has Path=/ and no Domain; choose host_prefix=False for others")
        if not self.secure and self.same_site is SameSite.NONE:
            raise ConfigurationError("browsers drop a SameSite=None cookie that is not Secure")
        for value in (self.path, self.domain or ""):
            if any(mark in value for mark in ";,\r\n\0") or not value.isascii():
                raise ConfigurationError(f"{value!r} cannot stand in a cookie")

    def is_secure(self, *, https: bool, host: str) -> bool:
        """Say whether a request's cookie is the secure one. host: the Host header, with or without a port."""
        if not self.secure:
            return False
        return https or not (self.development and _bare(host) in _LOOPBACK)

    def full_name(self, *, secure: bool) -> str:
        """Give the name with its prefix."""
        return f"__Host-{self.name}" if secure and self.host_prefix else self.name

    def read(self, header: str, *, secure: bool) -> tuple[str, ...]:
        """List the values that a Cookie header gives under this cookie's name: more than one is an attack."""
        wanted = self.full_name(secure=secure)
        if wanted not in header:
            return ()
        found = []
        for pair in header.split(";"):
            name, _, value = pair.strip(" \t").partition("=")
            if name == wanted:
                found.append(value)
        return tuple(found)

    def set(self, identifier: str, *, secure: bool, max_age: int | None) -> str:
        """Make the Set-Cookie header. max_age: seconds; None lets the browser forget it when it closes."""
        age = "" if max_age is None else f"; Max-Age={max_age}"
        return f"{self.full_name(secure=secure)}={identifier}{age}{self._attributes(secure=secure)}"

    def remove(self, *, secure: bool) -> str:
        """Make the Set-Cookie header that removes the cookie."""
        past = "; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0"
        return f"{self.full_name(secure=secure)}={past}{self._attributes(secure=secure)}"

    def _attributes(self, *, secure: bool) -> str:
        domain = "" if self.domain is None else f"; Domain={self.domain}"
        same_site = SameSite(self.same_site).value
        return f"{domain}; Path={self.path}; HttpOnly; SameSite={same_site}{'; Secure' if secure else ''}"


def merge_vary(vary: str | None) -> str:
    """Add Cookie to the value of a Vary header."""
    fields = [field.strip() for field in (vary or "").split(",") if field.strip()]
    if "*" in fields or "cookie" in (field.lower() for field in fields):
        return ", ".join(fields)
    return ", ".join([*fields, "Cookie"])


def merge_cache_control(cache_control: str | None, *, sets_cookie: bool) -> str:
    """Keep shared caches from storing the response; the application's own word stands unless a cookie is set."""
    if cache_control and not sets_cookie:
        return cache_control
    return "private, no-store"


def _bare(host: str) -> str:
    """Take the port and the brackets off a Host header."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
