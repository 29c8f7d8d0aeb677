"""Tokens against cross-site request forgery, and what a browser says of where a request comes from.

A token is an HMAC-SHA-256, under a key derived for this alone, of the digest of the session's secret (of its first
8 bytes, which is what a record remembers of former secrets). Nothing is stored for it, it is of no use in another
session, and it changes with the secret. Each time it is given out it is masked anew, so that compressed pages do
not give it away (BREACH):

    token     base64url without padding: mask (32), HMAC xor mask (32)
"""

import hmac
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlsplit

from coatcheck.model.errors import ConfigurationError, CsrfRefused
from coatcheck.model.keyring import Key, expand

LARGEST_FORM: Final = 1024 * 1024
"""Bytes at the beginning of a form among which its token must stand, where an adapter has to look for it itself."""

_BOUND_BYTES: Final = 8
_MAC_BYTES: Final = 32
_TOKEN_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]{86}", re.ASCII)
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_ORIGIN_SHAPE: Final = re.compile(r"https?://[a-z0-9.:\[\]-]+", re.ASCII)
_BOUNDARY: Final = re.compile(r'boundary=(?:"([^"]+)"|([^;\s]+))', re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class CsrfPolicy:
    """Which requests need a token, and where it is looked for. For CSRF in adapters of frameworks that have none.

    header, field: where a request carries the token: a header, or else a field of its form.
    exempt: path prefixes ("/webhooks") where none is asked for: of callers that bring no cookie.
    trusted_origins: further origins ("https://www.example.org") whose pages may send requests, with a token.
    """

    header: str = "X-CSRF-Token"
    field: str = "csrf_token"
    exempt: tuple[str, ...] = ()
    trusted_origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.header) or not re.fullmatch(r"[A-Za-z0-9_.-]+", self.field):
            raise ConfigurationError("the header and the field of CSRF tokens are plain names")
        for field, values in (("exempt", self.exempt), ("trusted_origins", self.trusted_origins)):
            if not isinstance(values, tuple):
                raise ConfigurationError(f"{field} is a tuple, not {values!r}")
        if not all(re.fullmatch("/.*[^/].*", path) for path in self.exempt):
            raise ConfigurationError(f"an exempt path is like /webhooks; / would exempt everything: {self.exempt!r}")
        if not all(_ORIGIN_SHAPE.fullmatch(origin) for origin in self.trusted_origins):
            raise ConfigurationError(f"a trusted origin is like https://www.example.org, not {self.trusted_origins!r}")

    def applies_to(self, method: str, path: str) -> bool:
        """Say whether a request needs a token: one that may change something, outside the exempt paths."""
        if method in _SAFE_METHODS:
            return False
        return not any(path == prefix or path.startswith(f"{prefix.rstrip('/')}/") for prefix in self.exempt)

    def is_own(self, header: Callable[[str], str | None]) -> bool:
        """Say whether the browser vouches that a page of this origin, or a trusted one, made the request.

        False where it does not say. It says so in Sec-Fetch-Site, older ones in Origin, whose host is compared with
        Host (the scheme is often a proxy's secret). header: gives a request header or None.
        Raises CsrfRefused for what comes from elsewhere, subdomains included.
        """
        site, origin = header("Sec-Fetch-Site"), header("Origin")
        if origin is not None and origin in self.trusted_origins:
            return True
        if site is not None:
            own, known = site == "same-origin", site in {"same-origin", "none"}
        elif origin is not None:
            own = known = _host(origin) == (header("Host") or "").lower() != ""
        else:
            return False
        if not known:
            raise CsrfRefused("the request comes from a page of another origin")
        return own


def make_token(key: Key, digest: bytes) -> str:
    """Make a token for the secret with this *digest*: another one each time."""
    mask = secrets.token_bytes(_MAC_BYTES)
    return urlsafe_b64encode(mask + _xor(mask, _mac(key, digest)))[:-2].decode()


def is_token_of(token: str, keys: Iterable[Key], digests: Iterable[bytes]) -> bool:
    """Say whether *token* was made with one of *keys* for one of *digests* (or their first 8 bytes).

    All of them are compared, each in constant time.
    """
    if not _TOKEN_SHAPE.fullmatch(token):
        return False
    raw, candidates = urlsafe_b64decode(token + "=="), list(digests)
    mac = _xor(raw[:_MAC_BYTES], raw[_MAC_BYTES:])
    found = [hmac.compare_digest(mac, _mac(key, digest)) for key in keys for digest in candidates]
    return any(found)


def token_in_form(content_type: str, body: bytes, field: str) -> str | None:
    """Find the *field* of a form in the (beginning of the) *body* of a request; None if it is not there.

    It reads no better than it must: a token that is found proves by itself that a page of the session had it.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return parse_qs(body.decode("latin-1")).get(field, [None])[0]
    boundary = _BOUNDARY.search(content_type)
    if kind != "multipart/form-data" or boundary is None:
        return None
    delimiter = f"\r\n--{boundary[1] or boundary[2]}".encode("latin-1", "replace")  # as servers decode headers
    name = re.escape(field.encode())
    wanted = re.compile(rb'(?im)^content-disposition:[^\r\n]*\bname="?%b"?(?:;|\r|$)' % name)
    for part in (b"\r\n" + body).split(delimiter)[1:]:
        head, _, content = part.partition(b"\r\n\r\n")
        if wanted.search(head):
            return content.decode("latin-1")
    return None


def _host(origin: str) -> str:
    """Give the host of an Origin header, in lower case; "" for what is no origin."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # brackets that hold no IPv6 address
        return ""


def _mac(key: Key, digest: bytes) -> bytes:
    return hmac.digest(expand(key.master, b"coatcheck csrf 1"), digest[:_BOUND_BYTES], "sha256")


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
