"""Every error coatcheck raises, under one root.

SessionError
├─ ConfigurationError     a setting is wrong; the text says which, and what to do
├─ SessionRevoked         a write met a session that has ended
├─ SessionConflict        strict mode: the same attribute changed meanwhile
├─ SessionLimitReached    the policy refuses another session for this subject
├─ SourceLimited          too many new sessions, or unknown identifiers, come from one source
├─ CsrfRefused            a request does not prove that a page of its session made it
├─ AuthenticationRequired the subject must prove anew who it is: too long ago, or not strongly enough
├─ LogoutTokenInvalid     an issuer's logout token was refused
├─ NotEnoughSessions      there is too little to train a dictionary on
├─ IssuerUnavailable      an issuer's keys could not be fetched; retry may help
└─ StoreError
   ├─ StoreUnavailable    retry may help
   │  └─ RevocationPending  an end is not confirmed; this process refuses the session and goes on trying
   ├─ DurabilityNotReached  a write was carried out, and may still be undone
   └─ RecordCorrupted     it will not

Absence is a value, not an error: loading an unknown or ended session gives ``None``.
A value that a session cannot hold raises the built-in TypeError or ValueError where it is assigned.
"""

from datetime import timedelta


class SessionError(Exception):
    """The root of every error of this library."""


class ConfigurationError(SessionError):
    """A setting is wrong; nothing works until it is mended."""


class SessionRevoked(SessionError):
    """A write met a session that has ended. Nothing was written."""


class SessionConflict(SessionError):
    """The same attribute was changed by another request meanwhile. Nothing was written."""


class SessionLimitReached(SessionError):
    """The subject has as many sessions as the policy allows, in all or on such devices. Nothing was written."""


class SourceLimited(SessionError):
    """Too many new sessions, or identifiers that open nothing, come from one source. Nothing was written.

    retry_after: when it may go on. It is no logout: whose session a request brings was not even looked up.
    """

    def __init__(self, retry_after: timedelta) -> None:
        """Ask to wait for *retry_after*, rounded up to whole seconds."""
        self.retry_after = -(-retry_after // timedelta(seconds=1)) * timedelta(seconds=1)
        super().__init__(
            f"too many new sessions or unknown identifiers come from this source: wait {self.retry_after}, or set "
            "SessionPolicy(sources=...) higher"
        )


class CsrfRefused(SessionError):
    """A request does not prove that a page of its session made it. Nothing was done."""


class AuthenticationRequired(SessionError):
    """What was asked for needs the user to authenticate anew: that was too long ago, or not strong enough.

    within: how long ago it may be. assurance: how strong it must be (NIST SP 800-63B: 1, 2 or 3).
    """

    def __init__(self, within: timedelta, assurance: int = 1) -> None:
        """Ask for an authentication *within* that time, at least as strong as *assurance*."""
        super().__init__(f"the user must have authenticated within {within}, with assurance {assurance} or more")
        self.within = within
        self.assurance = assurance

    @property
    def challenge(self) -> str:
        """The WWW-Authenticate header that asks for it (RFC 9470)."""
        text = 'Bearer error="insufficient_user_authentication"'
        text += ', error_description="Authenticate again"'
        text += f', max_age="{self.within // timedelta(seconds=1)}"'
        if self.assurance > 1:
            text += f', acr_values="{" ".join(f"aal{level}" for level in range(self.assurance, 4))}"'
        return text


class LogoutTokenInvalid(SessionError):
    """A logout token was refused, and nothing was done; the text says why, and holds nothing of the token."""

    def __init__(self, why: str) -> None:
        """Refuse it because of *why*."""
        super().__init__(f"the logout token was refused: {why}")


class NotEnoughSessions(SessionError):
    """There are too few sessions to train a dictionary on, or they have too little in common. Nothing was written."""


class IssuerUnavailable(SessionError):
    """An issuer's keys could not be fetched, so what it has signed could not be verified; a retry may help."""


class StoreError(SessionError):
    """The store did not do its part. It is never a reason to treat a person as logged out."""


class StoreUnavailable(StoreError):
    """The store could not be reached or refused for now; a retry may help."""


class RevocationPending(StoreUnavailable):
    """An end was not confirmed by the store: it is not durable yet, and other processes may not know of it.

    This process refuses what was to end, and tries again along with later calls until it is confirmed.

    is_kept: whether an outbox has it, so that it survives this process.
    set_cookie: the Set-Cookie header that removes the cookie of a browser that was signed out; for adapters.
    """

    is_kept: bool = False
    set_cookie: str | None = None


class DurabilityNotReached(StoreError):
    """A write was carried out, but fewer replicas or disks have it than the policy asks: a failure may undo it.

    set_cookie: the Set-Cookie header that the browser needs all the same, where a rotation fell short; for adapters.
    """

    set_cookie: str | None = None


class RecordCorrupted(StoreError):
    """A record does not open: damaged, foreign, of an unknown format, or its key is missing."""
