"""Sessions of an issuer, and the marks that their ends leave."""

import pytest

from coatcheck import IssuerSession

ISSUER = "https://id.example.org"
CLAIMS = {"iss": ISSUER, "sub": "ada", "sid": "s-1", "iat": 1_767_225_600, "aud": "shop", "nonce": "n"}


def test_of_claims():
    """It is what the claims iss, sub, sid and iat of a token say; the others do not matter."""
    assert IssuerSession.of(CLAIMS) == IssuerSession(ISSUER, "ada", "s-1", 1_767_225_600)


def test_of_claims_without_a_session_id():
    """An issuer may name no sessions, and a moment with fractions."""
    assert IssuerSession.of({"iss": ISSUER, "sub": "ada", "iat": 7.9}) == IssuerSession(ISSUER, "ada", None, 7)


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"iss": None}, TypeError, "an issuer's iss is a str, not NoneType"),
        ({"iss": ""}, ValueError, "an issuer's iss is 1 to 500 printable characters"),
        ({"iss": "https://id.example.org\n"}, ValueError, "an issuer's iss is 1 to 500 printable characters"),
        ({"sub": 7}, TypeError, "an issuer's sub is a str, not int"),
        ({"sub": "a" * 501}, ValueError, "an issuer's sub is 1 to 500 printable characters"),
        ({"sub": "\ud800"}, ValueError, "an issuer's sub is 1 to 500 printable characters"),
        ({"sid": "a\0b"}, ValueError, "an issuer's sid is 1 to 500 printable characters"),
        ({"sub": None, "sid": None}, ValueError, r"an issuer's session needs a subject \(sub\), an id \(sid\) or both"),
        ({"iat": "7"}, ValueError, "iat, when the issuer's token was issued, is seconds since 1970-01-01 UTC"),
        ({"iat": True}, ValueError, "iat, when the issuer's token was issued, is seconds"),
        ({"iat": -1}, ValueError, "iat, when the issuer's token was issued, is seconds"),
        ({"iat": float("nan")}, ValueError, "iat, when the issuer's token was issued, is seconds"),
    ],
)
def test_impossible_claims(changed, error, text):
    """What no issuer's session can be is refused, in words that say which claim it is."""
    with pytest.raises(error, match=f"^{text}"):
        IssuerSession.of({**CLAIMS, **changed})


def test_repr():
    """Neither the subject nor the id shows in a log."""
    assert repr(IssuerSession.of(CLAIMS)) == f"IssuerSession(issuer='{ISSUER}', issued_at=1767225600)"


def test_packed():
    """What stands in a record is read back; what a newer version has put behind it is left out."""
    issued = IssuerSession.of(CLAIMS)

    assert IssuerSession.unpack(issued.pack()) == issued
    assert IssuerSession.unpack([*issued.pack(), "more"]) == issued
    assert IssuerSession.unpack([]) is None


@pytest.mark.requirement("R27")
@pytest.mark.parametrize(
    ("session", "logout", "ends"),
    [
        ({"sid": "s-1"}, {"sid": "s-1"}, True),
        ({"sid": "s-1", "iat": 900}, {"sid": "s-1"}, True),
        ({"sid": "s-1"}, {"sid": "s-2"}, False),
        ({"sid": "s-1"}, {"sid": "s-2", "sub": "ada"}, False),
        ({"sid": "s-1"}, {"sub": "ada"}, True),
        ({}, {"sub": "ada"}, True),
        ({}, {"sub": "bob"}, False),
        ({"iat": 500}, {"sub": "ada"}, True),
        ({"iat": 501}, {"sub": "ada"}, False),
        ({"iat": None}, {"sub": "ada"}, True),
        ({"sid": "s-1", "iat": 501}, {"sub": "ada"}, False),
        ({}, {"sub": "ada", "sid": "s-1"}, True),
        ({"iat": 501}, {"sub": "ada", "sid": "s-1"}, False),
        ({}, {"sid": "s-1"}, False),
        ({"iat": 100}, {"sub": "ada", "iat": None}, True),
        ({"iat": 801}, {"sub": "ada", "iat": None}, False),
    ],
)
def test_what_a_logout_ends(session, logout, ends):
    """A session id ends its session; a subject alone all that was issued by then; both, also what has no id."""
    issued = IssuerSession.of({"iss": ISSUER, "sub": "ada", "iat": 400, **session})
    ended = IssuerSession.of({"iss": ISSUER, "iat": 500, **logout})

    marks, places = ended.marks(now=800), ended.places()

    met = [mark for claim, mark in marks.items() if issued.places().get(claim) == places[claim]]
    assert any(map(issued.is_ended_by, met)) is ends


@pytest.mark.parametrize("mark", ["", "all", "all:", "all:x", "rest:²", "other:1", "all:-1"])
def test_mark_that_is_none(mark):
    """What somebody else has put into an index ends nothing, and raises nothing."""
    assert not IssuerSession("https://id.example.org", "ada", issued_at=5).is_ended_by(mark)
