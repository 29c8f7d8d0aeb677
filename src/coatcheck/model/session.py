"""The session, as the code of a request sees it: a mapping that never does I/O.

What was done to it is kept; `save` carries it to the store.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from os import urandom
from typing import Any

from msgspec.structs import replace

from coatcheck.model.activity import Recorded
from coatcheck.model.attributes import Attributes
from coatcheck.model.client import NO_CLIENT, Client
from coatcheck.model.compartment import Compartment, Compartments, check_idle_timeout
from coatcheck.model.delta import Operation, apply, without_counts
from coatcheck.model.device import check_device, class_of
from coatcheck.model.durability import Reached
from coatcheck.model.issued import IssuerSession
from coatcheck.model.policy import SessionPolicy, check_timeouts, milliseconds
from coatcheck.model.record import WRITE_ID_BYTES, Header, Payload
from coatcheck.model.ticket import Handle, Ticket


class Status(Enum):
    """What has become of a session in this process."""

    NEW = "new"
    """Nothing of it is stored."""
    CLEAN = "clean"
    """As it is in the store."""
    CHANGED = "changed"
    """`save` will write it."""
    ROTATED = "rotated"
    """Its identifier has changed and its owner does not have the new one yet."""
    REVOKED = "revoked"
    """It has ended, or `save` will end it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """A line of "where am I logged in?". All instants are aware and in UTC.

    last_seen is exact to a tenth of the idle timeout; within an idle timeout of the absolute deadline it is
    the latest moment that can be proved, and may lie earlier than the truth.
    metadata holds the attributes that the policy lists; the repr leaves it out. client: who used it last, where the
    policy looks at that.
    device: the class of device, if the application has said it.
    """

    handle: Handle
    created_at: datetime
    last_seen: datetime
    idle_deadline: datetime
    absolute_deadline: datetime
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    client: Client = NO_CLIENT
    device: str | None = None


class Session(Attributes):
    """A session: a mapping of its attributes, and what is known of it.

    strict: set it to True to have a save raise SessionConflict, and write nothing, where another request
    changed one of the same attributes meanwhile; by default the last writer wins. Increments never conflict.

    is_leased: whether it was read from this process's memory, for the store could not be reached: see `OutagePolicy`.
    It cannot be saved then, and its compartments are left out.

    is_near: whether it was read from this process's memory, as the policy's near_cache lets it be, and may lag behind
    the store by as much as that says. It can be changed and saved like any other.

    durability: how far the last write of it had got when the store replied; None before one, and where the policy asks
    for nothing but memory.

    rests_until: for the engine: until when its use need not be noted in the store (ms); 0: that is not known.
    """

    __slots__ = (
        "_attempts",
        "_device",
        "_issuer_session",
        "_next_secret",
        "_parts",
        "_policy",
        "_recorded",
        "_renewal_wanted",
        "_rotation",
        "_rotation_wanted",
        "_seen_at",
        "_settings_wanted",
        "client",
        "cookie_due",
        "durability",
        "ended",
        "header",
        "is_leased",
        "is_near",
        "payload",
        "rests_until",
        "strict",
        "ticket",
        "token_given",
    )

    def __init__(
        self,
        policy: SessionPolicy,
        *,
        ticket: Ticket | Handle | None = None,
        header: Header | None = None,
        payload: Payload | None = None,
        seen_at: int = 0,
        parts: Compartments | None = None,
    ) -> None:
        """Make a new session under *policy*, or present a stored one. For the engine; apps get theirs from it."""
        self.payload = payload = payload or Payload()
        Attributes.__init__(self, payload.attributes, policy.caps)  # super() costs as much as all that this does
        self._policy = policy
        self.ticket = ticket
        self.header = header
        self.client = NO_CLIENT if policy.client is None else Client.parse(payload.client)
        self.strict = False
        self.durability: Reached | None = None
        self.ended = False
        self.cookie_due = False
        self.is_leased = self.is_near = False
        self.token_given = False
        self.rests_until = 0
        self._next_secret: bytes | None = None
        self._rotation: Ticket | None = None
        self._settings_wanted: tuple[int, int, bool] | None = None
        self._device = payload.device
        self._rotation_wanted = self._renewal_wanted = False
        self._issuer_session: IssuerSession | None = None
        self._attempts: tuple[tuple[list[Operation], bytes], ...] = ()
        self._seen_at = seen_at
        self._parts = parts  # these two are made when somebody asks for them
        self._recorded: Recorded | None = None

    # What is known of it. To ask whose it is, or how old, is an access: the response depends on the session.

    @property
    def handle(self) -> Handle | None:
        """Its public name; None while nothing is stored."""
        return self.ticket.handle if isinstance(self.ticket, Ticket) else self.ticket

    @property
    def identifier(self) -> str | None:
        """The cookie's value, for its owner only; None while nothing is stored or its secret is not known here."""
        return self.ticket.identifier if isinstance(self.ticket, Ticket) else None

    @property
    def subject(self) -> str | None:
        """Whose session it is; None while it is anonymous."""
        self.accessed = True
        return self.payload.subject

    @property
    def status(self) -> Status:
        """What has become of it in this process."""
        if self.ended:
            return Status.REVOKED
        if self.header is None:
            return Status.NEW
        if self.is_changed:
            return Status.CHANGED
        return Status.ROTATED if self.cookie_due else Status.CLEAN

    @property
    def is_new(self) -> bool:
        """Whether nothing of it is stored."""
        self.accessed = True
        return self.header is None

    @property
    def is_changed(self) -> bool:
        """Whether a save has something to write."""
        return self.record_changed or (self.has_more and (self.parts.is_changed or bool(self.recorded)))

    @property
    def has_unsaved(self) -> bool:
        """Whether something would be lost without a save, other than a rotation."""
        if self.header is None or self.ended or self.settings_changed or self.link_wanted or self.device_changed:
            return True
        return bool(self.delta()) or self.parts.is_changed or bool(self.recorded)

    @property
    def is_superseded(self) -> bool:
        """Whether it was loaded with the secret from before the last rotation, which its grace still honours."""
        return self.header is not None and isinstance(self.ticket, Ticket) and self.ticket.digest != self.header.digest

    @property
    def created_at(self) -> datetime | None:
        """When it was created, or bound to its subject (aware, UTC); None while it is new."""
        self.accessed = True
        return instant(self.header.created_at) if self.header else None

    @property
    def absolute_deadline(self) -> datetime | None:
        """When it ends whatever happens (aware, UTC); None while it is new."""
        self.accessed = True
        return instant(self.header.absolute_deadline) if self.header else None

    @property
    def idle_deadline(self) -> datetime | None:
        """When it ends if it is not used (aware, UTC), exact to a tenth of the idle timeout; None while it is new."""
        self.accessed = True
        if self.header is None:
            return None
        return instant(min(self._seen_at + self.header.idle_timeout, self.header.absolute_deadline))

    @property
    def idle_timeout(self) -> timedelta:
        """How long it lives unused."""
        return timedelta(milliseconds=self._settings[0])

    @property
    def absolute_timeout(self) -> timedelta:
        """How long it lives from its creation on."""
        return timedelta(milliseconds=self._settings[1])

    @property
    def persistent(self) -> bool:
        """Whether the browser keeps the cookie when it closes."""
        return self._settings[2]

    @property
    def auth_time(self) -> datetime | None:
        """When its subject last proved who it is (aware, UTC); None while it is anonymous."""
        return instant(self.payload.signed_in_at) if self.payload.signed_in_at else None

    @property
    def assurance(self) -> int:
        """How strongly its subject proved that (NIST SP 800-63B: 1, 2 or 3); 0 while it is anonymous.

        0 too where the policy asks for a step-up and its client has changed since.
        """
        return self.payload.assurance

    @property
    def issuer_session(self) -> IssuerSession | None:
        """The session at an OpenID Connect issuer that it ends with: see `Operations.revoke_issued`.

        To be set where the subject signs in by an ID token, in the same request and before `bind` or the save that
        signs in: ``session.issuer_session = IssuerSession.of(claims)``. Where the session is that subject's already,
        the save signs in again. It stays when the same subject is bound again.
        """
        return self._issuer_session or IssuerSession.unpack(self.payload.issued)

    @issuer_session.setter
    def issuer_session(self, issued: IssuerSession | None) -> None:
        if not isinstance(issued, IssuerSession | None):
            raise TypeError(f"issuer_session is an IssuerSession, as IssuerSession.of(claims) makes it, not {issued!r}")
        self.accessed = True
        self._issuer_session = issued

    @property
    def device(self) -> str | None:
        """The class of device that it is used on ("phone"), by which the policy's device_limits count; None for none.

        Set it before the sign-in, at the latest in the request that signs in: that is when it counts. It stays across
        sign-ins and sign-outs, for the browser does. Set in a session that is signed in, it counts from the next
        sign-in. To set it stores nothing of a new session. Raises TypeError, or ValueError for over 64 characters.
        """
        self.accessed = True
        return self._device

    @device.setter
    def device(self, device: str | None) -> None:
        self._device = check_device(device)
        self.accessed = True

    def compartment(self, name: str, *, idle_timeout: timedelta | None = None) -> Compartment:
        """Give a part of the session that the policy declares: a mapping with an idle timeout of its own.

        idle_timeout: how long this one lives unused, instead of what the policy says; it is kept with what is in it.
        Raises ConfigurationError for a name that is not declared and for a timeout longer than the session's,
        RecordCorrupted.
        """
        self.accessed = True
        part = self.parts[name]
        if idle_timeout is not None:
            check_idle_timeout(name, idle_timeout, self.idle_timeout)
            part.idle = milliseconds(idle_timeout)
        return part

    # What can be asked of it; `save` carries it out

    def record(self, name: str, **fields: Any) -> None:
        """Note what was done, to be kept in order with the store's time; see `Operations.activity`.

        name: 1 to 200 characters ("view_product:123"). fields: values as attributes hold them. Raises TypeError or
        ValueError for what cannot be kept; an entry takes at most 8 KiB.
        """
        self.accessed = True
        self.recorded.add(name, fields)

    def set_timeouts(
        self,
        *,
        idle: timedelta | None = None,
        absolute: timedelta | None = None,
        persistent: bool | None = None,
    ) -> None:
        """Give this session timeouts of its own ("remember me"), both counted as the policy's are.

        persistent=False makes the browser forget the cookie when it closes. What is not given stays.
        Raises ConfigurationError unless idle <= absolute.
        """
        idle = self.idle_timeout if idle is None else idle
        absolute = self.absolute_timeout if absolute is None else absolute
        check_timeouts(idle, absolute)
        keep = self.persistent if persistent is None else persistent
        self.accessed = True
        self._settings_wanted = (milliseconds(idle), milliseconds(absolute), keep)

    def rotate(self) -> None:
        """Ask for a new secret: the identifier changes, the handle and the attributes stay."""
        self.accessed = True
        self.want_rotation()

    def revoke(self) -> None:
        """Ask for the end of the session: the save deletes it, and the response its cookie."""
        self.accessed = True
        self.ended = True

    def __repr__(self) -> str:
        """Show the handle and the status: neither the secret nor the attributes."""
        try:
            status = self.status.value
        except (TypeError, ValueError):  # a nested value that cannot be stored: for the save to say, not a log line
            status = Status.CHANGED.value
        return f"<Session {self.handle or 'new'} {status}>"

    # For the engine

    @property
    def parts(self) -> Compartments:
        """Its compartments."""
        if self._parts is None:
            self._parts = Compartments(self._policy)
        return self._parts

    @property
    def recorded(self) -> Recorded:
        """What was done in it, and is not saved yet."""
        if self._recorded is None:
            self._recorded = Recorded()
        return self._recorded

    @property
    def has_more(self) -> bool:
        """Whether something may have to be sent along with it: a compartment was asked for, or something recorded."""
        return bool((self._parts is not None and self._parts.known) or self._recorded)

    @property
    def record_changed(self) -> bool:
        """Whether a save must write the session's own record."""
        return self.is_asked_for_more or bool(self.delta())

    @property
    def _settings(self) -> tuple[int, int, bool]:
        """Idle timeout (ms), absolute timeout (ms) and persistence."""
        return self._settings_wanted or _settings(self.header or self._policy)

    @property
    def is_asked_for_more(self) -> bool:
        """Whether a save must write the record even if no attribute has changed."""
        if self._rotation_wanted or self._issuer_session is not None:
            return True
        return (self._settings_wanted is not None and self.settings_changed) or self.device_changed

    @property
    def is_surely_clean(self) -> bool:
        """Whether it is as in the store, told at once: False only says that this takes a closer look (`status`)."""
        if self._operations or self._baseline or self._cleared or self._recorded or self._rotation_wanted:
            return False
        if self.header is None or self.ended or self.cookie_due or self._device != self.payload.device:
            return False
        is_whole = self._parts is None or not self._parts.known
        return is_whole and self._settings_wanted is None and self._issuer_session is None

    @property
    def settings_changed(self) -> bool:
        """Whether `set_timeouts` has changed what is stored."""
        wanted = self._settings_wanted
        return wanted is not None and self.header is not None and wanted != _settings(self.header)

    @property
    def link_wanted(self) -> bool:
        """Whether issuer_session was set, and a sign-in must link the session to it."""
        return self._issuer_session is not None

    def link_for(self, subject: str) -> IssuerSession | None:
        """Say what the session is to be linked to if *subject* signs in."""
        kept = IssuerSession.unpack(self.payload.issued) if self.payload.subject == subject else None
        return self._issuer_session or kept

    @property
    def device_changed(self) -> bool:
        """Whether a save must write another class of device; that of a subject's session only a sign-in changes."""
        payload = self.payload
        return self._device != payload.device and payload.subject is None and self.header is not None

    @property
    def rotation_wanted(self) -> bool:
        """Whether a save must give it a new secret."""
        return self._rotation_wanted

    @property
    def was_tried_otherwise(self) -> bool:
        """Whether a save of other changes was tried before. To be asked once `write_id_for` has been."""
        return len(self._attempts) > 1

    @property
    def renewal_wanted(self) -> bool:
        """Whether a save must give it a new secret beside which no other is honoured."""
        return self._renewal_wanted

    @property
    def is_empty(self) -> bool:
        """Whether it holds nothing, and no page has a token of it: such a session is not worth a record."""
        if not self.parts.is_empty or self.recorded:
            return False
        return not self._current and self.payload.subject is None and not self.token_given

    def new_header(self, now: int, digest: bytes) -> Header:
        """Make the header of a first record, created *now*."""
        idle, absolute, persistent = self._settings
        return Header(
            revision=1,
            created_at=now,
            absolute_deadline=now + absolute,
            seen_at=now,
            idle_timeout=idle,
            persistent=persistent,
            digest=digest,
            device_class=class_of(self._device),
        )

    def next_header(self, base: Header, now: int) -> Header:
        """Make the header that follows *base*, with those of this session's timeouts that it changed."""
        header = base.following(now)
        if self.device_changed:
            header = replace(header, device_class=class_of(self._device))
        if not self.settings_changed:
            return header
        idle, absolute, persistent = (
            theirs if mine == loaded else mine
            for mine, loaded, theirs in zip(
                self._settings, _settings(self.header or self._policy), _settings(base), strict=True
            )
        )
        return replace(
            header,
            idle_timeout=min(idle, absolute),
            absolute_deadline=base.created_at + absolute,
            persistent=bool(persistent),
        )

    def next_payload(self, current: Payload, attributes: Mapping[str, bytes], write_id: bytes, elapsed: int) -> Payload:
        """Make the payload that follows *current*; see `Payload.following`."""
        payload = current.following(attributes, write_id, elapsed)
        return replace(payload, device=self._device) if self.device_changed else payload

    def want_rotation(self) -> None:
        """Have the next save give it a new secret, without counting that as the application's access."""
        self._rotation_wanted = self.header is not None

    def want_renewal(self) -> None:
        """Have the next save give it a new secret and honour no former one, not even for the grace."""
        self._rotation_wanted = self._renewal_wanted = self.header is not None

    def next_ticket(self, handle: Handle) -> Ticket:
        """Make the ticket of its next record, with the secret that tokens were made for already, if any were."""
        return Ticket.new(handle) if self._next_secret is None else Ticket(handle, self._next_secret)

    def rotated_ticket(self, handle: Handle) -> Ticket:
        """Make the ticket of its rotation; the same one when that is tried again: a try may have got through."""
        if self._rotation is None or self._rotation.handle != handle:
            self._rotation = Ticket.new(handle)
        return self._rotation

    def token_digest(self, *, moves: bool) -> bytes:
        """Give the digest of the secret that a token of it is made for, and count the token as given out.

        moves: a save will make another record of it. The secret of that is chosen now, so that the page that carries
        the token fits the cookie that comes with it.
        """
        self.accessed = self.token_given = True
        if self.header is not None and not moves:
            return self.header.digest
        ticket = self.next_ticket(Handle.new())
        self._next_secret = ticket.secret
        return ticket.digest

    def write_id_for(self, changes: list[Operation]) -> bytes:
        """Give the id of the write of *changes*: the same one when a save is tried again after a lost reply."""
        if not self._attempts or self._attempts[-1][0] != changes:
            self._attempts = (*self._attempts, (changes, urandom(WRITE_ID_BYTES)))
        return self._attempts[-1][1]

    def written_to(self, stored: Payload, changes: list[Operation]) -> Mapping[str, bytes]:
        """Give the attributes of *stored* with *changes*, the delta, made to them.

        Less what an earlier save, whose reply was lost, has already counted there.
        """
        if stored is self.payload and not self.was_tried_otherwise:
            changed = self.as_changed()
            if changed is not None:  # as nearly always
                return changed
        for attempted, write_id in reversed(self._attempts):
            if stored.has_write(write_id):
                changes = without_counts(changes, attempted)
                break
        return apply(changes, stored.attributes)

    def now_stored(self, ticket: Ticket | Handle | None, header: Header, payload: Payload) -> None:
        """Take note of what the store holds now."""
        former = self.header
        if (
            former is None
            or not (ticket is self.ticket or ticket == self.ticket)
            or header.persistent != former.persistent
            or header.absolute_deadline != former.absolute_deadline
        ):
            self.cookie_due = True
        if self._device == self.payload.device:
            self._device = payload.device
        self.ticket, self.header, self.payload = ticket, header, payload
        self.is_near, self.rests_until = False, 0
        self._settings_wanted = None
        self._rotation_wanted = self._renewal_wanted = False
        self._seen_at, self._attempts = header.seen_at, ()
        self._next_secret = self._issuer_session = self._rotation = None
        self.now_stored_as(payload.attributes)

    def now_read(self, other: "Session") -> None:
        """Take note of what the store holds now, as *other* was loaded. For a session in which nothing is changed."""
        if other.header is None:
            raise RuntimeError("only a stored session can be taken over")
        self.header, self.payload, self._parts = other.header, other.payload, other.parts
        self._settings_wanted = None
        self._device, self._seen_at = other.payload.device, other.last_seen
        self.is_near, self.rests_until = other.is_near, other.rests_until
        self.now_stored_as(other.payload.attributes)

    def now_new(self, attributes: Mapping[str, bytes]) -> None:
        """Take note that the stored session has ended, and that this one goes on with *attributes* as a new one.

        Timeouts go back to the policy's, unless this request has set them.
        """
        if not self.settings_changed:
            self._settings_wanted = None
        self.ticket = self.header = None
        self.payload = Payload(None, attributes)
        self._rotation_wanted = self._renewal_wanted = False
        self.now_stored_as(attributes)

    def now_ended(self) -> None:
        """Take note that the stored session has ended at this request's wish."""
        self.ended, self.header = True, None

    @property
    def last_seen(self) -> int:
        """When it was used last, as far as is known (ms)."""
        return self._seen_at

    def seen(self, now: int) -> None:
        """Take note that the store has extended the idle deadline."""
        self._seen_at = now


def instant(milliseconds_since_epoch: int) -> datetime:
    """Give ms since the epoch as an aware datetime in UTC."""
    return datetime.fromtimestamp(milliseconds_since_epoch / 1000, UTC)


def _settings(source: Header | SessionPolicy) -> tuple[int, int, bool]:
    """Give idle timeout (ms), absolute timeout (ms) and persistence, as *source* has them."""
    if isinstance(source, Header):
        return source.idle_timeout, source.absolute_deadline - source.created_at, source.persistent
    return milliseconds(source.idle_timeout), milliseconds(source.absolute_timeout), source.persistent
