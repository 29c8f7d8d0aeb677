"""The sign-in: how a session becomes a subject's, under a new handle, within the limit."""

import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID  # noqa: TID251  a type of value here

from coatcheck.engine.companions import Along
from coatcheck.engine.durability import Receipt
from coatcheck.engine.endings import Endings
from coatcheck.engine.issued import IssuerLinks, logged_out
from coatcheck.engine.store import Limit, Live, Opened, Outlived, Refusal, Store
from coatcheck.engine.writer import Writer
from coatcheck.model.codec import encode
from coatcheck.model.delta import Operation, Set, apply
from coatcheck.model.durability import Write
from coatcheck.model.errors import DurabilityNotReached, SessionLimitReached, SessionRevoked, StoreError
from coatcheck.model.events import Cause
from coatcheck.model.issued import IssuerSession
from coatcheck.model.keyring import Place
from coatcheck.model.policy import SessionPolicy
from coatcheck.model.record import Header, Payload
from coatcheck.model.session import Session
from coatcheck.model.ticket import Handle

log = logging.getLogger("coatcheck")


class SignIn:
    """Signs subjects in under one policy."""

    __slots__ = ("_endings", "_links", "_policy", "_store", "_writer")

    def __init__(
        self, store: Store, writer: Writer, links: IssuerLinks, endings: Endings, policy: SessionPolicy
    ) -> None:
        """Work on *store*. endings: who ends later what cannot be ended now."""
        self._endings = endings
        self._links = links
        self._store = store
        self._writer = writer
        self._policy = policy

    async def carry_out(self, session: Session, subject: str, assurance: int) -> None:
        """Do what `Operations.bind` says."""
        _check(subject, assurance)
        naming = self._naming(session, subject)
        self._policy.caps.check(apply([*session.delta(), *naming], session.stored), session.stored)
        place, *older = self._store.places(subject)
        crossing = self._policy.carried if session.subject is None else None
        brought = _parts_to_bring(session, subject, crossing)
        along = self._store.companions.moving(session, brought)
        replacing = session.handle if session.subject == subject else None
        ticket, issued = session.next_ticket(Handle.new(place.partition)), session.link_for(subject)
        await self._link(session, issued, ticket.handle)
        if session.subject is not None and (replacing is None or replacing.partition != place.partition):
            ending = Receipt(Write.REVOCATION)
            await self._writer.take(session, Cause(why="another sign-in"), ending, keep=replacing is not None)
            self._store.waits.check(ending)
            replacing = None
        anonymous = session.handle if replacing is None else None
        changes, base = [*session.delta(), *naming], session.header
        limit = self._limit_of(session.device)
        elsewhere, earliest = await self._count(older, limit) if limit.refuses else Live(), 0
        receipt = Receipt(Write.SIGN_IN)
        while True:
            header = session.new_header(max(await self._store.now(), earliest), ticket.digest)
            attributes = apply(changes, _only(session.stored, crossing))
            payload = Payload(
                subject,
                attributes,
                signed_in_at=header.created_at,
                assurance=assurance,
                issued=issued.pack() if issued else [],
                client=session.client.text,
                device=session.device,
            )
            bound = await self._store.bind(
                ticket.handle,
                header,
                payload,
                place,
                limit=limit,
                elsewhere=elsewhere,
                replacing=replacing,
                along=along,
                receipt=receipt,
            )
            if not isinstance(bound, Outlived):
                break
            earliest, along = bound.epoch + 1, self._store.companions.moving(session, brought)
        if bound is Refusal.LIMIT:
            raise SessionLimitReached(f"the policy allows {limit.sessions} sessions at once, and no more")
        if bound is Refusal.DEVICE_LIMIT:
            raise SessionLimitReached(
                f"the policy allows {limit.of_device} sessions at once on devices of the class {limit.device!r}, "
                "and no more"
            )
        if bound is Refusal.ENDED:
            raise SessionRevoked(f"session {replacing} has ended; nothing was written")
        await self._link_for_good(session, issued, ticket.handle, header, subject)
        ended = bound.ended
        if limit.evicts and older:
            ended += await self._trim(older, limit, bound.live, receipt)
        self._writer.settle(session, ticket, header, payload)
        await self._finish(session, along, receipt)
        log.info("session_bound", extra={"handle": str(ticket.handle), "ended": list(ended)})
        former = bound.replaced
        if anonymous is not None:
            former = await self._end_anonymous(anonymous)
        if former is not None and base is not None and former[0].revision != base.revision:
            session.merge(apply(changes, _only(former[1].attributes, crossing)))
            await self._writer.update(session, session.delta())

    async def _finish(self, session: Session, along: Along, receipt: Receipt) -> None:
        """Send what is left to send. A sign-in that falls short ends again, now or soon: nobody gets its identifier."""
        try:
            await self._writer.finish(session, along, receipt)
        except DurabilityNotReached:
            handle, cause = session.handle, Cause(why="not durable")
            if handle is not None:
                try:
                    await self._writer.end(handle, session.payload.subject, cause=cause)
                except StoreError:  # the wait may have taken nearly all of the time
                    self._endings.keep(handle, cause)
            session.now_ended()
            raise

    async def _link(self, session: Session, issued: IssuerSession | None, handle: Handle, deadline: int = 0) -> None:
        """Link *handle* to *issued*, if there is one. If that has ended, so has *session*; raises SessionRevoked."""
        if issued is None:
            return
        try:
            await self._links.link(issued, handle, deadline)
        except SessionRevoked:
            session.revoke()
            raise

    async def _link_for_good(
        self, session: Session, issued: IssuerSession | None, handle: Handle, header: Header, subject: str
    ) -> None:
        """Link the bound session until its deadline; end it if *issued* has ended meanwhile, and raise SessionRevoked.

        Nobody has its identifier yet: should the store be lost here, nobody will.
        """
        if issued is None:
            return
        try:
            await self._link(session, issued, handle, header.absolute_deadline)
        except SessionRevoked:
            await self._writer.end(handle, subject, cause=logged_out(issued))
            raise

    def _naming(self, session: Session, subject: str) -> list[Operation]:
        """List what sets the policy's subject_attribute; apart, since a refused sign-in must leave no trace."""
        attribute = self._policy.subject_attribute
        if attribute is None or subject_of(session.peek(attribute)) == subject:
            return []
        return [Set((attribute,), encode(subject, attribute))]

    async def _end_anonymous(self, handle: Handle) -> Opened | None:
        """End the session that a sign-in has left behind; give what it held, or None.

        A failure is not raised: the sign-in stands and its owner must get the new identifier, for it may be the
        only one that the limit allows.
        """
        try:
            record = await self._writer.end(handle, None, event=None)
            return None if record is None else self._store.open(handle, record)
        except StoreError as error:
            log.warning("session_left_behind: %s", error, extra={"handle": str(handle)})
            return None

    def _limit_of(self, device: str | None) -> Limit:
        return Limit(self._policy.limit or 0, self._policy.at_limit, device, self._policy.limit_of(device))

    async def _count(self, places: list[Place], limit: Limit) -> Live:
        live = Live()
        for place in places:
            live += (await self._store.trim(place, limit, Live(-1, -1)))[0]
        return live

    async def _trim(self, places: list[Place], limit: Limit, live: Live, receipt: Receipt) -> tuple[str, ...]:
        """Leave in *places* what the limit allows beside those that *live* in another place; give what has ended."""
        ended: tuple[str, ...] = ()
        for place in places:
            remaining, gone = await self._store.trim(place, limit, limit.left(live), receipt)
            live, ended = live + remaining, ended + gone
        return ended


def check_subject(subject: Any) -> str:
    """Refuse a subject that is not a str: 7 and "7" must not be two people, nor one by accident."""
    if not isinstance(subject, str):
        raise TypeError(f"a subject is a str, not {type(subject).__name__}: pass str(subject)")
    return str.__str__(subject)  # a member of an enum is read back as its text


def subject_of(value: Any) -> str | None:
    """Give the subject that an attribute's value names; None for nobody (None, "", False).

    Raises TypeError for what cannot be told apart for certain: everybody would share one subject.
    """
    if value is None or value is False or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | UUID):
        raise TypeError(f"the policy's subject_attribute must hold a str, an int or a UUID, not {type(value).__name__}")
    return str(value)


def _parts_to_bring(session: Session, subject: str, crossing: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Name the compartments that a sign-in of *subject* brings along (None: all): none of another subject's."""
    return crossing if session.subject in {None, subject} else ()


def _only(attributes: Mapping[str, bytes], names: tuple[str, ...] | None) -> Mapping[str, bytes]:
    """Give the attributes that have one of *names*; None for all."""
    return attributes if names is None else {name: attributes[name] for name in names if name in attributes}


def _check(subject: str, assurance: int) -> None:
    if not check_subject(subject):
        raise ValueError("the subject must not be empty")
    if assurance not in {1, 2, 3}:
        raise ValueError(f"assurance is 1, 2 or 3, not {assurance!r}")
