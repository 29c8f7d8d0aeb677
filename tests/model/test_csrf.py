"""CSRF tokens as such, where they are found in forms, and what is believed of a request's headers."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import CsrfPolicy, CsrfRefused, Keyring, new_key
from coatcheck.model.csrf import is_token_of, make_token, token_in_form

KEY, OTHER_KEY = (Keyring.parse(new_key()).keys[0] for _ in range(2))
DIGEST, OTHER_DIGEST = bytes(32), bytes([1] * 32)
BOUNDARY = "multipart/form-data; boundary=x1"


def test_token():
    """A token is 86 characters of base64url, of its key and its digest only."""
    token = make_token(KEY, DIGEST)

    assert len(token) == 86
    assert is_token_of(token, [KEY], [DIGEST])
    assert is_token_of(token, [OTHER_KEY, KEY], [OTHER_DIGEST, DIGEST[:8]])
    assert not is_token_of(token, [OTHER_KEY], [DIGEST])
    assert not is_token_of(token, [KEY], [OTHER_DIGEST])
    assert not is_token_of(token, [KEY], [])


def test_mask():
    """No two tokens of a session have more in common than chance has it: nothing for BREACH to guess byte by byte."""
    tokens = [urlsafe_b64decode(make_token(KEY, DIGEST) + "==") for _ in range(50)]

    for place in range(64):
        assert len({token[place] for token in tokens}) > 20


@pytest.mark.parametrize("place", range(64))
def test_altered_token(place):
    """A token with any byte changed is refused."""
    raw = bytearray(urlsafe_b64decode(make_token(KEY, DIGEST) + "=="))
    raw[place] ^= 1

    assert not is_token_of(urlsafe_b64encode(raw).rstrip(b"=").decode(), [KEY], [DIGEST])


@given(st.text())
def test_any_text(text):
    """Whatever a request carries instead of a token is refused, and nothing breaks."""
    assert not is_token_of(text, [KEY], [DIGEST])


@pytest.mark.parametrize(
    ("content_type", "body", "found"),
    [
        ("application/x-www-form-urlencoded", b"a=1&csrf_token=abc-_&b=2", "abc-_"),
        ("application/x-www-form-urlencoded; charset=utf-8", b"csrf_token=abc", "abc"),
        ("application/x-www-form-urlencoded", b"a=1", None),
        ("application/x-www-form-urlencoded", b"\xff=\xfe", None),
        ("application/json", b'{"csrf_token": "abc"}', None),
        ("text/plain", b"csrf_token=abc", None),
        ("", b"csrf_token=abc", None),
        ("multipart/form-data", b"--x1", None),
        (BOUNDARY, b'--x1\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\nabc\r\n--x1--\r\n', "abc"),
        (
            'multipart/form-data; boundary="x1"',
            b"--x1\r\ncontent-disposition: form-data; name=csrf_token\r\n\r\nabc",
            "abc",
        ),
        (
            BOUNDARY,
            (
                b'--x1\r\nContent-Disposition: form-data; name="f"; filename="csrf_token"\r\n\r\nabc\r\n'
                b'--x1\r\nContent-Type: text/plain\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\n'
                b"def\r\n--x1--"
            ),
            "def",
        ),
        (BOUNDARY, b'--x1\r\nContent-Disposition: form-data; name="f"\r\n\r\nname="csrf_token"\r\n--x1--', None),
        (BOUNDARY, b"--x1", None),
        (BOUNDARY, b"", None),
    ],
)
def test_token_in_form(content_type, body, found):
    """The token's field is found in both kinds of forms, and in nothing else."""
    assert token_in_form(content_type, body, "csrf_token") == found


@given(st.sampled_from([BOUNDARY, "application/x-www-form-urlencoded"]), st.binary())
def test_any_body(content_type, body):
    """No body breaks the search."""
    assert token_in_form(content_type, body, "csrf_token") is None


OWN = {"Host": "shop.example"}


@pytest.mark.parametrize(
    ("headers", "is_own"),
    [
        ({}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "https://shop.example"}, True),
        ({"Origin": "http://SHOP.example"}, True),
        ({"Origin": "https://www.example", "Sec-Fetch-Site": "cross-site"}, True),
    ],
    ids=str,
)
def test_is_own(headers, is_own):
    """What the browser vouches for is believed; what it does not say is not made up."""
    assert CsrfPolicy(trusted_origins=("https://www.example",)).is_own((OWN | headers).get) is is_own


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "something new"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://shop.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "https://shop.example:8443"},
        {"Origin": "https://www.example.evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "null", "Host": ""},
    ],
    ids=str,
)
def test_is_foreign(headers):
    """What comes from another origin is refused, subdomains and ports included."""
    with pytest.raises(CsrfRefused):
        CsrfPolicy(trusted_origins=("https://www.example",)).is_own((OWN | headers).get)


@pytest.mark.parametrize(
    ("method", "path", "applies"),
    [
        ("GET", "/", False),
        ("HEAD", "/", False),
        ("OPTIONS", "/", False),
        ("POST", "/", True),
        ("PROPFIND", "/", True),
        ("POST", "/hooks", False),
        ("POST", "/hooks/paid", False),
        ("POST", "/hooksome", True),
        ("POST", "/api/hooks", True),
    ],
)
def test_applies_to(method, path, applies):
    """Every method but the safe ones needs a token, and every path but the exempt ones."""
    assert CsrfPolicy(exempt=("/hooks",)).applies_to(method, path) is applies


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://[x]", "http://]", "//", "null", ""])
def test_origin_that_is_none(origin):
    """An Origin header that cannot be read comes from elsewhere: it is refused, and nothing breaks."""
    headers = {"Origin": origin, "Host": "example.org"}
    with pytest.raises(CsrfRefused, match="another origin"):
        CsrfPolicy().is_own(headers.get)


@pytest.mark.parametrize("boundary", ["\udcff", "é", "\u20ac"])
def test_boundary_that_is_not_ascii(boundary):
    """A form whose boundary is no ASCII gives its token if the boundary's bytes fit, and breaks nothing."""
    body = b'--%b\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\nabc' % boundary.encode(
        "latin-1", "replace"
    )

    assert token_in_form(f"multipart/form-data; boundary={boundary}", body, "csrf_token") == "abc"
