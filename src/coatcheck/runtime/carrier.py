"""How a call of the engine is carried out: routed, sent, and sent again, within one deadline.

It is the call's own, or one that it shares (`coatcheck.engine.deadline`). The same for both facades.

A `Carrier` is a transport whose subclasses know how to exchange bytes: `BlockingTransport`, `AsyncTransport`. What
redis-py gives it are connections (TCP, unix, TLS, credentials, replies), not its clients for Sentinel and Cluster: see
docs/decisions/0018. What is sent again, when and how often, and when nothing is sent at all: docs/decisions/0019.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import inf
from time import monotonic
from typing import Any, Final

from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import (
    ConnectionError as LostConnection,
)
from redis.exceptions import (
    TimeoutError as NoAnswer,
)

from coatcheck.engine import deadline
from coatcheck.engine.checkup import Seen
from coatcheck.engine.transport import Command
from coatcheck.model.errors import ConfigurationError, StoreUnavailable
from coatcheck.runtime.address import Address, Kind, Node
from coatcheck.runtime.batch import ALONG, BEHIND, WAITING, Batch, Call
from coatcheck.runtime.breaker import Breaker, Budget, backoff
from coatcheck.runtime.errors import (
    FOREIGN,
    Busy,
    Interrupted,
    NoHandshake,
    Overloaded,
    code_of,
    is_refusal,
    is_untrusted,
    translated,
)
from coatcheck.runtime.lookout import CONFIRM_AGAIN_SECONDS, Lookout
from coatcheck.runtime.sentinel import Sentinel, Unconfirmed
from coatcheck.runtime.settings import Settings
from coatcheck.runtime.survey import survey
from coatcheck.runtime.tls import Trust
from coatcheck.runtime.topology import Cluster, Single, Topology

_RETRIES: Final = 5
_ROUNDS: Final = 8  # so often a call is sent on, or sent again with its script, before it has to pause
COMMANDS_A_DEADLINE: Final = 16
_TOO_LITTLE: Final = 0.02  # of a deadline: what is sent with less time left than that has an unknown outcome at best

TELLING: Final = 0.5
"""Of an attempt: a server that has less time than that, and does not answer, need not be silent."""
_NOT_NOW: Final = frozenset({"CLUSTERDOWN", "MASTERDOWN", "READONLY", "LOADING", "TRYAGAIN", "UNBLOCKED"})
_CUT_OFF: Final = frozenset({"NOREPLICAS", "MISCONF"})  # another may have taken over from who says this
_NO_PRIMARY: Final = "cannot be used with replica"  # the reply of WAIT and WAITAOF


class Carrier(ABC):
    """Carries calls out; see `Transport`."""

    def __init__(self, address: Address, options: dict[str, Any]) -> None:
        """Reach *address* with *options* (`coatcheck.runtime.settings`). Nothing is sent yet.

        Raises ConfigurationError.
        """
        self.address = address
        self.settings = Settings.read(address, options)
        self.trust = Trust(self.settings.connection)
        self.sentinel_trust = Trust(self.settings.sentinel)
        self.trust.check()
        self.sentinel_trust.check("sentinel_")
        self.topology = _topology_of(address, self.settings)
        self._budget = Budget(monotonic())
        self._breakers: dict[Node, Breaker] = {}
        self._lookout = Lookout(self.topology, address)
        self._started_at = -inf  # the embedded server, which is not under the deadline

    async def call(self, *commands: Command) -> list[Any]:
        """Carry *commands* out; see `Transport.call`. The transports have a shorter way for nearly all of them."""
        if not self.topology.is_known and isinstance(self.topology, Single):
            self.topology.place(await self._join())
            self._started_at = monotonic()
        self._budget.count()
        now, shared = monotonic(), deadline.current()
        ends_at = now + (self._time_for(len(commands)) if shared is None else self._left(shared, now))
        if len(commands) > 1 and commands[-1][0] in WAITING:
            *wanted, wait = commands
            waiting = Call(tuple(wanted), ends_at, wait)
            await self._carry_out(waiting, waiting.commands)
            return [*waiting.replies, waiting.confirmed]
        is_scan = commands[0][0] == "SCAN" if commands else False
        if is_scan and isinstance(self.topology, Cluster):
            call = Call(tuple(self.topology.scan(command) for command in commands), ends_at)
            await self._carry_out(call, commands)
            return [self.topology.scanned(*pair) for pair in zip(commands, call.replies, strict=True)]
        return await self._go_on(commands, ends_at, now, None)

    async def _go_on(
        self, commands: tuple[Command, ...], ends_at: float, sent_at: float, sent: Batch | None
    ) -> list[Any]:
        """Carry *commands* out. sent: what came of sending them at *sent_at*, where that has not gone well."""
        call = Call(commands, ends_at)
        call.sent_at = sent_at
        await self._carry_out(call, commands, sent)
        return call.replies

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Wait."""

    @abstractmethod
    async def exchange(self, batches: list[Batch], ends_at: float) -> None:
        """Send *batches* and fill in what comes back, until *ends_at* (monotonic, seconds)."""

    @abstractmethod
    def drop(self, node: Node) -> None:
        """Close the connections to *node* that are not in use."""

    @abstractmethod
    async def _join(self) -> Node: ...

    @abstractmethod
    async def _revive(self) -> Node | None: ...

    async def primary(self) -> Node:
        """Give a primary, having looked again where it is. Raises as `call` does."""
        if isinstance(self.topology, Single):
            if not self.topology.is_known:
                self.topology.place(await self._join())
        else:
            try:
                await self.topology.refresh(self, monotonic() + self._time_for(1))
            except FOREIGN as error:
                if not isinstance(error, Unconfirmed) or not self.topology.is_usable(monotonic()):
                    raise translated(error, self.address) from error
        node = self.topology.sole
        return self.topology.primaries[0] if isinstance(self.topology, Cluster) else node  # type: ignore[return-value]

    async def survey(self) -> list[Seen]:
        """See `Transport.survey`."""
        return await survey(self)

    async def has_stood_since(self, moment: float) -> bool:
        """See `Transport.has_stood_since`. With Sentinel: a round trip to the sentinels, for all who wait for it."""
        asked_at = monotonic()
        if self.topology.is_confirmed(asked_at):
            return self.topology.changed_at < moment
        shared = deadline.current()
        call = Call((), asked_at + (self.settings.deadline if shared is None else self._left(shared, asked_at)))
        while not self.topology.is_confirmed(asked_at):
            await self._lookout.look(self, call, at_most=self.settings.attempt, every=CONFIRM_AGAIN_SECONDS)
            if not self.topology.is_confirmed(asked_at):
                await self._wait_for_retry(call)
        return self.topology.changed_at < moment

    def time_left(self) -> float:
        """See `Transport.time_left`."""
        shared = deadline.current()
        return self.settings.deadline if shared is None else self._left(shared, monotonic())

    def patience(self) -> float:
        """Say for how many seconds a signal is waited for: a quarter of the time that is left here and now."""
        return self.time_left() / 4

    def _time_for(self, commands: int) -> float:
        return self.settings.deadline * max(1, commands / COMMANDS_A_DEADLINE)

    def _left(self, shared: deadline.OneDeadline, now: float) -> float:
        """Say how many seconds are left of a deadline that calls share. Raises StoreUnavailable for as good as none."""
        left = max(shared.began, self._started_at) + self.settings.deadline - now
        if left < _TOO_LITTLE * self.settings.deadline:
            raise self._unanswered(shared.trouble or "what went before took all of it")
        return left

    def _unanswered(self, reason: object) -> StoreUnavailable:
        if (shared := deadline.current()) is not None:
            shared.trouble = reason
        return StoreUnavailable(
            f"{self.address} cannot be reached: no answer within the deadline of "
            f"{self.settings.deadline * 1000:g} ms: {reason}"
        )

    async def _carry_out(self, call: Call, wanted: tuple[Command, ...], sent: Batch | None = None) -> None:
        """Do what is left of *call*. sent: what has been exchanged already, and not gone well."""
        has_revived, rounds = False, 0
        while call.missing:
            rounds += 1
            batches, sent = ([sent], None) if sent is not None else (await self._exchanged(call, wanted), None)
            has_trouble = not batches or self._take(call, batches)
            while call.split:
                await self._read_singly(call, call.split.pop())
            if has_trouble or (call.missing and rounds > _ROUNDS):
                is_lost = isinstance(call.trouble, LostConnection)
                if is_lost and self.address.is_embedded and not has_revived:
                    has_revived = True
                    await self._start_again(call)
                    continue
                await self._wait_for_retry(call)

    async def _exchanged(self, call: Call, wanted: tuple[Command, ...]) -> list[Batch]:
        """Send what is missing; give what came of it, nothing where nobody is known to send it to."""
        topology = self.topology
        if topology.is_stale or monotonic() >= topology.renew_at:
            await self._lookout.look(self, call, at_most=self.settings.attempt)
        batches = self._batches(call, wanted) if topology.is_usable(monotonic()) else []
        if batches:
            call.sent_at = monotonic()
            await self.exchange(batches, call.ends_at)
        return batches

    async def _read_singly(self, call: Call, place: int) -> None:
        """Read the keys of an MGET one by one: while their slot moves, each is on the one node or on the other."""
        reads: tuple[Command, ...] = tuple(("GET", key) for key in call.commands[place][1:])
        single = Call(reads, call.ends_at)
        await self._carry_out(single, reads)
        call.replies[place] = single.replies

    async def _start_again(self, call: Call) -> None:
        """Start the embedded server again: that may take longer than the deadline, which begins anew then."""
        node = await self._revive()
        if node is not None and isinstance(self.topology, Single):
            self.drop(node)
            self.topology.place(node)
        self._started_at = monotonic()
        call.ends_at = self._started_at + self._time_for(len(call.commands))

    async def ask(self, node: Node, command: Command, ends_at: float) -> Any:
        """Put *command* to *node*, once, until *ends_at* (monotonic, seconds). Raises redis-py's errors."""
        batch = Batch(node, [command], [0], is_sentinel=command[0] == "SENTINEL")
        await self.exchange([batch], ends_at)
        if batch.error is not None:
            raise batch.error
        reply = batch.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def ask_all(self, nodes: Sequence[Node], commands: Sequence[Command], ends_at: float) -> list[Batch]:
        """See `Asker.ask_all`. Raises ConfigurationError."""
        places = list(range(len(commands)))
        batches = [Batch(node, list(commands), places, is_sentinel=True) for node in nodes]
        await self.exchange(batches, ends_at)
        for batch in batches:
            if isinstance(batch.error, ConfigurationError):
                raise batch.error
        return batches

    def _batches(self, call: Call, wanted: tuple[Command, ...]) -> list[Batch]:
        """Sort the commands that have no reply yet by server. Those without a key go along with the others."""
        found: dict[Node, Batch] = {}
        anywhere: list[int] = []
        try:
            for place in call.missing:
                node = call.asked.get(place) or self.topology.sole or self.topology.route(wanted[place])
                if node is None:
                    anywhere.append(place)
                    continue
                batch = found.get(node)
                if batch is None:
                    batch = found[node] = Batch(node)
                call.join(batch, place)
        except LostConnection as error:  # nobody has the slot
            call.trouble = error
            return []
        if anywhere:
            if not found and isinstance(self.topology, Cluster):
                node = self.topology.primaries[0]
                found[node] = Batch(node)
            batch = next(iter(found.values()))
            for place in anywhere:
                call.join(batch, place)
        for batch in found.values():
            batch.wait = call.wait
        return self._admitted(call, found)

    def _admitted(self, call: Call, found: dict[Node, Batch]) -> list[Batch]:
        """Give the batches, if all their servers are to be tried. Raises StoreUnavailable if none is."""
        if self._breakers:
            for node in found:
                breaker = self._breakers.get(node)
                if breaker is not None and not breaker.admits(monotonic()):
                    self.topology.doubt(node)
                    raise StoreUnavailable(
                        f"{self.address} cannot be reached: not tried: {node} gave no answer {breaker.failures} times "
                        "in a row and is left alone for a moment"
                    ) from call.trouble
        return list(found.values())

    def _take(self, call: Call, batches: list[Batch]) -> bool:
        """Take what came back; say whether to wait before what is still missing is sent again."""
        has_trouble, missing = False, []
        call.asked = {}  # but where it is said again
        for batch in batches:
            batch.end_wait()
            if batch.error is not None:
                self._suffer(call, batch.node, batch.error)
                has_trouble = True
            elif self._breakers:
                self._breakers.pop(batch.node, None)
            lacking: list[int] = []
            for place, reply in zip(batch.places, batch.replies, strict=False):
                if not isinstance(reply, Exception):
                    if place >= 0:
                        call.replies[place] = reply
                    continue
                if isinstance(reply, TryAgainError) and call.commands[place][0] == "MGET":
                    call.split.append(place)
                    continue
                has_trouble |= self._judge(call, batch.node, place, reply)
                lacking.append(place)
            lacking += [place for place in batch.places[len(batch.replies) :] if place != ALONG]
            if batch.wait is not None:
                if lacking:
                    lacking = call.unconfirmed(batch, lacking)
                else:
                    call.confirm(batch.replies[-1])
            missing += lacking
        call.missing = sorted(missing)
        return has_trouble

    def _suffer(self, call: Call, node: Node, error: Exception) -> None:
        """Take note that *node* did not answer. Raises where trying again is in vain."""
        is_final = isinstance(error, ConfigurationError | ResponseError | Overloaded)
        if is_final or is_refusal(error) or is_untrusted(error):
            raise error if isinstance(error, ConfigurationError) else translated(error, self.address) from error
        call.trouble = error
        if isinstance(error, NoAnswer):
            hint = (
                ", and there is no TLS connection: see that it speaks TLS there"
                if isinstance(error, NoHandshake)
                else ""
            )
            call.trouble = NoAnswer(f"{node} did not answer in time{hint}")
        is_short = isinstance(error, NoAnswer) and monotonic() - call.sent_at < TELLING * self.settings.attempt
        if isinstance(error, Busy) or is_short:
            return
        self.topology.doubt(node)
        if isinstance(error, NoAnswer):
            self._breakers.setdefault(node, Breaker()).fail(monotonic())
        elif isinstance(error, LostConnection):
            self.drop(node)

    def _judge(self, call: Call, node: Node, place: int, error: Exception) -> bool:
        """Decide about a server's error: raise, or have the command sent again; say whether after a pause."""
        if place == BEHIND and _NO_PRIMARY in str(error):
            error = ReadOnlyError(str(error))
        if place == ALONG:
            raise translated(error, self.address) from error
        if isinstance(error, NoScriptError):
            call.unknown.add(place)
            return False
        if isinstance(error, AskError):
            self._redirect(call, node, place, error)
            return False
        code = code_of(error)
        if code not in _NOT_NOW and not isinstance(error, BusyLoadingError | ClusterDownError | ReadOnlyError):
            if code in _CUT_OFF:
                self.topology.doubt(node)
            raise translated(error, self.address) from error
        call.trouble = error
        if code == "READONLY" or isinstance(error, ReadOnlyError):  # it may be another server's name by now
            self.drop(node)
        if not isinstance(error, TryAgainError):
            self.topology.doubt(node)
        return True

    def _redirect(self, call: Call, node: Node, place: int, error: AskError) -> None:
        """Have a command sent where *node* of a Cluster says that its slot is, or is moving to."""
        if not isinstance(self.topology, Cluster):
            raise ConfigurationError(f"{self.address} is a node of a Cluster: write cluster:// instead") from error
        target = Node(error.host or node.host, error.port)
        self.topology.detours += 1
        if isinstance(error, MovedError):
            self.topology.move(error.slot_id, target)
        else:
            call.asked[place] = target

    async def _wait_for_retry(self, call: Call) -> None:
        """Wait a moment before the next attempt. Raises StoreUnavailable when there is to be none."""
        now, trouble = monotonic(), call.trouble or self._lookout.reason
        call.retries += 1
        wait = backoff(call.retries)
        if isinstance(trouble, Busy) or now + wait >= call.ends_at:
            raise self._unanswered(trouble) from trouble
        if not isinstance(trouble, TryAgainError):
            if call.retries > _RETRIES and call.trouble is not None:
                raise translated(trouble, self.address) from trouble
            is_free = call.retries == 1 and isinstance(trouble, Interrupted)  # one loss is not to cost many retries
            if call.trouble is not None and not is_free and not self._budget.spend(now):
                raise StoreUnavailable(
                    f"{translated(trouble, self.address)} (not tried again: too many calls have failed of late)"
                ) from trouble
        await self.pause(wait)


def _topology_of(address: Address, settings: Settings) -> Topology:
    if address.kind is Kind.SENTINEL:
        return Sentinel(address.seeds, address.service, settings.lease)
    if address.kind is Kind.CLUSTER:
        return Cluster(address.seeds)
    return Single(address.seeds[0] if address.seeds else None)
