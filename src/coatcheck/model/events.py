"""What happens to sessions, as told to those who listen and kept for those who must miss nothing."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from coatcheck.model.ticket import Handle


class EventType(Enum):
    """What happened to a session."""

    CREATED = "created"
    """An anonymous session was stored."""
    BOUND = "bound"
    """A subject signed in; the session is new from here on."""
    ROTATED = "rotated"
    """It got a new secret."""
    REPLAYED = "replayed"
    """A former secret was used after its grace, by its owner or a thief: the session has ended."""
    REVOKED = "revoked"
    """It was ended by a decision; without a handle, every session of the partition was."""
    EVICTED = "evicted"
    """It was ended by a sign-in over the subject's limit."""
    EXPIRED = "expired"
    """It was not used for its idle timeout, or reached its absolute deadline ("why": idle, absolute)."""
    CLIENT_CHANGED = "client changed"
    """It is used from another browser, system or network than before ("why" says what changed, without addresses)."""
    REFUSED = "refused"
    """A sign-in over the subject's limit was refused; no session has this handle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened to a session.

    id: its place in the partition's stream ("" where it was only heard). subject_digest: the subject, as
    `Operations.subject_digests` gives it; None for an anonymous session. by, why: as given to the operation.
    at: when (aware, UTC).
    """

    type: EventType
    partition: int
    handle: Handle | None
    subject_digest: str | None
    at: datetime
    by: str | None = None
    why: str | None = None
    id: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    """By whom and why a session is ended, as its event will say: one line each, at most 200 characters."""

    by: str = ""
    why: str = ""

    def __post_init__(self) -> None:
        """Refuse what an event cannot carry."""
        for text in (self.by, self.why):
            if len(text) > _LONGEST or not text.isprintable():
                raise ValueError(f"by and why are one line of at most {_LONGEST} characters each, not {text[:40]!r}")


_LONGEST = 200
