"""Logout tokens: which are taken, which are refused and with what words, and where the keys come from."""

import asyncio
import base64
import hmac
import json
import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from coatcheck import ConfigurationError, IssuerSession, IssuerUnavailable, LogoutTokenInvalid
from coatcheck.oidc import EVENT, LogoutVerifier
from coatcheck.runtime import jwks
from tests.fix_issuer import CLIENT

pytestmark = pytest.mark.requirement("R27")


@pytest.fixture
def later(monkeypatch):
    """Give a function that lets seconds pass for who fetches keys."""
    passed = [0.0]
    monkeypatch.setattr(jwks, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + passed[0]))

    def wait(seconds):
        passed[0] += seconds

    return wait


def refusal(verifier, token):
    """Give the words with which a token is refused."""
    with pytest.raises(LogoutTokenInvalid) as refused:
        verifier.verify(token)
    text = str(refused.value)
    assert text.startswith("the logout token was refused: ")
    assert not any(part in text for part in token.split(".") if len(part) > 10)
    return text.removeprefix("the logout token was refused: ")


# What is taken


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
def test_algorithms(issuer, verifier, algorithm):
    """Tokens signed with each kind of key are taken, and give what has ended."""
    issuer.rotate(algorithm)

    issued = verifier.verify(issuer.logout_token(sub="ada@idp", sid="s-1", iat=(now := int(time.time()))))

    assert issued == IssuerSession(issuer.url, "ada@idp", "s-1", now)


@pytest.mark.parametrize("changed", [{"sub": "ada@idp"}, {"sid": "s-1"}, {"sid": "s-1", "sub": "ada@idp"}], ids=str)
def test_who_is_named(issuer, verifier, changed):
    """A token names a subject, a session, or both."""
    issued = verifier.verify(issuer.logout_token(**changed))

    assert (issued.subject, issued.id) == (changed.get("sub"), changed.get("sid"))


@pytest.mark.parametrize("kind", ["logout+jwt", "LOGOUT+JWT", "application/logout+jwt", "JWT", None], ids=str)
def test_types(issuer, verifier, kind):
    """A token may say that it is a logout token, that it is a JWT, or nothing."""
    assert verifier.verify(issuer.sign(issuer.logout_claims(sid="s-1"), headers={"typ": kind})).id == "s-1"


@pytest.mark.parametrize("missing", ["exp", "jti"])
def test_what_older_issuers_leave_out(issuer, verifier, missing):
    """Without the claims that were not always required a token is taken; a strict verifier refuses it."""
    token = issuer.logout_token(sid="s-1", **{missing: None})
    strict = LogoutVerifier(issuer.url, CLIENT, keys=issuer.jwk_set, strict=True)

    assert verifier.verify(token).id == "s-1"
    assert refusal(strict, token) == f"it has no {missing}"


def test_strict(issuer):
    """A strict verifier takes what the specification asks for, and no other type."""
    strict = LogoutVerifier(issuer.url, CLIENT, keys=issuer.jwk_set, strict=True)

    assert strict.verify(issuer.logout_token(sid="s-1")).id == "s-1"
    token = issuer.sign(issuer.logout_claims(sid="s-1"), headers={"typ": "JWT"})
    assert refusal(strict, token) == "its type (typ) is another one's"


def test_several_audiences(issuer, verifier):
    """A token may be for other clients too."""
    assert verifier.verify(issuer.logout_token(sid="s-1", aud=["other", CLIENT])).id == "s-1"


def test_clocks_that_differ(issuer, verifier):
    """Clocks may be half a minute apart, in either direction."""
    now = int(time.time())

    assert verifier.verify(issuer.logout_token(sid="s-1", iat=now + 25))
    assert verifier.verify(issuer.logout_token(sid="s-1", iat=now - 120, exp=now - 25))


def test_asynchronously(issuer, verifier):
    """The asynchronous twin leaves the event loop free while keys are fetched."""
    threads = []
    fetch, verifier._keys._client.fetch_data = (
        verifier._keys._client.fetch_data,
        lambda: threads.append(threading.current_thread()) or fetch(),
    )

    assert asyncio.run(verifier.averify(issuer.logout_token(sid="s-1"))).id == "s-1"

    assert threads != [threading.main_thread()]


# What is refused

NOW = int(time.time())
REFUSED_CLAIMS = {
    "another issuer": ({"iss": "https://evil.example"}, "it is of another issuer (iss)"),
    "almost the issuer": ({"iss": "{issuer}/"}, "it is of another issuer (iss)"),
    "several issuers": ({"iss": ["{issuer}"]}, "it is of another issuer (iss)"),
    "no issuer": ({"iss": None}, "it has no iss"),
    "another client": ({"aud": "other"}, "it is for another client (aud)"),
    "other clients": ({"aud": ["other", "third"]}, "it is for another client (aud)"),
    "no client": ({"aud": None}, "it has no aud"),
    "an audience of numbers": ({"aud": [7]}, "it is for another client (aud)"),
    "no time": ({"iat": None}, "it has no iat"),
    "a time in words": ({"iat": "today"}, "when it was issued (iat) is not a number"),
    "a time as text": (
        {"iat": "1767225600"},
        "iat, when the issuer's token was issued, is seconds since 1970-01-01 UTC",
    ),
    "the future": ({"iat": NOW + 3600}, "it was issued in the future (iat, nbf): compare the clocks"),
    "not yet": ({"nbf": NOW + 3600}, "it was issued in the future (iat, nbf): compare the clocks"),
    "expired": ({"iat": NOW - 300, "exp": NOW - 180}, "it has expired (exp)"),
    "expiry in words": ({"exp": "soon"}, "it is not well formed"),
    "old": ({"iat": NOW - 600, "exp": None}, "it is too old (iat), and does not say when it expires (exp)"),
    "no event": ({"events": None}, "it has no events"),
    "another event": ({"events": {"other": {}}}, "it tells of no back-channel logout (events)"),
    "an event that is no object": ({"events": {EVENT: True}}, "it tells of no back-channel logout (events)"),
    "events in a list": ({"events": [EVENT]}, "it tells of no back-channel logout (events)"),
    "a nonce": ({"nonce": "n"}, "it has a nonce, as an ID token has"),
    "nobody": ({"sid": None}, "an issuer's session needs a subject (sub), an id (sid) or both"),
    "an empty subject": ({"sub": ""}, "an issuer's sub is 1 to 500 printable characters"),
    "a subject of another type": ({"sub": 7}, "its subject (sub) is not text"),
    "a session of another type": ({"sid": ["s-1"]}, "an issuer's sid is a str, not list"),
    "a jti of another type": ({"jti": 7}, "its jti is not text"),
}


@pytest.mark.parametrize("case", REFUSED_CLAIMS)
def test_claims(issuer, verifier, case):
    """A token that says what no logout token for us says is refused, in words that name the claim."""
    changed, text = REFUSED_CLAIMS[case]
    changed = json.loads(json.dumps(changed).replace("{issuer}", issuer.url))
    token = issuer.logout_token(**{"sid": "s-1", **changed})

    assert refusal(verifier, token) == text


def test_empty_nonce(issuer, verifier):
    """A nonce is refused whatever it is."""
    claims = {**issuer.logout_claims(sid="s-1"), "nonce": None}

    assert refusal(verifier, issuer.sign(claims)) == "it has a nonce, as an ID token has"


def test_id_token(issuer, verifier):
    """An ID token, which the issuer has signed with the same key, is none."""
    assert refusal(verifier, issuer.sign(issuer.id_claims(sid="s-1"))) == "it has no events"


@pytest.mark.parametrize("kind", ["at+jwt", "JWE", 7, ["logout+jwt"]], ids=str)
def test_other_types(issuer, verifier, kind):
    """A token that says it is something else is refused."""
    token = issuer.sign(issuer.logout_claims(sid="s-1"), headers={"typ": kind})

    assert refusal(verifier, token) == "its type (typ) is another one's"


def test_unsigned(issuer, verifier):
    """A token without a signature is refused."""
    token = issuer.sign(issuer.logout_claims(sid="s-1"), key=None, algorithm="none")

    assert refusal(verifier, token) == "its algorithm (alg) is not among the issuer's"


def test_public_key_as_a_secret(issuer, verifier):
    """A token whose HMAC was made with the issuer's public key is refused."""
    secret = issuer.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    head, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": "HS256", "kid": issuer.kid}, issuer.logout_claims(sid="s-1"))
    )
    mac = base64.urlsafe_b64encode(hmac.digest(secret, head + b"." + body, "sha256")).rstrip(b"=")
    token = b".".join((head, body, mac)).decode()

    assert refusal(verifier, token) == "its algorithm (alg) is not among the issuer's"


def test_narrower_algorithms(issuer):
    """A verifier that was told what the issuer signs with takes nothing else."""
    verifier = LogoutVerifier(issuer.url, CLIENT, keys=issuer.jwk_set, algorithms=["RS256"])

    assert refusal(verifier, issuer.logout_token(sid="s-1")) == "its algorithm (alg) is not among the issuer's"


def test_another_signature(issuer, verifier):
    """A token that was changed after it was signed is refused, and so is one under somebody else's key."""
    head, body, _ = issuer.logout_token(sid="s-1").split(".")
    _, _, other = issuer.logout_token(sid="s-2").split(".")
    assert refusal(verifier, f"{head}.{body}.{other}") == "its signature is not the issuer's"

    kid, published = issuer.kid, issuer.published
    issuer.rotate()
    issuer.kid, issuer.published = kid, published
    assert refusal(verifier, issuer.logout_token(sid="s-1")) == "its signature is not the issuer's"


def test_algorithm_of_another_kind_of_key(issuer):
    """A token that names a key, and an algorithm that this key is not for, is refused."""
    key = rsa.generate_private_key(65537, 2048)
    keys = {"keys": [{name: value for name, value in issuer.published[0].items() if name != "alg"}]}
    for verifier in (
        LogoutVerifier(issuer.url, CLIENT, keys=keys),
        LogoutVerifier(issuer.url, CLIENT, keys=issuer.jwk_set),
    ):
        token = issuer.sign(issuer.logout_claims(sid="s-1"), key=key, algorithm="RS256")
        assert refusal(verifier, token) == "no key of the issuer's fits it (kid, alg)"


def test_short_key(issuer):
    """A key of the issuer that is too short to be safe is not used."""
    issuer.algorithm, issuer.key = "RS256", rsa.generate_private_key(65537, 1024)  # noqa: S505
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(issuer.key.public_key()))
    verifier = LogoutVerifier(issuer.url, CLIENT, keys={"keys": [{**public, "kid": issuer.kid}]})
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = issuer.logout_token(sid="s-1")

    assert refusal(verifier, token) == "no key of the issuer's fits it (kid, alg)"


def test_key_for_encryption(issuer):
    """A key that the issuer publishes for another use verifies nothing."""
    verifier = LogoutVerifier(issuer.url, CLIENT, keys={"keys": [{**issuer.published[0], "use": "enc"}]})

    assert refusal(verifier, issuer.logout_token(sid="s-1")) == "no key of the issuer's fits it (kid, alg)"


@pytest.mark.parametrize(
    "token",
    ["", "x", "a.b", "a.b.c", "a.b.c.d.e", "\ud800", "é.é.é", "e30.e30.", base64.b64encode(b"[]").decode() + ".e30."],
    ids=ascii,
)
def test_no_token(verifier, token):
    """What is no JWT is refused."""
    assert refusal(verifier, token) in {"it is not a signed JWT", "its algorithm (alg) is not among the issuer's"}


def test_large_token(verifier):
    """A token beyond all measure is not even looked into."""
    assert refusal(verifier, "a" * 16_385) == "it is longer than 16384 characters"


def test_critical_extension(issuer, verifier):
    """A token with an extension that must be understood is refused."""
    token = issuer.sign(issuer.logout_claims(sid="s-1"), headers={"crit": ["exp"], "exp": 1})

    assert refusal(verifier, token) == "it is not a signed JWT"


# Keys


def test_rotated_keys(issuer, verifier, later):
    """A key that the issuer has begun to use is fetched when a token names it; the former one is good no more."""
    old = issuer.logout_token(sid="s-1")
    assert verifier.verify(old)
    issuer.rotate()
    later(5)

    assert verifier.verify(issuer.logout_token(sid="s-1"))

    assert refusal(verifier, old) == "no key of the issuer's fits it (kid, alg)"
    assert issuer.fetches == 2


def test_keys_that_do_not_exist(issuer, verifier, later):
    """Whoever names keys that do not exist has them fetched once in five seconds, and no more often."""
    for _ in range(20):
        token = issuer.sign(issuer.logout_claims(sid="s-1"), headers={"kid": "nobody's"})
        assert refusal(verifier, token) == "no key of the issuer's fits it (kid, alg)"
    assert issuer.fetches == 1

    later(5)
    assert refusal(verifier, token)

    assert issuer.fetches == 2


def test_keys_are_renewed(issuer, verifier, later):
    """Keys are fetched anew every five minutes: one that the issuer has withdrawn is not used for longer."""
    old = issuer.logout_token(sid="s-1")
    assert verifier.verify(old)
    issuer.rotate()
    later(299)
    assert verifier.verify(old)
    later(2)

    assert refusal(verifier, old) == "no key of the issuer's fits it (kid, alg)"


def test_issuer_is_away(issuer, verifier, later, caplog):
    """While the issuer's keys cannot be fetched, those that are known are used; it is not asked for each token."""
    token = issuer.logout_token(sid="s-1")
    assert verifier.verify(token)
    issuer.works = False
    later(600)
    for _ in range(5):
        assert verifier.verify(token)
    assert issuer.fetches == 2

    issuer.rotate()
    with pytest.raises(IssuerUnavailable, match=f"^the issuer's keys could not be fetched from {issuer.jwks_uri}; the"):
        verifier.verify(issuer.logout_token(sid="s-1"))
    issuer.works = True
    later(5)
    assert verifier.verify(issuer.logout_token(sid="s-1"))
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["issuer_keys_not_fetched"]


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"keys": 7}', b'{"keys": [7]}'])
def test_no_jwk_set(issuer, verifier, monkeypatch, body):
    """What the address gives is no JWK set: the keys count as not fetched."""
    monkeypatch.setattr("tests.fix_issuer.json", SimpleNamespace(dumps=lambda _: body.decode(), loads=json.loads))

    with pytest.raises(IssuerUnavailable):
        verifier.verify(issuer.logout_token(sid="s-1"))


def test_token_that_names_no_key(issuer):
    """A token may leave out the key where the issuer has one, and not where it has several."""
    token = issuer.sign(issuer.logout_claims(sid="s-1"), headers={"kid": None})
    one = LogoutVerifier(issuer.url, CLIENT, keys=issuer.jwk_set)
    two = LogoutVerifier(issuer.url, CLIENT, keys={"keys": [*issuer.published, {**issuer.published[0], "kid": "2"}]})

    assert one.verify(token).id == "s-1"
    assert refusal(two, token) == "no key of the issuer's fits it (kid, alg)"


def test_keys_of_one_name(issuer):
    """Where two keys have one name, each is tried."""
    first = issuer.published
    issuer.rotate()
    keys = {"keys": [{**first[0], "kid": issuer.kid}, {"kid": issuer.kid}, *issuer.published]}

    assert LogoutVerifier(issuer.url, CLIENT, keys=keys).verify(issuer.logout_token(sid="s-1")).id == "s-1"


def test_at_once(issuer, verifier):
    """Many tokens at once have the keys fetched once, and all are verified."""
    token, found = issuer.logout_token(sid="s-1"), []
    threads = [threading.Thread(target=lambda: found.append(verifier.verify(token))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(found), issuer.fetches) == (20, 1)


# Settings

URI = "https://id.example.org/jwks"


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        (("", CLIENT), {"jwks_uri": URI}, r"a LogoutVerifier needs the issuer \(iss\) and the client_id \(aud\)"),
        (("https://id.example.org", ""), {"jwks_uri": URI}, "a LogoutVerifier needs the issuer"),
        (("i", CLIENT), {}, "give a LogoutVerifier either jwks_uri or keys"),
        (("i", CLIENT), {"jwks_uri": URI, "keys": {"keys": []}}, "give a LogoutVerifier either jwks_uri or keys"),
        (("i", CLIENT), {"keys": {}}, r'keys: a JWK set is \{"keys": \[...\]\}'),
        (
            ("i", CLIENT),
            {"jwks_uri": "http://id.example.org/jwks"},
            "jwks_uri is an https address: who can change what",
        ),
        (("i", CLIENT), {"jwks_uri": "file:///etc/passwd"}, "jwks_uri is an https address"),
        (
            ("i", CLIENT),
            {"jwks_uri": URI, "algorithms": ["HS256"]},
            r"logout tokens are signed with RS256, .*not \['HS",
        ),
        (
            ("i", CLIENT),
            {"jwks_uri": URI, "algorithms": ["none"]},
            r"logout tokens are signed with RS256, .*\['none'\]",
        ),
        (("i", CLIENT), {"jwks_uri": URI, "leeway": timedelta(-1)}, "leeway must not be negative, and max_age must be"),
        (("i", CLIENT), {"jwks_uri": URI, "max_age": timedelta(0)}, "leeway must not be negative, and max_age must be"),
    ],
)
def test_impossible_settings(arguments, options, text):
    """What cannot be meant is refused when the application starts."""
    with pytest.raises(ConfigurationError, match=f"^{text}"):
        LogoutVerifier(*arguments, **options)
