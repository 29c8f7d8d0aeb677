"""Dictionaries in the store: which one records are compressed with, and those that are needed to open them.

A process that reads a record whose dictionary it does not know loads it then, once. One that writes asks every few
minutes which is in use, before it seals. A dictionary lives at least as long as the last record that was sealed with
it: a process has its life lengthened before it seals a record that would outlive it, or else seals without.
"""

import logging
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from coatcheck.engine import scripts
from coatcheck.engine.clock import Clock
from coatcheck.engine.deadline import OneDeadline
from coatcheck.engine.keys import Keys
from coatcheck.engine.resealing import scan
from coatcheck.engine.transport import Transport
from coatcheck.model.compression import Dictionary
from coatcheck.model.dictionary import SealedDictionaries
from coatcheck.model.errors import RecordCorrupted, SessionError
from coatcheck.model.header import dictionary_of
from coatcheck.model.payload import Payload
from coatcheck.model.record import Records
from coatcheck.model.session import instant
from coatcheck.model.ticket import Handle
from coatcheck.model.training import LARGEST_SAMPLE, MOST_BYTES, Sample, Training, train

log = logging.getLogger("coatcheck")

ASKED_EVERY: Final = 5 * 60_000
"""Ms: how long a process writes with a dictionary until it asks again which is in use."""
SETTLED: Final = 15 * 60_000
"""Ms after which no process writes any more with a dictionary that was put out of use, nor is a write under way."""
_AHEAD: Final = 7 * 24 * 3600 * 1000  # how much longer than it must a dictionary is kept, so that this is asked seldom
_CLOCK_ERROR: Final = 3600 * 1000
_NONE_IN_USE: Final = "-"
_MEMBER: Final = re.compile(r"[0-9a-f]{8}|-", re.ASCII)
_LAST_INSTANT: Final = 2**47  # ms; datetime ends before it could be told as a date


@dataclass(frozen=True, slots=True)
class DictionaryInfo:
    """A dictionary in the store. id: 8 hexadecimal digits. since: when it was put to use. bytes: sealed; 0: it is gone.

    left: how long it is kept, if no record is compressed with it any more.
    """

    id: str
    in_use: bool
    since: datetime
    bytes: int
    left: timedelta


@dataclass(frozen=True, slots=True)
class Dropped:
    """What has become of a dictionary that was to be dropped.

    deleted: it is gone. Else it is out of use; wait: how long until no process compresses with it any more.
    records: how many need it still.
    """

    deleted: bool
    wait: timedelta = timedelta(0)
    records: int = 0


class Dictionaries:
    """The dictionaries of one prefix, behind one transport."""

    def __init__(
        self, transport: Transport, keys: Keys, sealed: SealedDictionaries, records: Records, clock: Clock
    ) -> None:
        """Serve *records*. Nothing is asked yet."""
        self._transport = transport
        self._keys = keys
        self._sealed = sealed
        self._records = records
        self._clock = clock
        self._asked_at: int | None = None
        self._since = 0
        self._kept_until = 0

    def is_prepared(self, now: int, deadline: int) -> bool:
        """Say whether `prepare` would send nothing at *now* (ms), as nearly always."""
        asked_at = self._asked_at
        if asked_at is None or abs(now - asked_at) >= ASKED_EVERY:
            return False
        return self._records.in_use is None or deadline <= self._kept_until

    async def prepare(self, deadline: int) -> None:
        """Have records sealed with what is in use, before one is that ends at *deadline* (ms) at the latest.

        Sends nothing but every few minutes, or where the dictionary does not live as long. A failure is no obstacle:
        records are sealed without a dictionary then.
        """
        now = self._clock.now()
        if self.is_prepared(now, deadline):
            return
        asked_at = self._asked_at
        self._asked_at = now
        try:
            await self._refresh(now, deadline, is_sure=asked_at is not None and abs(now - asked_at) < SETTLED)
        except SessionError:
            self._records.use(None)
            log.warning("session_dictionary_unavailable", exc_info=True)

    async def learn(self, *records: bytes | None, since: float | None = None) -> None:
        """Load what it takes to open *records*. What is not in the store is left to `Records.open` to tell.

        since: when the operation that it is for began (monotonic, seconds), unless that shares its deadline already.
        """
        for record in records:
            if record is not None and (dictionary_id := self._records.lacks(record)):
                with OneDeadline(since):
                    await self._load(dictionary_id)

    async def train(self, at_most: int, batch: int) -> Training:
        """Do what `Operations.train_dictionary` says."""
        samples: list[Sample] = []
        size, cursor, is_through = 0, 0, False
        while not is_through:
            cursor, stored = await scan(self._transport, self._keys, cursor, batch)
            for sealed, record in stored:
                if not sealed.compartment and (sample := await self._sample(sealed.handle, record)) is not None:
                    samples.append(sample)
                    size += min(len(sample.body), LARGEST_SAMPLE)
            is_through = cursor == 0 or len(samples) >= at_most or size >= MOST_BYTES
        await self.prepare(self._clock.now())
        training = train(samples[:at_most], self._records.in_use)
        if training.pays:
            await self._add(training.dictionary, self._clock.now())
            self._asked_at = None  # the next write takes it
        return training

    async def _sample(self, handle: Handle, record: bytes) -> Sample | None:
        try:
            await self.learn(record)
            _, body = self._records.open_body(handle, record)
            return Sample(Payload.decode(body).subject or str(handle), body)
        except RecordCorrupted:
            return None

    async def list(self) -> list[DictionaryInfo]:
        """List the dictionaries, the one that was put to use last first."""
        listed = await self._listed()
        found = []
        for name, since in reversed(listed.items()):
            if name == _NONE_IN_USE:
                continue
            key = self._keys.dictionary(int(name, 16))
            content, left = await self._transport.call(("GET", key), ("PTTL", key))
            in_use, kept = name == next(reversed(listed)), timedelta(milliseconds=max(0, left))
            found.append(DictionaryInfo(name, in_use, instant(since), len(content or b""), kept))
        return found

    async def drop(self, dictionary_id: int, batch: int) -> Dropped | None:
        """Do what `Operations.drop_dictionary` says."""
        there, out_for = await self._put_out_of_use(dictionary_id, delete=False)
        if not there:
            return None
        if out_for < SETTLED:
            return Dropped(deleted=False, wait=timedelta(milliseconds=SETTLED - out_for))
        # From here on nobody seals with it: records that need it can only become fewer.
        cursor, needing = -1, 0
        while cursor:
            cursor, stored = await scan(self._transport, self._keys, max(0, cursor), batch)
            needing += sum(dictionary_of(record) == dictionary_id for _, record in stored)
        if needing:
            return Dropped(deleted=False, records=needing)
        there, _ = await self._put_out_of_use(dictionary_id, delete=True)
        return Dropped(deleted=there != 1)

    async def reseal(self) -> int:
        """Seal with the first key of the ring the dictionaries that another has sealed; give how many."""
        done = 0
        for name in await self._listed():
            if name != _NONE_IN_USE:
                done += await self._load(int(name, 16)) is not None
        return done

    async def _refresh(self, now: int, deadline: int, *, is_sure: bool) -> None:
        """Find out what is in use, and keep it. is_sure: what this process has in use cannot have been dropped."""
        listed, mine = await self._listed(), self._records.in_use
        if mine is not None and f"{mine.id:08x}" not in listed and is_sure:
            log.warning("session_dictionary_lost", extra={"dictionary": f"{mine.id:08x}"})
            kept_for = max(_AHEAD, self._kept_until - now + _CLOCK_ERROR)
            await self._add(mine, self._since, kept_for)  # a failover has lost it, and records name it
            listed = await self._listed()
        name = next(reversed(listed), _NONE_IN_USE)
        if name == _NONE_IN_USE:
            self._records.use(None)
            return
        dictionary = self._records.dictionary(int(name, 16)) or await self._load(int(name, 16))
        if dictionary is None:
            self._records.use(None)
            return
        until = max(self._kept_until, deadline + _AHEAD)
        keep = scripts.DICTIONARY_KEEP.command(self._keys_of(dictionary.id), until - now + _CLOCK_ERROR)
        if not (await self._transport.call(keep))[0]:
            await self._add(dictionary, listed[name], until - now + _CLOCK_ERROR)
        self._since, self._kept_until = listed[name], until
        self._records.use(dictionary, until)

    async def _load(self, dictionary_id: int) -> Dictionary | None:
        """Load a dictionary, and seal it with the first key if another one has; None if it is not there, or closed."""
        key = self._keys.dictionary(dictionary_id)
        (sealed,) = await self._transport.call(("GET", key))
        if sealed is None:
            return None
        try:
            dictionary = self._sealed.open(dictionary_id, sealed)
        except RecordCorrupted:
            log.exception("session_dictionary_corrupted", extra={"dictionary": f"{dictionary_id:08x}"})
            return None
        if not self._sealed.is_current(sealed):
            fresh = self._sealed.seal(dictionary)
            await self._transport.call(scripts.RESEAL.command((key,), sealed, fresh))
        self._records.learn(dictionary)
        return dictionary

    async def _add(self, dictionary: Dictionary, since: int, kept_for: int = _AHEAD) -> None:
        sealed, name = self._sealed.seal(dictionary), f"{dictionary.id:08x}"
        keys = self._keys_of(dictionary.id)
        await self._transport.call(scripts.DICTIONARY_ADD.command(keys, name, sealed, since, kept_for))

    async def _put_out_of_use(self, dictionary_id: int, *, delete: bool) -> tuple[int, int]:
        arguments = (f"{dictionary_id:08x}", self._clock.now(), SETTLED if delete else "")
        command = scripts.DICTIONARY_DROP.command(self._keys_of(dictionary_id), *arguments)
        ((there, out_for),) = await self._transport.call(command)
        return there, out_for

    async def _listed(self) -> dict[str, int]:
        """Give the dictionaries and since when each is in use (ms), the last one last; not what others have planted."""
        (flat,) = await self._transport.call(("ZRANGE", self._keys.dictionaries, 0, -1, "WITHSCORES"))
        listed = [
            (name.decode(errors="replace"), float(since)) for name, since in zip(flat[::2], flat[1::2], strict=True)
        ]
        return {name: int(since) for name, since in listed if _MEMBER.fullmatch(name) and abs(since) < _LAST_INSTANT}

    def _keys_of(self, dictionary_id: int) -> tuple[str, str]:
        return self._keys.dictionaries, self._keys.dictionary(dictionary_id)
