"""OpenID Connect Back-Channel Logout 1.0: an issuer says that somebody has signed out there, and sessions here end.

    from coatcheck.oidc import LogoutVerifier, backchannel_logout

    verifier = LogoutVerifier("https://id.example.org", "my-client", jwks_uri="https://id.example.org/jwks")

    @app.post("/backchannel-logout")                                # Flask; docs/lifecycle.md has the others
    def end_sessions():
        answer = backchannel_logout(sessions_of(), verifier, request.form)
        return answer.body, answer.status, answer.headers

At the sign-in ``session.issuer_session = coatcheck.IssuerSession.of(claims)`` links the session to the issuer's.
"""

import asyncio
import json
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from urllib.parse import parse_qs

from coatcheck.model.extras import Extra

with Extra("oidc", "jwt"):
    import jwt
    from jwt.exceptions import InvalidJTIError, InvalidSubjectError

from coatcheck.model.errors import ConfigurationError, IssuerUnavailable, LogoutTokenInvalid, SessionError, StoreError
from coatcheck.model.issued import IssuerSession
from coatcheck.runtime.aio import AsyncSessions
from coatcheck.runtime.jwks import GivenKeys, PublishedKeys
from coatcheck.runtime.making import demand
from coatcheck.runtime.sync import Sessions

__all__ = [
    "Answer",
    "IssuerUnavailable",
    "LogoutTokenInvalid",
    "LogoutVerifier",
    "abackchannel_logout",
    "backchannel_logout",
]

Form = Mapping[str, Any] | bytes

log = logging.getLogger("coatcheck")

EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
ASYMMETRIC: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")

_LARGEST_TOKEN: Final = 16 * 1024
_TYPED: Final = ("logout+jwt",)
_TYPED_LOOSELY: Final = ("logout+jwt", "jwt", "")
_WHY: Final = {
    jwt.InvalidSignatureError: "its signature is not the issuer's",
    jwt.InvalidIssuerError: "it is of another issuer (iss)",
    jwt.InvalidAudienceError: "it is for another client (aud)",
    jwt.InvalidIssuedAtError: "when it was issued (iat) is not a number",
    InvalidSubjectError: "its subject (sub) is not text",
    InvalidJTIError: "its jti is not text",
    jwt.ImmatureSignatureError: "it was issued in the future (iat, nbf): compare the clocks",
    jwt.ExpiredSignatureError: "it has expired (exp)",
}


class LogoutVerifier:
    """Verifies the logout tokens of one issuer for one client, signed, not encrypted ones.

    Make one when the application starts, and share it among threads.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        *,
        jwks_uri: str | None = None,
        keys: Mapping[str, Any] | None = None,
        algorithms: Iterable[str] = ASYMMETRIC,
        leeway: timedelta = timedelta(seconds=30),
        max_age: timedelta = timedelta(minutes=5),
        strict: bool = False,
    ) -> None:
        """Verify tokens of *issuer* (iss) for *client_id* (aud) with the keys at *jwks_uri*, or with *keys*, a JWK set.

        algorithms: those that the issuer signs with; asymmetric ones only.
        leeway: how far the clocks may be apart. max_age: of a token that does not say when it expires.
        strict: refuse tokens without typ "logout+jwt", exp and jti, as ASVS 10.5.5 and the specification (since 2023)
            have it; not every issuer sends them.
        Raises ConfigurationError.
        """
        if not issuer or not client_id:
            raise ConfigurationError("a LogoutVerifier needs the issuer (iss) and the client_id (aud)")
        if (jwks_uri is None) == (keys is None):
            raise ConfigurationError("give a LogoutVerifier either jwks_uri or keys")
        self._algorithms = tuple(algorithms)
        if unknown := set(self._algorithms) - set(ASYMMETRIC):
            raise ConfigurationError(f"logout tokens are signed with {', '.join(ASYMMETRIC)}, not {sorted(unknown)}")
        if leeway < timedelta(0) or max_age <= timedelta(0):
            raise ConfigurationError("leeway must not be negative, and max_age must be positive")
        self._issuer, self._client_id = issuer, client_id
        self._keys = PublishedKeys(jwks_uri) if jwks_uri is not None else GivenKeys(keys or {})
        self._leeway, self._max_age, self._strict = leeway, max_age, strict

    def verify(self, logout_token: str) -> IssuerSession:
        """Give what has ended at the issuer, for `Operations.revoke_issued`. Raises LogoutTokenInvalid.

        It fetches the issuer's keys when it has none, every 5 minutes, and for a key that it does not know, at most
        once in 5 seconds; that blocks, for 5 seconds at the longest. Raises IssuerUnavailable where it cannot.

        It remembers no tokens: one that is sent again ends nothing that a newer sign-in has begun.
        """
        header = self._read_header(logout_token)
        claims = self._read_claims(logout_token, header["alg"], self._keys.find(header.get("kid")))
        try:
            issued = IssuerSession.of(claims)
        except (TypeError, ValueError) as error:
            raise LogoutTokenInvalid(str(error)) from None
        self._check_event(claims, issued.issued_at or 0)
        return issued

    async def averify(self, logout_token: str) -> IssuerSession:
        """Do as `verify`, in a thread: the event loop is not blocked."""
        return await asyncio.to_thread(self.verify, logout_token)

    def _read_header(self, token: str) -> dict[str, Any]:
        if len(token) > _LARGEST_TOKEN:
            raise LogoutTokenInvalid(f"it is longer than {_LARGEST_TOKEN} characters")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.InvalidTokenError, UnicodeEncodeError):
            raise LogoutTokenInvalid("it is not a signed JWT") from None
        if header.get("alg") not in self._algorithms:
            raise LogoutTokenInvalid("its algorithm (alg) is not among the issuer's")
        kind = str(header.get("typ", "")).lower().removeprefix("application/")
        if kind not in (_TYPED if self._strict else _TYPED_LOOSELY):
            raise LogoutTokenInvalid("its type (typ) is another one's")
        return header

    def _read_claims(self, token: str, algorithm: str, candidates: list[Mapping[str, Any]]) -> dict[str, Any]:
        """Give the claims, with a signature, issuer, audience and times that are good."""
        required = ["iss", "aud", "iat", "events", *(("exp", "jti") if self._strict else ())]
        why = "no key of the issuer's fits it (kid, alg)"
        for raw in candidates:
            if raw.get("use", "sig") != "sig" or raw.get("alg", algorithm) != algorithm:
                continue
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    jwt.PyJWK(dict(raw), algorithm),
                    algorithms=[algorithm],
                    issuer=self._issuer,
                    audience=self._client_id,
                    leeway=self._leeway,
                    options={"require": required, "enforce_minimum_key_length": True},
                )
            except jwt.InvalidSignatureError as error:
                why = _WHY[type(error)]
            except jwt.MissingRequiredClaimError as error:
                raise LogoutTokenInvalid(f"it has no {error.claim}") from None
            except jwt.InvalidTokenError as error:
                raise LogoutTokenInvalid(_WHY.get(type(error), "it is not well formed")) from None
            except jwt.PyJWTError:  # the key is of another kind, too short, or none
                continue
            else:
                return claims
        raise LogoutTokenInvalid(why)

    def _check_event(self, claims: Mapping[str, Any], issued_at: int) -> None:
        """Refuse what is no logout token, or none any more."""
        events = claims["events"]
        if not isinstance(events, dict) or not isinstance(events.get(EVENT), dict):
            raise LogoutTokenInvalid("it tells of no back-channel logout (events)")
        if "nonce" in claims:
            raise LogoutTokenInvalid("it has a nonce, as an ID token has")
        if "exp" not in claims and time.time() > issued_at + (self._max_age + self._leeway).total_seconds():
            raise LogoutTokenInvalid("it is too old (iat), and does not say when it expires (exp)")


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to a logout request: a status, headers and a body."""

    status: int
    headers: dict[str, str] = field(default_factory=lambda: {"Cache-Control": "no-store"})
    body: bytes = b""


def backchannel_logout(sessions: Sessions, verifier: LogoutVerifier, form: Form) -> Answer:
    """Carry out the logout request with this *form*, or with the body that holds it; say how to answer.

    200: done. 400: the request was refused; the body, JSON, and the log say why. 503: the sessions could not be ended,
    or the issuer's keys not be fetched; the issuer may try again.
    Raises ConfigurationError for `AsyncSessions`, and nothing else.
    """
    demand(Sessions, sessions, to="backchannel_logout")
    try:
        sessions.revoke_issued(verifier.verify(_token_in(form)))
    except (LogoutTokenInvalid, IssuerUnavailable, StoreError) as error:
        return _refusal(error)
    return Answer(200)


async def abackchannel_logout(sessions: AsyncSessions, verifier: LogoutVerifier, form: Form) -> Answer:
    """Do as `backchannel_logout`, on an event loop, with `AsyncSessions`."""
    demand(AsyncSessions, sessions, to="abackchannel_logout")
    try:
        await sessions.revoke_issued(await verifier.averify(_token_in(form)))
    except (LogoutTokenInvalid, IssuerUnavailable, StoreError) as error:
        return _refusal(error)
    return Answer(200)


def _token_in(form: Form) -> str:
    if isinstance(form, bytes):
        fields = parse_qs(form[: 2 * _LARGEST_TOKEN].decode("latin-1"))
        form = {name: values[0] for name, values in fields.items()}
    token = form.get("logout_token")
    if not isinstance(token, str) or not token:
        raise LogoutTokenInvalid("the request has no field logout_token")
    return token


def _refusal(error: SessionError) -> Answer:
    if not isinstance(error, LogoutTokenInvalid):
        log.error("backchannel_logout_failed: %s", error)
        return Answer(503, {"Cache-Control": "no-store", "Retry-After": "1"})
    log.warning("backchannel_logout_refused: %s", error)
    body = json.dumps({"error": "invalid_request", "error_description": str(error)}).encode()
    return Answer(400, {"Cache-Control": "no-store", "Content-Type": "application/json"}, body)
