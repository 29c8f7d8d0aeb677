"""The primary that Sentinel names, and for how long that may be relied on.

All sentinels are asked at once, and of what a majority of them says the newest counts. That is believed for the time
of a lease. When it has run out nothing is sent to the primary before it is confirmed: it may be cut off together with
this process, and another may have taken over. See docs/decisions/0025.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import Any, Final

from redis.exceptions import ConnectionError as LostConnection

from coatcheck.runtime.address import Node
from coatcheck.runtime.batch import Batch
from coatcheck.runtime.errors import is_refusal, is_refused, is_untrusted
from coatcheck.runtime.topology import Asker, Topology

log = logging.getLogger("coatcheck")

_CONFIRMATIONS: Final = 3  # so often is a primary confirmed in the time of a lease
_TRIES: Final = 4  # and so often is that tried in the time for one, where it fails
_LEAVING: Final = frozenset({b"o_down", b"failover_in_progress"})
_REST_SECONDS: Final = 5.0  # a sentinel that gave no answer is not asked for so long, where the others are enough


class Unconfirmed(LostConnection):
    """Too few sentinels answer to know who is the primary, or another is about to be."""


@dataclass(frozen=True, slots=True)
class View:
    """Whom a sentinel takes for the primary, and since which failover.

    epoch: 0 where it does not say. is_leaving: it is replacing the primary, or a quorum of sentinels says that it may.
    """

    node: Node
    epoch: int
    is_leaving: bool = field(default=False, compare=False)


class Sentinel(Topology):
    """The primary that Sentinel names."""

    is_stale = True
    share_of_call = 2  # the primary is to have as much: a silent sentinel is waited for to the end

    def __init__(self, seeds: tuple[Node, ...], service: str, lease: float) -> None:
        """Ask *seeds* for the primary of *service*. lease: seconds; 0: rely on what was said until it is in doubt."""
        self._seeds = tuple(dict.fromkeys(seeds))
        self._service = service
        self._lease = lease
        self._epoch = 0
        self._confirmed_at = self._stood_at = self.changed_at = -inf
        self._resting: dict[Node, float] = {}
        self._missing: set[Node] = set()
        self._is_alarmed = False
        self.renew_at = -inf if lease else inf

    def route(self, command: object) -> Node | None:  # noqa: ARG002  they all go there
        """See `Topology.route`."""
        return self.sole

    def doubt(self, node: Node) -> None:
        """See `Topology.doubt`."""
        if node == self.sole:
            self.is_stale = True

    def is_usable(self, now: float) -> bool:
        """See `Topology.is_usable`: not without a primary that has been confirmed within the lease."""
        return self.is_known and (not self._lease or self._is_leased(now))

    @property
    def good_until(self) -> float:
        """See `Topology.good_until`."""
        return self._confirmed_at + self._lease if self._lease else inf

    def is_confirmed(self, since: float) -> bool:
        """See `Topology.is_confirmed`."""
        return not self._lease or self._stood_at >= since

    async def refresh(self, asker: Asker, ends_at: float) -> None:
        """See `Topology.refresh`. Raises Unconfirmed also where the last confirmation still holds."""
        began = monotonic()
        if self._lease:  # others go on meanwhile, as long as the lease lasts
            pause = self._lease / _CONFIRMATIONS
            self.renew_at = min(began + pause / _TRIES, self._confirmed_at + self._lease)
            ends_at = min(ends_at, began + pause / 2) if self._is_leased(began) else ends_at
        asked = self._to_ask(began)
        commands = (("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service), ("SENTINEL", "MASTER", self._service))
        batches = await asker.ask_all(asked, commands, ends_at)
        views, silent, idle = self._sorted(batches)
        self._note_missing(asked, silent, idle, began)
        self._learn(views.values(), began)
        is_majority = 2 * (len(views) + len(idle)) > len(self._seeds)
        is_ours = not views or any((self.sole, self._epoch) == (view.node, view.epoch) for view in views.values())
        self.is_stale = self.is_stale and not views
        if self.is_known and is_majority and is_ours:
            self._confirmed_at, self._is_alarmed = max(self._confirmed_at, began), False
            if self._lease:
                self.renew_at = self._confirmed_at + self._lease / _CONFIRMATIONS
                if any(view.is_leaving and view.node == self.sole for view in views.values()):
                    raise Unconfirmed(
                        f"the sentinels are about to replace {self.sole}: its successor may have what it lacks"
                    )
                self._stood_at = max(self._stood_at, began)
        elif self._lease or not views:
            raise self._problem(views, silent, idle)

    def _is_leased(self, now: float) -> bool:
        return now < self._confirmed_at + self._lease

    def _to_ask(self, now: float) -> list[Node]:
        """Name the sentinels to ask, those that answered last first."""
        good = [node for node in self._seeds if self._resting.get(node, now) <= now]
        if not self._is_leased(now) or 2 * len(good) <= len(self._seeds):
            good = list(self._seeds)
        return sorted(good, key=lambda node: node in self._missing)

    def _sorted(self, batches: list[Batch]) -> tuple[dict[Node, View], dict[Node, Exception], dict[Node, str]]:
        """Sort what came of asking: who names a primary, who gave no answer, who takes no part in failovers.

        Who refuses connections does not run. Who does not know the service elects nobody for it. That cannot be told of
        one that is silent.
        """
        views: dict[Node, View] = {}
        silent: dict[Node, Exception] = {}
        idle: dict[Node, str] = {}
        for batch in batches:
            address = batch.error or batch.replies[0]
            if isinstance(address, Exception):
                if is_refused(address):
                    idle[batch.node] = "refuses connections"
                else:
                    silent[batch.node] = address
            elif address is None:
                idle[batch.node] = f"knows no primary called {self._service!r}"
            else:
                views[batch.node] = _view(address, batch.replies[1])
        return views, silent, idle

    def _learn(self, views: Iterable[View], now: float) -> None:
        """Take the newest of *views*, unless something newer is known, for as long as that is relied on."""
        votes = Counter(views)
        newest = max(votes, key=lambda view: (view.epoch, votes[view], view.node == self.sole), default=None)
        if newest is None or (newest.epoch < self._epoch and self._is_leased(now)):
            return
        self._epoch = newest.epoch
        if newest.node != self.sole:
            former = self.sole
            self.sole, self.nodes, self.is_known = newest.node, frozenset({newest.node}), True
            self.generation += 1
            if former is not None:  # who is the first that is found has taken nobody's place
                self.changed_at = monotonic()

    def _note_missing(
        self, asked: list[Node], silent: Mapping[Node, Exception], idle: Mapping[Node, str], now: float
    ) -> None:
        for node in asked:
            if node in silent:
                self._resting[node] = now + _REST_SECONDS
            else:
                self._resting.pop(node, None)
            if node not in silent and node not in idle:
                self._missing.discard(node)
            elif node not in self._missing:
                self._missing.add(node)
                reason = idle.get(node) or str(silent[node])
                log.warning("session_sentinel_missing", extra={"sentinel": str(node), "reason": reason})

    def _problem(
        self, views: Mapping[Node, View], silent: Mapping[Node, Exception], idle: Mapping[Node, str]
    ) -> Exception:
        """Say why there is no majority for our primary."""
        for error in silent.values():
            if not views and (is_refusal(error) or is_untrusted(error)):
                return error
        if not self.is_known and len(idle) == len(self._seeds):
            return LostConnection(f"no sentinel knows a primary called {self._service!r}: {_listed(idle)}")
        if not self._lease:
            return next(iter(silent.values()), LostConnection("no sentinel answers"))
        if self.is_known and not self._is_alarmed and not self._is_leased(monotonic()):
            self._is_alarmed = True
            log.error("session_primary_unconfirmed", extra={"primary": str(self.sole), "silent": _listed(silent)})
        return Unconfirmed(
            f"of {len(self._seeds)} sentinels {len(views)} say who is the primary, and no majority: another may have "
            f"taken over ({_listed({**silent, **idle}) or 'they are behind'}). See that the sentinels run and can be "
            "reached from here; sentinel_lease says for how long a primary is used without them"
        )


def _view(address: list[bytes], detail: Any) -> View:
    """Read the replies to SENTINEL GET-MASTER-ADDR-BY-NAME and MASTER; the latter an error where the user may not ask.

    Once its successor has been promoted, a sentinel names that, and details the former primary.
    """
    node = Node(address[0].decode(), int(address[1]))
    if not isinstance(detail, list):
        return View(node, 0)
    fields = dict(zip(detail[::2], detail[1::2], strict=True))
    is_meant = [fields.get(b"ip"), fields.get(b"port")] == address[:2]
    is_leaving = is_meant and not _LEAVING.isdisjoint(fields.get(b"flags", b"").split(b","))
    return View(node, int(fields.get(b"config-epoch", 0)), is_leaving)


def _listed(reasons: Mapping[Node, object]) -> str:
    return "; ".join(f"{node}: {reason}" for node, reason in sorted(reasons.items()))
