"""Counting what sources cause, in this process: bounded memory, nothing sent to the store."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import Final

from coatcheck.engine.clock import Clock
from coatcheck.model.errors import SourceLimited
from coatcheck.model.policy import milliseconds
from coatcheck.model.sources import SourcePolicy, shown, source_of
from coatcheck.model.ticket import Handle, Ticket

log = logging.getLogger("coatcheck")

_REMEMBERED: Final = 10_000
_LATELY: Final = 8
_DIGEST_BYTES: Final = 8


@dataclass(slots=True)
class _Tally:
    """What one source has done since *begun* (ms). lately: digests of its last identifiers that opened nothing."""

    begun: int
    creations: int = 0
    unknown: int = 0
    lately: tuple[bytes, ...] = ()
    is_told: bool = False


class Sources:
    """The tallies of one policy. Safe to share among threads."""

    def __init__(self, policy: SourcePolicy, clock: Clock, last_use: Callable[[Handle, int], int]) -> None:
        """Count under *policy*. last_use: when this process last extended a session, or the default given."""
        self._policy = policy
        self._period = milliseconds(policy.per)
        self._clock = clock
        self._last_use = last_use
        self._tallies: OrderedDict[str, _Tally] = OrderedDict()
        self._lock = Lock()

    def check_lookup(self, address: str | None, ticket: Ticket) -> None:
        """Raise SourceLimited where the source has sent too many unknown identifiers to have this one looked up.

        What this process has served lately is looked up all the same.
        """
        source, now = source_of(address), self._now()
        if self._policy.unknown is None or source is None:
            return
        with self._lock:
            tally = self._running(source, now)
            is_over = tally is not None and tally.unknown > self._policy.unknown
            if tally is not None and is_over and not self._last_use(ticket.handle, 0):
                raise self._limited(tally, now)

    def count_unknown(self, address: str | None, ticket: Ticket) -> None:
        """Count an identifier that opened nothing. Raises SourceLimited where there are too many.

        One of the last eight different ones is not counted again: a browser sends what it has with every request.
        """
        source, now = source_of(address), self._now()
        if self._policy.unknown is None or source is None:
            return
        digest = ticket.digest[:_DIGEST_BYTES]
        with self._lock:
            tally = self._tally(source, now)
            if digest not in tally.lately:
                tally.lately = (*tally.lately, digest)[-_LATELY:]
                tally.unknown += 1
            if tally.unknown > self._policy.unknown:
                self._tell(source, tally, "unknown identifiers", tally.unknown)
                raise self._limited(tally, now)

    def count_creation(self, address: str | None) -> None:
        """Count a session of nobody that is about to be created. Raises SourceLimited where there are too many."""
        source, now = source_of(address), self._now()
        if self._policy.creations is None or source is None:
            return
        with self._lock:
            tally = self._tally(source, now)
            tally.creations += 1
            if tally.creations > self._policy.creations:
                self._tell(source, tally, "creations", tally.creations)
                raise self._limited(tally, now)

    def _running(self, source: str, now: int) -> _Tally | None:
        """Give the tally of a period that has not passed."""
        tally = self._tallies.get(source)
        if tally is not None and not tally.begun:  # before the time was known
            tally.begun = now
        return tally if tally is not None and 0 <= now - tally.begun < self._period else None

    def _tally(self, source: str, now: int) -> _Tally:
        """Give the tally of the running period, a new one if need be, and make it the last to be forgotten."""
        tally = self._running(source, now)
        if tally is None:
            tally = self._tallies[source] = _Tally(now)
        self._tallies.move_to_end(source)
        if len(self._tallies) > _REMEMBERED:
            self._tallies.popitem(last=False)
        return tally

    def _limited(self, tally: _Tally, now: int) -> SourceLimited:
        return SourceLimited(timedelta(milliseconds=tally.begun + self._period - now))

    @staticmethod
    def _tell(source: str, tally: _Tally, what: str, count: int) -> None:
        """Warn, once in a period."""
        if not tally.is_told:
            tally.is_told = True
            log.warning("session_source_limited", extra={"source": shown(source), "what": what, "count": count})

    def _now(self) -> int:
        """Give the time in ms; 0 before the store was first asked."""
        return self._clock.now() if self._clock.is_known else 0
