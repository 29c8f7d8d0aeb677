"""The store, one method a command or script, with typed replies. Every call is one round trip.

Nothing is decided here; engine/operations.py does that, or the scripts in engine/lua.
"""

import logging
from collections.abc import Awaitable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from time import monotonic
from types import MappingProxyType
from typing import Any, Final

from coatcheck.engine import scripts
from coatcheck.engine.clock import Clock
from coatcheck.engine.companions import Along, Companions
from coatcheck.engine.deadline import OneDeadline
from coatcheck.engine.dictionaries import Dictionaries, DictionaryInfo, Dropped
from coatcheck.engine.durability import Receipt, Waits
from coatcheck.engine.erasure import erase_traces
from coatcheck.engine.keys import Keys
from coatcheck.engine.leases import Leases
from coatcheck.engine.near import Near
from coatcheck.engine.resealing import Resealed, reseal
from coatcheck.engine.server import Server
from coatcheck.engine.transport import Argument, Command, Transport
from coatcheck.model.activity import Activities, Activity
from coatcheck.model.device import class_of
from coatcheck.model.dictionary import SealedDictionaries
from coatcheck.model.errors import RecordCorrupted, StoreError, StoreUnavailable
from coatcheck.model.events import Cause, Event, EventType
from coatcheck.model.issued import IssuerSession
from coatcheck.model.keyring import Key, Keyring, Place
from coatcheck.model.partition import PARTITIONS
from coatcheck.model.policy import AtLimit, SessionPolicy
from coatcheck.model.record import Header, Payload, Records, pack_revision
from coatcheck.model.session import instant
from coatcheck.model.ticket import Handle
from coatcheck.model.training import Training

log = logging.getLogger("coatcheck")

Opened = tuple[Header, Payload]

ALL_PARTITIONS: Final = tuple(range(PARTITIONS))
_TOGETHER: Final = 8
GROUPS: Final = tuple(ALL_PARTITIONS[first : first + _TOGETHER] for first in range(0, PARTITIONS, _TOGETHER))
"""All partitions, those together for which long scripts may be sent at once: a server carries out what one client has
sent before it turns to the next client."""

NO_CAUSE: Final = Cause()
FIRST_PAGE: Final = b"0"
_NOWHERE: Final[frozenset[int]] = frozenset()
NO_PARTS: Final[Mapping[str, bytes]] = MappingProxyType({})

_ORDER: Final = {AtLimit.EVICT_OLDEST: "oldest", AtLimit.EVICT_IDLEST: "idlest", AtLimit.REFUSE: "refuse"}


@dataclass(frozen=True, slots=True)
class Limit:
    """How many sessions a subject may have (0: any number), in all and on a class of devices; what to do beyond."""

    sessions: int
    at_limit: AtLimit
    device: str | None = None
    of_device: int = 0

    @property
    def refuses(self) -> bool:
        """Whether a sign-in beyond a limit is refused."""
        return self._is_set and self.at_limit is AtLimit.REFUSE

    @property
    def evicts(self) -> bool:
        """Whether a sign-in beyond a limit ends another session."""
        return self._is_set and self.at_limit is not AtLimit.REFUSE

    def left(self, live: "Live") -> "Live":
        """Say how many more sessions there may be beside those that live; -1: any number."""
        return Live(
            max(0, self.sessions - live.sessions) if self.sessions else -1,
            max(0, self.of_device - live.of_device) if self.of_device else -1,
        )

    @property
    def _is_set(self) -> bool:
        return self.sessions > 0 or self.of_device > 0


@dataclass(frozen=True, slots=True)
class Live:
    """A number of sessions of a subject, and how many of them are on the class of devices that a Limit is about."""

    sessions: int = 0
    of_device: int = 0

    def __add__(self, other: "Live") -> "Live":
        """Add up what lives in two places."""
        return Live(self.sessions + other.sessions, self.of_device + other.of_device)


@dataclass(frozen=True, slots=True)
class Change:
    """What a save changes beside the attributes.

    place: where the session is listed (None: nowhere). relist: the same, if its deadlines change. event, why: what to
    tell of it.
    """

    place: Place | None = None
    relist: Place | None = None
    event: EventType | None = None
    why: str = ""


NO_CHANGE: Final = Change()


@dataclass(frozen=True, slots=True)
class Bound:
    """What a bind did: live sessions in the index, the record it took the place of, the handles it ended."""

    live: Live
    replaced: Opened | None
    ended: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outlived:
    """Nothing was stored: everybody's sessions created up to *epoch* (ms) have just ended, and this one with them."""

    epoch: int


class Refusal(Enum):
    """Why a bind wrote nothing."""

    LIMIT = "the subject has as many sessions as it may have"
    DEVICE_LIMIT = "the subject has as many sessions on such devices as it may have"
    ENDED = "the session to be replaced has ended"


_REFUSALS: Final = {0: Refusal.LIMIT, 2: Refusal.ENDED, 4: Refusal.DEVICE_LIMIT}
_OUTLIVED: Final = 3


class Store:
    """The records and indexes of one prefix, behind one transport."""

    def __init__(
        self, transport: Transport, keyring: Keyring, prefix: str, clock: Clock, policy: SessionPolicy
    ) -> None:
        """Work over *transport*."""
        self.transport = transport
        self.clock = clock
        self._keyring = keyring
        self._keys = Keys(prefix)
        self._records = Records(keyring, prefix)
        self.companions = Companions(self._keys, self._records, Activities(keyring, prefix), policy)
        sealed = SealedDictionaries(keyring, prefix)
        self._dictionaries = Dictionaries(transport, self._keys, sealed, self._records, clock)
        self.waits = Waits(policy.durability, self._keys)
        lease = policy.outage.read_lease if policy.outage else None
        self.leases = None if lease is None else Leases(lease)
        self.near = Near(policy.near_cache) if policy.near_cache else None

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys of the ring, the one in use first."""
        return self._keyring.keys

    async def now(self) -> int:
        """Give the server's time in ms; a round trip the first time only."""
        if not self.clock.is_known:
            await self._call()
        return self.clock.now()

    def time_for_one_call(self, began: float, deadline: int) -> int:
        """Give the server's time (ms) where a record that ends at *deadline* (ms) can be written in a single call.

        0 where something is to be asked before it or along with it; so too where the policy asks for durability.
        began: monotonic, seconds.
        """
        if self.waits.is_ever or began >= self.clock.due_at:
            return 0
        now = self.clock.now()
        return now if self._dictionaries.is_prepared(now, deadline) else 0

    def places(self, subject: str) -> tuple[Place, ...]:
        """Say where *subject* may be listed: a place for each key of the ring, the one for new entries first."""
        return self._keyring.places(self._keys.prefix, subject)

    def issued_places(self, issued: IssuerSession, claim: str) -> list[Place]:
        """Say where sessions with this *claim* of *issued* may be listed, as `places` does for subjects."""
        prefix, value = self._keys.prefix, issued.places()[claim]
        return list(dict.fromkeys(key.issued_place(prefix, claim, issued.issuer, value) for key in self.keys))

    async def enter_issued(
        self, entries: list[tuple[Place, str, int]], receipt: Receipt | None = None
    ) -> list[list[str]]:
        """Enter handles or marks in indexes of an issuer, with their scores; give what each has of the other kind."""
        now = await self.now()
        replies = await self._call(
            *(
                scripts.ISSUED.command((self._keys.issued(place),), entry, score, now)
                for place, entry, score in entries
            ),
            receipt=receipt,
            partitions={place.partition for place, _, _ in entries},
        )
        return [list(_shown(reply)) for reply in replies]

    async def place_of(self, handle: Handle, subject: str) -> Place | None:
        """Say where *subject*'s index lists *handle*; None if *handle* cannot be that subject's. Sends nothing.

        But for 1 subject in 256, while keys are rotated: its places share a partition, and the store is asked.
        """
        places = [place for place in self.places(subject) if place.partition == handle.partition]
        if len(places) > 1:
            scores = await self._call(*(("ZSCORE", self._keys.subject(place), handle.name) for place in places))
            places = [place for place, score in zip(places, scores, strict=True) if score is not None]
        return places[0] if places else None

    async def read(self, handle: Handle) -> Opened | None:
        """Read a record. Raises RecordCorrupted.

        None too for one that the partition's epoch has ended, and for one whose key the ring does not have: nobody
        can open it any more, or it is another application's. It is left alone.
        """
        return (await self.read_whole(handle, with_parts=False))[0]

    async def subject_of(self, handle: Handle) -> str | None:
        """Read whose session *handle* is; None too where the record does not open, so that it can be ended."""
        try:
            opened = await self.read(handle)
        except RecordCorrupted:
            return None
        return None if opened is None else opened[1].subject

    def read_leased(self, handle: Handle) -> Opened | None:
        """Give the record of *handle* from memory, if its lease lasts. Raises RecordCorrupted."""
        if self.leases is None or not self.clock.is_known:
            return None
        record = self.leases.find(handle, self.clock.now())
        return None if record is None else self._records.open(handle, record)

    def asking(self, handle: Handle, now: float, others: Iterable[str] = ()) -> Awaitable[list[Any]]:
        """Give what asks for *handle*, to be awaited at once; `known` and `read_whole` understand the one reply.

        now: monotonic, seconds. others: keys of its compartments.
        """
        command = ("MGET", self._keys.record(handle), self._keys.epoch(handle.partition), *others)
        return self.transport.call(command) if now < self.clock.due_at else self._call(command)

    def known(self, handle: Handle, reply: list[Any]) -> Opened | None:
        """Give the record that the reply to `asking` has brought, where it is known; None: it takes `read_whole`."""
        record, epoch = reply
        opened = None if record is None else self._records.recall(handle, record)
        return None if opened is None or (epoch is not None and opened[0].created_at <= _epoch(epoch)) else opened

    async def read_whole(
        self,
        handle: Handle,
        began: float | None = None,
        *,
        with_parts: bool = True,
        reply: list[Any] | None = None,
    ) -> tuple[Opened | None, Mapping[str, bytes]]:
        """Read a record as `read` does, and the compartments that the policy declares, by name and still sealed.

        began: when the operation that it is for began (monotonic, seconds); None: now. reply: to `asking`, if that was
        awaited before: where there are neither leases nor compartments.
        """
        others = self.companions.compartment_keys(handle) if with_parts and self.companions.names else ()
        leases, sent_at = self.leases, monotonic() if began is None else began
        if leases is not None and not self.clock.is_known:
            with OneDeadline(sent_at):
                await self.now()
                return await self.read_whole(handle, sent_at, with_parts=with_parts)
        changes, asked_at = (0, 0) if leases is None else (leases.changes, self.clock.now())
        record, epoch, *found = (await self.asking(handle, sent_at, others))[0] if reply is None else reply
        if record is None:
            with OneDeadline(sent_at):
                if not await self.transport.has_stood_since(sent_at):
                    ((record, epoch, *found),) = await self.asking(handle, monotonic(), others)
        opened = None if record is None or found else self._records.recall(handle, record)
        if opened is None:
            if record is not None and (found or self._records.lacks(record)) and self._records.has_key_of(record):
                await self._dictionaries.learn(record, *found, since=sent_at)
            opened = self._opened(handle, record)
        if opened is not None and epoch is not None and opened[0].created_at <= _epoch(epoch):
            opened = None
        if leases is not None and opened is not None:
            leases.keep(handle, record, opened[1].subject, asked_at, changes=changes)
        elif leases is not None:
            leases.drop(handle)
        return opened, self.companions.named(found) if others else NO_PARTS

    def _opened(self, handle: Handle, record: bytes | None) -> Opened | None:
        if record is None:
            return None
        if not self._records.has_key_of(record):
            log.error(
                "session_key_missing: session %s was sealed with key %s, which is not in the ring; it counts as none. "
                "Keep former keys in the ring until their last session has ended.",
                handle,
                record[2:4].hex(),
            )
            return None
        return self._records.open(handle, record)

    async def create(
        self, handle: Handle, header: Header, payload: Payload, along: Along, receipt: Receipt
    ) -> bool | Outlived:
        """Store a first record; False if the handle is taken."""
        await self._dictionaries.prepare(header.absolute_deadline)
        record, now = self._records.seal(handle, header, payload), header.seen_at
        keys = (self._keys.record(handle), *self._marks(handle.partition))
        command = scripts.CREATE.command(keys, record, header.ttl(now), handle.name, now)
        reply = await self._call_with(along, handle, header, now, command, receipt=receipt)
        return Outlived(_epoch(reply[1])) if len(reply) > 1 else bool(reply[0])

    async def replace(
        self,
        handle: Handle,
        revision: int,
        header: Header,
        payload: Payload,
        change: Change,
        *,
        receipt: Receipt,
        along: Along | None = None,
    ) -> Opened | bool:
        """Replace the record of *revision*. True: done; False: there is none; else the one of another revision."""
        await self._dictionaries.prepare(header.absolute_deadline)
        command = self.replacing(handle, revision, header, payload, change)
        code, *found = await self._call_with(along, handle, header, header.seen_at, command, receipt=receipt)
        return await self.opened(handle, *found) if found else bool(code)

    def replacing(
        self, handle: Handle, revision: int, header: Header, payload: Payload, change: Change = NO_CHANGE
    ) -> Command:
        """Make the command that replaces the record of *revision*; see `replace`. Nothing of *handle* is kept here."""
        self.forget(handle)
        now, record = header.seen_at, self._records.seal(handle, header, payload)
        key, epoch = self._keys.record(handle), self._keys.epoch(handle.partition)
        saved = pack_revision(revision), record, header.ttl(now)
        if change.event is None and change.relist is None:  # as nearly always
            return scripts.SAVE.command((key, epoch), *saved)
        keys: tuple[str, ...] = (key, epoch, self._keys.events(handle.partition))
        extra: tuple[Argument, ...] = ()
        if change.relist is not None:
            keys = (*keys, *self._indexes(change.relist))
            extra = (header.absolute_deadline,)
        digest, event = change.place.digest if change.place else b"", change.event.value if change.event else ""
        return scripts.SAVE.command(keys, *saved, handle.name, now, digest, event, change.why, *extra)

    async def extend(
        self, handle: Handle, header: Header, now: int, along: Along | None = None, receipt: Receipt | None = None
    ) -> bool:
        """Extend the idle deadline by what the record says; False if the session has ended.

        receipt: of what goes along; to extend alone waits for nothing.
        """
        touch = scripts.TOUCH.command((self._keys.record(handle), self._keys.epoch(handle.partition)), now)
        return bool(await self._call_with(along, handle, header, now, touch, receipt=receipt if along else None))

    async def send(self, along: Along, handle: Handle, header: Header, receipt: Receipt | None) -> None:
        """Send what is left of *along*, alone."""
        now = await self.now()
        await self._dictionaries.prepare(header.absolute_deadline)
        commands = along.commands(handle, header, now)
        if commands:
            replies = await self._write(handle, *commands, receipt=receipt)
            await self._take(along, replies)

    async def remove(
        self,
        handle: Handle,
        place: Place | None,
        *,
        revision: int | None = None,
        only_if_listed: bool = False,
        event: EventType | None = None,
        cause: Cause = NO_CAUSE,
        receipt: Receipt | None = None,
    ) -> tuple[bool, bytes | None]:
        """Delete a record and its index entries; give whether it was there and deleted, and the record.

        revision: delete it only if it has this one. only_if_listed: delete it only if the index at *place* has it.
        event: what to say of it.
        """
        keys: tuple[str, ...] = (self._keys.record(handle), *self._marks(handle.partition))
        digest = ""
        if place is not None:
            keys, digest = (*keys, *self._indexes(place)), place.digest
        expected, listed = b"" if revision is None else pack_revision(revision), int(only_if_listed)
        now, name = await self.now(), event.value if event else ""
        told = (now, name, cause.by, cause.why, self.companions.listed)
        command = scripts.REVOKE.command(keys, expected, handle.name, digest, listed, *told)
        self.forget(handle)
        (reply,) = await self._write(handle, command, receipt=receipt)
        record = reply[1] if reply[0] else None
        with suppress(StoreUnavailable):  # it is gone all the same; whoever opens it will see
            await self._dictionaries.learn(record)
        return reply[0] == 1, record

    async def remove_everyone(self, kept_for: int, cause: Cause, receipt: Receipt) -> None:
        """End every session created up to now, in all partitions. kept_for: how long to remember that, in ms."""
        if self.leases is not None:
            self.leases.drop_all()
        now = await self.now()
        try:
            await self._call(
                *(
                    scripts.REVOKE_EVERYONE.command(self._marks(partition), now, kept_for, cause.by, cause.why)
                    for partition in ALL_PARTITIONS
                ),
                receipt=receipt,
                partitions=set(),  # each script writes, however often it is sent
            )
        finally:
            if self.near is not None:
                self.near.drop_all()

    def _forget_ended(self, place: Place, names: list[bytes]) -> None:
        if self.leases is not None or self.near is not None:
            for name in _shown(names):
                with suppress(ValueError):  # what somebody else has planted there
                    self.forget(Handle.parse(f"{place.partition:02x}.{name}"))

    def forget(self, handle: Handle) -> None:
        """Read *handle* from memory no more."""
        if self.leases is not None:
            self.leases.drop(handle)
        if self.near is not None:
            self.near.drop(handle)

    def forget_subject(self, subject: str, keep: Handle | None) -> None:
        """Read the sessions of *subject* except *keep* from memory no more."""
        if self.leases is not None:
            self.leases.drop_subject(subject, keep)
        if self.near is not None:
            self.near.drop_subject(subject, keep)

    def open(self, handle: Handle, record: bytes) -> Opened:
        """Open a record that a reply has brought. Raises RecordCorrupted."""
        return self._records.open(handle, record)

    async def opened(self, handle: Handle, record: bytes) -> Opened:
        """Open a record as `open` does, and ask for the dictionary that this takes, if it has yet to be learnt."""
        await self._dictionaries.learn(record)
        return self._records.open(handle, record)

    async def bind(
        self,
        handle: Handle,
        header: Header,
        payload: Payload,
        place: Place,
        *,
        limit: Limit,
        elsewhere: Live,
        replacing: Handle | None,
        along: Along,
        receipt: Receipt,
    ) -> Bound | Refusal | Outlived:
        """Store and list the first record of a subject's session, unless a limit refuses it.

        elsewhere: how many sessions the subject has in other places. replacing: the subject's session in the
        same place that this one takes the place of; it must not have ended.
        """
        await self._dictionaries.prepare(header.absolute_deadline)
        command = scripts.BIND.command(
            (self._keys.record(handle), *self._indexes(place), *self._marks(place.partition)),
            self._records.seal(handle, header, payload),
            header.ttl(header.seen_at),
            handle.name,
            place.digest,
            header.seen_at,
            header.absolute_deadline,
            self._keys.stem(place.partition),
            limit.sessions,
            _ORDER[limit.at_limit],
            elsewhere.sessions,
            replacing.name if replacing else b"",
            self.companions.listed,
            limit.of_device,
            elsewhere.of_device,
        )
        reply = await self._call_with(along, handle, header, header.seen_at, command, receipt=receipt)
        if reply[0] in _REFUSALS:
            return _REFUSALS[reply[0]]
        if reply[0] == _OUTLIVED:
            return Outlived(_epoch(reply[1]))
        _, live, of_device, former, *ended = reply
        self._forget_ended(place, ended)
        if replacing is not None:
            self.forget(replacing)
        try:
            await self._dictionaries.learn(former)
            replaced = self._records.open(replacing, former) if replacing and former else None
        except StoreError:  # a newer version wrote it meanwhile; the sign-in stands, and its owner must learn so
            log.exception("session_record_corrupted", extra={"handle": str(replacing)})
            replaced = None
        return Bound(Live(live, of_device), replaced, _shown(ended))

    async def trim(
        self, place: Place, limit: Limit, allowed: Live, receipt: Receipt | None = None
    ) -> tuple[Live, tuple[str, ...]]:
        """End sessions until *allowed* are left (-1: none is ended); give how many live, and the ended handles."""
        now, stem = await self.now(), self._keys.stem(place.partition)
        keys, order = (*self._indexes(place), *self._marks(place.partition)), _ORDER[limit.at_limit]
        told = (order, now, stem, place.digest, self.companions.listed)
        command = scripts.TRIM.command(keys, allowed.sessions, *told, class_of(limit.device), allowed.of_device)
        (reply,) = await self._call(command, receipt=receipt, partitions={place.partition})
        self._forget_ended(place, reply[2:])
        return Live(reply[0], reply[1]), _shown(reply[2:])

    async def remove_all(
        self, place: Place, keep: Handle | None, at_most: int, cause: Cause, receipt: Receipt
    ) -> tuple[int, int]:
        """Delete the sessions listed at *place* except *keep*; give how many, and how many are left to delete.

        The script does nothing where it arrives after the deadline: it would end what has begun since it was given up.
        """
        spared = keep.name if keep is not None and keep.partition == place.partition else b""
        stem = self._keys.stem(place.partition)
        keys, now = (*self._indexes(place), *self._marks(place.partition)), await self.now()
        told = (now, cause.by, cause.why, self.companions.listed)
        while True:
            until, asked_at = now + int(1000 * self.transport.time_left()), monotonic()
            command = scripts.REVOKE_ALL.command(keys, stem, place.digest, spared, at_most, *told, until)
            ((ended, *left),) = await self._call(command, receipt=receipt, partitions={place.partition})
            if ended >= 0:
                return ended, left[0]
            # Too late, and told so in time: the server's clock was set, or it is another's. To go by that is right.
            seconds, microseconds = map(int, left)
            self.clock.learn((seconds, microseconds), asked_at)
            now = seconds * 1000 + microseconds // 1000

    async def page(
        self, place: Place, cursor: bytes, count: int
    ) -> tuple[bytes | None, list[tuple[Handle, bytes, int]]]:
        """Read some of the sessions listed at *place*: handle, record and TTL (ms) of the live ones.

        cursor: FIRST_PAGE, then what the page before gave, until that is None.
        """
        keys, stem = (self._keys.subject(place), self._keys.epoch(place.partition)), self._keys.stem(place.partition)
        ((following, *rest),) = await self._call(scripts.LIST.command(keys, stem, cursor, count))
        await self._dictionaries.learn(*rest[1::3])
        handles = [_named(place.partition, name) for name in _shown(rest[::3])]
        found = zip(handles, rest[1::3], rest[2::3], strict=True)
        live = [(handle, record, ttl) for handle, record, ttl in found if handle is not None]
        return (None if following == FIRST_PAGE else following), live

    async def time_left(self, sessions: Iterable[tuple[Handle, int]]) -> list[int]:
        """Ask how many ms are left to sessions, each given with when it was created (ms); 0 or less: it has ended."""
        asked = list(sessions)
        partitions = sorted({handle.partition for handle, _ in asked})
        if not asked:
            return []
        replies = await self._call(
            *(("PTTL", self._keys.record(handle)) for handle, _ in asked),
            *(("GET", self._keys.epoch(partition)) for partition in partitions),
        )
        epochs = dict(zip(partitions, map(_epoch, replies[len(asked) :]), strict=True))
        return [
            0 if created_at <= epochs[handle.partition] else left
            for (handle, created_at), left in zip(asked, replies, strict=False)
        ]

    async def sweep(self, partitions: tuple[int, ...], at_most: int) -> list[tuple[int, int]]:
        """Settle what is due in the expiry indexes: entries looked at and sessions ended, for each partition."""
        now = await self.now()
        replies = await self._call(*(self._sweep(partition, now, at_most) for partition in partitions))
        return [(reply[0], len(reply) - 1) for reply in replies]

    async def read_events(self, group: str, consumer: str, at_most: int, claim_after: int) -> list[Event]:
        """Take events of all partitions for *consumer* of *group*: at most *at_most* of each. claim_after: ms.

        A round trip for each of GROUPS. What was read before one that fails is claimed again, as is any that nobody
        acknowledges.
        """
        told = (group, consumer, at_most, claim_after)
        found: list[Event] = []
        for partitions in GROUPS:
            replies = await self._call(
                *(scripts.READ_EVENTS.command((self._keys.events(partition),), *told) for partition in partitions)
            )
            for partition, entries in zip(partitions, replies, strict=True):
                events = (_event(partition, entry) for entry in entries)
                found += [event for event in events if event is not None]
        return found

    async def acknowledge_events(self, group: str, events: Iterable[Event]) -> int:
        """Take *events* off the group's pending ones; give how many were among them."""
        names: dict[int, list[str]] = {}
        for event in events:
            names.setdefault(event.partition, []).append(event.id)
        if not names:
            return 0
        replies = await self._call(
            *(("XACK", self._keys.events(partition), group, *ids) for partition, ids in names.items())
        )
        return sum(replies)

    def _sweep(self, partition: int, now: int, at_most: int) -> Command:
        subjects, expiry = self._indexes(Place(partition, ""))
        return scripts.SWEEP.command(
            (expiry, *self._marks(partition)),
            now,
            self._keys.stem(partition),
            subjects,
            at_most,
            self.companions.listed,
        )

    def _indexes(self, place: Place) -> tuple[str, str]:
        return self._keys.subject(place), self._keys.expiry(place.partition)

    def _marks(self, partition: int) -> tuple[str, str]:
        return self._keys.epoch(partition), self._keys.events(partition)

    async def server(self) -> Server:
        """Ask what the server is."""
        return Server.read((await self.transport.call(("HELLO",)))[0])

    async def reseal(self, batch: int) -> Resealed:
        """Seal with the first key of the ring what another has sealed; some round trips for each *batch* of keys."""
        found = await reseal(self.transport, self._keys, self._records, batch)
        await self._dictionaries.reseal()
        return found

    async def train_dictionary(self, at_most: int, batch: int) -> Training:
        """Train a dictionary on at most *at_most* sessions; some round trips for each *batch* of keys."""
        await self.now()
        return await self._dictionaries.train(at_most, batch)

    async def dictionaries(self) -> list[DictionaryInfo]:
        """List the dictionaries, the one that was put to use last first."""
        return await self._dictionaries.list()

    async def drop_dictionary(self, dictionary_id: int, batch: int) -> Dropped | None:
        """Put a dictionary out of use, and delete it if no record needs it; None if there is none of that id."""
        await self.now()
        return await self._dictionaries.drop(dictionary_id, batch)

    async def erase_traces(self, place: Place) -> None:
        """Remove what is left of the subject at *place* beside its sessions; some round trips."""
        await erase_traces(self.transport, self._keys, place)

    async def activity(
        self, handle: Handle, since: int | None, until: int | None, limit: int, *, newest_first: bool
    ) -> list[Activity]:
        """Read what was done in a session between two instants (ms)."""
        command = self.companions.reading(handle, since, until, limit, newest_first=newest_first)
        (reply,) = await self._call(command)
        return self.companions.read(handle, reply)

    async def _call_with(
        self,
        along: Along | None,
        handle: Handle,
        header: Header,
        now: int,
        command: Command,
        *,
        receipt: Receipt | None,
    ) -> Any:
        """Carry out *command*, and what goes along with it behind it; give the reply to *command*."""
        further = along.commands(handle, header, now) if along else []
        reply, *replies = await self._write(handle, command, *further, receipt=receipt)
        if along:
            await self._take(along, replies)
        return reply

    async def _write(self, handle: Handle, *commands: Command, receipt: Receipt | None) -> list[Any]:
        """Carry out *commands*, which write what is stored of *handle*; the near cache has nothing of before then."""
        if self.near is None:
            return await self._call(*commands, receipt=receipt, partitions={handle.partition})
        self.near.drop(handle)
        try:
            return await self._call(*commands, receipt=receipt, partitions={handle.partition})
        finally:  # another task or thread may have read it while that was on its way
            self.near.drop(handle)

    async def _take(self, along: Along, replies: list[Any]) -> None:
        """Note the replies to what went along, once what they bring can be opened."""
        await self._dictionaries.learn(*(record for _, *there in replies for record in there))
        along.take(replies)

    async def _call(
        self, *commands: Command, receipt: Receipt | None = None, partitions: AbstractSet[int] = _NOWHERE
    ) -> list[Any]:
        """Carry out *commands*; ask for the time in the same round trip when that is due.

        receipt: what they are, to be waited for as the policy asks, if they write; to *partitions*.
        """
        waiting = self.waits.behind(receipt, partitions)
        if waiting:  # not with TIME: its reply would be as old as the wait is long
            await self.waits.prepare(receipt, self.transport)
            replies = await self.transport.call(*commands, *waiting)
            self.waits.take(receipt, replies[-1])
            return replies[: len(commands)]
        asked_at = monotonic()
        if asked_at < self.clock.due_at:
            return await self.transport.call(*commands)
        *replies, time = await self.transport.call(*commands, ("TIME",))
        self.clock.learn(time, asked_at)
        return replies


def _epoch(stored: bytes | None) -> int:
    """Read the epoch of a partition (ms); 0 for none. Raises RecordCorrupted for what is no instant."""
    try:
        return int(stored or 0)
    except ValueError:
        raise RecordCorrupted("the epoch of a partition is no instant: somebody else has written it") from None


def _named(partition: int, name: str) -> Handle | None:
    """Read the name of a handle; None for what somebody else has put into an index."""
    try:
        return Handle.parse(f"{partition:02x}.{name}")
    except ValueError:
        return None


def _shown(names: list[bytes]) -> tuple[str, ...]:
    """Give what an index lists as text, also what is no name of a handle."""
    return tuple(name.decode(errors="replace") for name in names)


def _event(partition: int, entry: tuple[bytes, list[bytes]]) -> Event | None:
    """Read an entry of a stream; None for what is not understood: a later version's, or somebody else's."""
    name, flat = entry
    try:
        fields = {key.decode(): value.decode() for key, value in zip(flat[::2], flat[1::2], strict=True)}
        return Event(
            type=EventType(fields["t"]),
            partition=partition,
            handle=Handle.parse(f"{partition:02x}.{fields['h']}") if fields["h"] else None,
            subject_digest=fields["s"] or None,
            at=instant(int(fields["at"])),
            by=fields["by"] or None,
            why=fields["why"] or None,
            id=name.decode(),
        )
    except (LookupError, ValueError, OverflowError):
        log.warning("session_event_not_understood", extra={"partition": partition})
        return None
