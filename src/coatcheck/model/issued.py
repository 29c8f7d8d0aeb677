"""Sessions of an OpenID Connect issuer, to which sessions here are linked, and the marks that a logout there leaves.

A logout leaves a mark in each of the two indexes that it touches, for a sign-in that is under way. A mark says which
sessions of its index have ended:

    id              all of them: the index is that of one session at the issuer
    all:<seconds>   those of the subject that the issuer had vouched for by then
    rest:<seconds>  of these, the ones whose issuer named no session of its own: the logout may have meant them
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

_LONGEST: Final = 500
_LARGEST: Final = 2**53
_THE_SESSION, _ALL, _REST = "id", "all", "rest"


@dataclass(frozen=True, slots=True)
class IssuerSession:
    """Somebody's session at an OpenID Connect issuer; without an *id*, all that *subject* has there.

    issuer, subject, id: the claims iss, sub and sid of its ID token, or of a logout token, as they are: 1 to 500
    printable characters each. issued_at: the token's claim iat (seconds since 1970-01-01 UTC).
    Raises TypeError and ValueError for what none can be.
    """

    issuer: str
    subject: str | None = field(default=None, repr=False)
    id: str | None = field(default=None, repr=False)
    issued_at: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be stored, told or mapped."""
        _check_text("iss", self.issuer)
        for claim, value in (("sub", self.subject), ("sid", self.id)):
            if value is not None:
                _check_text(claim, value)
        if self.subject is None and self.id is None:
            raise ValueError("an issuer's session needs a subject (sub), an id (sid) or both")
        at = self.issued_at
        if at is not None and (type(at) is not int or not 0 <= at < _LARGEST):
            raise ValueError("iat, when the issuer's token was issued, is seconds since 1970-01-01 UTC")

    @classmethod
    def of(cls, claims: Mapping[str, Any]) -> Self:
        """Read it from the claims of an ID token, which has been verified."""
        at = claims.get("iat")
        return cls(
            claims.get("iss", ""),
            claims.get("sub"),
            claims.get("sid"),
            int(at) if isinstance(at, float) and 0 <= at < _LARGEST else at,
        )

    def places(self) -> dict[str, str]:
        """Give what it is listed under: the value of each of the claims that a logout may name, by claim."""
        return {claim: value for claim, value in (("sid", self.id), ("sub", self.subject)) if value is not None}

    def marks(self, now: int) -> dict[str, str]:
        """Give the mark that the logout of this session leaves in each index. now: in place of issued_at, in s."""
        mark = f"{_ALL if self.id is None else _REST}:{now if self.issued_at is None else self.issued_at}"
        return {claim: _THE_SESSION if claim == "sid" else mark for claim in self.places()}

    def is_ended_by(self, mark: str) -> bool:
        """Say whether the logout that left *mark* in an index of this session has ended it.

        A sign-in of the same subject that the issuer has vouched for after that logout is a new one.
        """
        which, _, at = mark.partition(":")
        if which == _THE_SESSION:
            return True
        if which == _REST and self.id is not None:
            return False
        return self.issued_at is None or (at.isdecimal() and self.issued_at <= int(at))

    def pack(self) -> list[Any]:
        """Give it as it stands in a record."""
        return [self.issuer, self.subject, self.id, self.issued_at]

    @classmethod
    def unpack(cls, packed: list[Any]) -> Self | None:
        """Read what `pack` has made; None for an empty list. What a newer version has put behind is left out."""
        return cls(*packed[:4]) if packed else None


def _check_text(claim: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"an issuer's {claim} is a str, not {type(value).__name__}")
    if not 0 < len(value) <= _LONGEST or not value.isprintable():
        raise ValueError(f"an issuer's {claim} is 1 to {_LONGEST} printable characters")
