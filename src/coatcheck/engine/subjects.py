"""The sessions of a subject, listed and ended together: those under every key of the ring."""

import logging
from typing import Final

from coatcheck.engine.durability import Receipt
from coatcheck.engine.store import FIRST_PAGE, NO_CAUSE, Store
from coatcheck.model.client import Client
from coatcheck.model.codec import decode
from coatcheck.model.durability import Write
from coatcheck.model.errors import RecordCorrupted
from coatcheck.model.events import Cause
from coatcheck.model.policy import SessionPolicy
from coatcheck.model.session import SessionInfo, instant
from coatcheck.model.ticket import Handle

log = logging.getLogger("coatcheck")

# A server does nothing else meanwhile: no script is to keep it for 5 ms (docs/scaling.md has the measurements).
_PAGE: Final = 200
_REVOKED_TOGETHER: Final = 250


class Subjects:
    """Lists and ends the sessions of subjects under one policy."""

    __slots__ = ("_policy", "_store")

    def __init__(self, store: Store, policy: SessionPolicy) -> None:
        """Work on *store*."""
        self._store = store
        self._policy = policy

    async def find(self, subject: str) -> list[SessionInfo]:
        """Do what `Operations.list_for` says."""
        found: dict[Handle, SessionInfo] = {}  # a page may repeat what another had
        for place in self._store.places(subject):
            cursor: bytes | None = FIRST_PAGE
            while cursor is not None:
                cursor, live = await self._store.page(place, cursor, _PAGE)
                now = await self._store.now()
                for handle, record, ttl in live:
                    if info := self._describe(subject, handle, record, now + ttl, now):
                        found[handle] = info
        return sorted(found.values(), key=lambda info: info.last_seen, reverse=True)

    async def end(self, subject: str, kept: Handle | None, cause: Cause, receipt: Receipt) -> int:
        """Do what `Operations.revoke_all` says; how durable it is, is noted in *receipt*."""
        ended = 0
        self._store.forget_subject(subject, kept)
        try:
            for place in self._store.places(subject):
                left = 1
                while left:
                    count, left = await self._store.remove_all(place, kept, _REVOKED_TOGETHER, cause, receipt)
                    ended += count
        finally:  # another task or thread may have read one while that was on its way
            self._store.forget_subject(subject, kept)
        log.info("sessions_revoked", extra={"count": ended, "kept": str(kept) if kept else None})
        return ended

    async def erase(self, subject: str) -> int:
        """Do what `Operations.erase` says."""
        receipt = Receipt(Write.REVOCATION)
        ended = await self.end(subject, None, NO_CAUSE, receipt)
        self._store.waits.check(receipt)
        for place in self._store.places(subject):
            await self._store.erase_traces(place)
        log.info("subject_erased", extra={"count": ended})
        return ended

    def _describe(self, subject: str, handle: Handle, record: bytes, ends_at: int, now: int) -> SessionInfo | None:
        """Describe a session that *subject*'s index lists; None if it is not that subject's, or does not open."""
        try:
            header, payload = self._store.open(handle, record)
            shown = {
                name: decode(payload.attributes[name]) for name in self._policy.listed if name in payload.attributes
            }
        except RecordCorrupted:
            log.exception("session_record_corrupted", extra={"handle": str(handle)})
            return None
        if header.absolute_deadline <= now or payload.subject != subject:
            return None
        return SessionInfo(
            handle=handle,
            created_at=instant(header.created_at),
            last_seen=instant(max(header.seen_at, min(ends_at - header.idle_timeout, now))),
            idle_deadline=instant(ends_at),
            absolute_deadline=instant(header.absolute_deadline),
            metadata=shown,
            client=Client.parse(payload.client),
            device=payload.device,
        )
