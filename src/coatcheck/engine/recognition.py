"""Recognising the client of a session: whether a request comes from where the session is known to be used."""

import logging

from msgspec.structs import replace

from coatcheck.engine.durability import Receipt
from coatcheck.engine.store import Change, Opened, Store
from coatcheck.engine.writer import ATTEMPTS, Writer
from coatcheck.model.client import Client, ClientPolicy, Comparison, OnChange
from coatcheck.model.durability import Write
from coatcheck.model.errors import StoreError, StoreUnavailable
from coatcheck.model.events import Cause, EventType
from coatcheck.model.keyring import Place
from coatcheck.model.record import Payload
from coatcheck.model.session import Session
from coatcheck.model.ticket import Handle

log = logging.getLogger("coatcheck")


class Recognition:
    """Compares clients under one policy, and writes down what has changed."""

    __slots__ = ("_policy", "_store", "_writer")

    def __init__(self, store: Store, writer: Writer, policy: ClientPolicy) -> None:
        """Work on *store*."""
        self._store = store
        self._writer = writer
        self._policy = policy

    def knows(self, session: Session, seen: Client) -> bool:
        """Say whether nothing has changed, as far as *session* says."""
        return self._compare(session.payload, seen).client.text == session.payload.client

    async def recognise(self, session: Session, seen: Client) -> bool:
        """Do what `Operations.recognise` says."""
        session.client = seen
        handle, base, current = session.handle, session.header, session.payload
        if handle is None or base is None or self._compare(current, seen).client.text == current.client:
            return True
        if session.is_changed:
            raise ValueError("a session's client is to be recognised before anything is done to the session")
        place = None if current.subject is None else await self._store.place_of(handle, current.subject)
        for attempt in range(1, ATTEMPTS):
            found = self._compare(current, seen)
            if found.reaction is OnChange.END:
                await self._end(session, handle, found)
                return False
            if found.client.text == current.client:  # another request of the same client has done it
                self._writer.settle(session, session.ticket, base, current)
                return True
            outcome = await self._note(session, handle, (base, current), found, place=place)
            if isinstance(outcome, bool):
                return outcome
            base, current = outcome
            await self._writer.pause(attempt)
        raise StoreUnavailable(f"session {handle} is being written by too many others at once")

    def _compare(self, current: Payload, seen: Client) -> Comparison:
        return self._policy.compare(Client.parse(current.client), seen)

    async def _end(self, session: Session, handle: Handle, found: Comparison) -> None:
        """End the session, unless another request has; only the one that did sees it as ended."""
        cause = Cause(why=f"client changed: {found.why}")
        receipt = Receipt(Write.REVOCATION)
        if await self._writer.end(handle, session.payload.subject, cause=cause, receipt=receipt) is not None:
            session.now_ended()
            self._writer.confirm(session, receipt)

    async def _note(
        self,
        session: Session,
        handle: Handle,
        stored: Opened,
        found: Comparison,
        *,
        place: Place | None,
    ) -> Opened | bool:
        """Write the new client; reply as `Store.replace` does. An outage is no reason to stop what is only observed."""
        (base, current), receipt = stored, Receipt(Write.SAVE)
        event = None if found.reaction is None else EventType.CLIENT_CHANGED
        try:
            header = session.next_header(base, await self._store.now())
            if header.ttl(header.seen_at) <= 0:
                return False
            payload = current.following(current.attributes, b"", header.seen_at - base.seen_at)
            assurance = 0 if found.reaction is OnChange.STEP_UP else current.assurance
            payload = replace(payload, client=found.client.text, assurance=assurance)
            change = Change(place, event=event, why=found.why)
            outcome = await self._store.replace(handle, base.revision, header, payload, change, receipt=receipt)
        except StoreError as error:
            if found.reaction is OnChange.STEP_UP:
                raise
            log.warning("session_client_not_noted: %s", error, extra={"handle": str(handle)})
            return True
        if outcome is True:
            self._writer.settle(session, session.ticket, header, payload)
            if event is not None:
                log.warning("session_client_changed", extra={"handle": str(handle), "why": found.why})
        return outcome
