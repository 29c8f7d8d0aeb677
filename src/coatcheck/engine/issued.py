"""Links between sessions here and sessions at an OpenID Connect issuer, and what a logout there ends.

A session is listed under its claims sid and sub, in other slots than its own. So a sign-in writes the link before the
session, and looks for marks again behind it; a logout leaves its marks before it ends what is listed. Whatever the
order, one of the two sees the other.
"""

import logging
from typing import Final

from coatcheck.engine.deadline import OneDeadline
from coatcheck.engine.durability import Receipt
from coatcheck.engine.store import Store
from coatcheck.engine.writer import Writer
from coatcheck.model.durability import Write
from coatcheck.model.errors import RecordCorrupted, SessionRevoked
from coatcheck.model.events import Cause
from coatcheck.model.issued import IssuerSession
from coatcheck.model.policy import milliseconds
from coatcheck.model.session import Session
from coatcheck.model.ticket import Handle

log = logging.getLogger("coatcheck")

MARKED_FOR: Final = 3_600_000
"""How long a logout is remembered for sign-ins under way, in ms. A mark ends nothing but what was issued before it."""

_LONGEST_NAME: Final = 200


def logged_out(issued: IssuerSession, why: str = "back-channel logout") -> Cause:
    """Make the cause of the end of a session whose *issued* has ended."""
    return Cause(issued.issuer[:_LONGEST_NAME], why)


class IssuerLinks:
    """Links sessions to those of issuers."""

    __slots__ = ("_store", "_writer")

    def __init__(self, store: Store, writer: Writer) -> None:
        """Work on *store*."""
        self._store = store
        self._writer = writer

    async def link(self, issued: IssuerSession, handle: Handle, deadline: int) -> None:
        """List *handle* under *issued* until its *deadline* (ms) and, since it may not be stored yet, for an hour.

        One round trip. Raises SessionRevoked where the issuer has ended that session.
        """
        now = await self._store.now()
        places = [self._store.issued_places(issued, claim)[0] for claim in issued.places()]
        found = await self._store.enter_issued(
            [(place, str(handle), max(deadline, now + MARKED_FOR)) for place in places]
        )
        if any(issued.is_ended_by(mark) for marks in found for mark in marks):
            raise SessionRevoked(
                f"{issued.issuer} has ended the session that this sign-in is from: let it sign in anew"
            )

    async def extend(self, session: Session) -> None:
        """Keep the link of a stored session for as long as it will live with the timeouts that it was given."""
        issued, handle, header = IssuerSession.unpack(session.payload.issued), session.handle, session.header
        if issued is not None and handle is not None and header is not None:
            await self.link(issued, handle, header.created_at + milliseconds(session.absolute_timeout))

    async def end(self, logout: IssuerSession, why: str) -> int:
        """Do what `Operations.revoke_issued` says."""
        cause, receipt = logged_out(logout, why), Receipt(Write.REVOCATION)
        with OneDeadline():
            now = await self._store.now()
            marks = [
                (place, mark)
                for claim, mark in logout.marks(now // 1000).items()
                for place in self._store.issued_places(logout, claim)
            ]
            found = await self._store.enter_issued([(place, mark, -now - MARKED_FOR) for place, mark in marks], receipt)
        meant: dict[Handle, set[str]] = {}
        for (_, mark), names in zip(marks, found, strict=True):
            for name in names:
                meant.setdefault(Handle.parse(name), set()).add(mark)
        ended = sum([await self._end(handle, about, cause, receipt) for handle, about in meant.items()])
        log.info("sessions_revoked_by_issuer", extra={"by": cause.by, "why": why, "count": ended})
        self._store.waits.check(receipt)
        return ended

    async def _end(self, handle: Handle, marks: set[str], cause: Cause, receipt: Receipt) -> bool:
        """End the session *handle* if one of *marks* is about it; also one that does not open, for it is listed."""
        owner = None
        with OneDeadline():
            try:
                opened = await self._store.read(handle)
            except RecordCorrupted:
                pass
            else:
                if opened is None:
                    return False
                owner, issued = opened[1].subject, IssuerSession.unpack(opened[1].issued)
                if issued is not None and not any(map(issued.is_ended_by, marks)):
                    return False
            return await self._writer.end(handle, owner, cause=cause, receipt=receipt) is not None
