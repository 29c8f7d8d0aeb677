"""A small OpenID Connect issuer: keys that it rotates, served over HTTP, and the tokens that it signs."""

import json
import secrets
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from coatcheck.oidc import EVENT, LogoutVerifier

CLIENT = "shop"
_MAKERS = {
    "RS": (lambda: rsa.generate_private_key(65537, 2048), RSAAlgorithm),
    "PS": (lambda: rsa.generate_private_key(65537, 2048), RSAAlgorithm),
    "ES": (lambda: ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
    "Ed": (ed25519.Ed25519PrivateKey.generate, OKPAlgorithm),
}


class Issuer:
    """An issuer at an address of this machine."""

    def __init__(self) -> None:
        self.fetches = 0
        self.works = True
        self.algorithm = "ES256"
        self.key: Any = None
        self.kid = ""
        self.published: list[dict[str, Any]] = []
        self.rotate()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetches += 1
                body = json.dumps(issuer.jwk_set).encode()
                self.send_response(200 if issuer.works else 500)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.jwks_uri = f"{self.url}/jwks"

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def jwk_set(self) -> dict[str, Any]:
        """What it publishes."""
        return {"keys": self.published}

    def rotate(self, algorithm: str = "ES256") -> None:
        """Sign with another key from now on, and publish that one alone."""
        make, kind = _MAKERS[algorithm[:2]]
        self.algorithm, self.key, self.kid = algorithm, make(), secrets.token_hex(4)
        public = json.loads(kind.to_jwk(self.key.public_key()))
        self.published = [{**public, "kid": self.kid, "use": "sig", "alg": algorithm}]

    def id_claims(self, subject: str = "ada@idp", sid: str | None = None, **more: Any) -> dict[str, Any]:
        """Give the claims of an ID token."""
        claims = {"iss": self.url, "aud": CLIENT, "sub": subject, "iat": int(time.time()), "nonce": "n", **more}
        return claims if sid is None else {**claims, "sid": sid}

    def logout_claims(self, **more: Any) -> dict[str, Any]:
        """Give the claims of a logout token; more: others, None to leave one out."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 120,
            "jti": "1",
            "events": {EVENT: {}},
            **more,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def sign(self, claims: dict[str, Any], *, headers: dict[str, Any] | None = None, **options: Any) -> str:
        """Sign *claims*. headers: to add to the usual ones, None to leave one out."""
        headers = {"typ": "logout+jwt", "kid": self.kid, **(headers or {})}
        headers = {name: value for name, value in headers.items() if value is not None or name == "typ"}
        key, algorithm = options.get("key", self.key), options.get("algorithm", self.algorithm)
        return jwt.PyJWS().encode(json.dumps(claims).encode(), key, algorithm, headers)  # whatever they are

    def logout_token(self, **claims: Any) -> str:
        """Make a logout token; claims: as `logout_claims` has them."""
        return self.sign(self.logout_claims(**claims))


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """Give an issuer."""
    issuer = Issuer()
    yield issuer
    issuer.close()


@pytest.fixture
def verifier(issuer: Issuer) -> LogoutVerifier:
    """Give a verifier that fetches the issuer's keys."""
    return LogoutVerifier(issuer.url, CLIENT, jwks_uri=issuer.jwks_uri)
