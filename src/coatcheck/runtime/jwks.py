"""The keys of an OpenID Connect issuer (a JWK set, RFC 7517), given or fetched from where it publishes them."""

import logging
import time
from collections.abc import Mapping
from threading import Lock
from typing import Any, Final
from urllib.parse import urlsplit

import jwt

from coatcheck.model.errors import ConfigurationError, IssuerUnavailable

log = logging.getLogger("coatcheck")

_FETCH_WITHIN: Final = 5.0
_FETCHED_EVERY: Final = 300.0
_FETCHED_AT_MOST_EVERY: Final = 5.0
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class GivenKeys:
    """Keys that the application has given."""

    def __init__(self, jwk_set: Mapping[str, Any]) -> None:
        try:
            self._keys = _keys_in(jwk_set)
        except ValueError as error:
            raise ConfigurationError(f"keys: {error}") from None

    def find(self, kid: str | None) -> list[Mapping[str, Any]]:
        """Give the keys that may have signed a token."""
        return _matching(self._keys, kid)


class PublishedKeys:
    """Keys that the issuer publishes, as last fetched. Who names keys that do not exist cannot have them fetched often.

    If they cannot be fetched again, those that are known stay good: what can be done with them is to end sessions.
    """

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise ConfigurationError(
                f"jwks_uri is an https address: who can change what it gives can end sessions: {uri}"
            )
        self._client = jwt.PyJWKClient(uri, cache_jwk_set=False, timeout=_FETCH_WITHIN)
        self._lock = Lock()
        self._keys: tuple[Mapping[str, Any], ...] = ()
        self._tried_at = self._fetched_at = float("-inf")
        self._failed = False

    def find(self, kid: str | None) -> list[Mapping[str, Any]]:
        """Give the keys that may have signed a token. Raises IssuerUnavailable if that cannot be known."""
        found = _matching(self._keys, kid)
        if not found or self._is_due:
            with self._lock:
                found = _matching(self._keys, kid)
                if (not found or self._is_due) and time.monotonic() - self._tried_at >= _FETCHED_AT_MOST_EVERY:
                    self._fetch()
                    found = _matching(self._keys, kid)
        if not found and self._failed:
            raise IssuerUnavailable(f"the issuer's keys could not be fetched from {self._client.uri}; the log says why")
        return found

    @property
    def _is_due(self) -> bool:
        return time.monotonic() - self._fetched_at >= _FETCHED_EVERY

    def _fetch(self) -> None:
        try:
            self._keys, self._failed = _keys_in(self._client.fetch_data()), False
            self._fetched_at = time.monotonic()
        except (jwt.PyJWTError, OSError, ValueError) as error:
            self._failed = True
            log.warning("issuer_keys_not_fetched: %s", error, extra={"uri": self._client.uri})
        self._tried_at = time.monotonic()


def _keys_in(jwk_set: Any) -> tuple[Mapping[str, Any], ...]:
    """List the keys of a JWK set. Raises ValueError for what is none."""
    keys = jwk_set.get("keys") if isinstance(jwk_set, Mapping) else None
    if not isinstance(keys, list) or not all(isinstance(key, Mapping) for key in keys):
        raise ValueError('a JWK set is {"keys": [...]}')
    return tuple(keys)


def _matching(keys: tuple[Mapping[str, Any], ...], kid: str | None) -> list[Mapping[str, Any]]:
    """Choose the keys that a token names; for one that names none, the only key (OpenID Connect Core, 10.1)."""
    if kid is None:
        return list(keys) if len(keys) == 1 else []
    return [key for key in keys if key.get("kid") == kid]
