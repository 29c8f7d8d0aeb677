"""Which server a command goes to: the one there is, or the node that has the slot; with Sentinel: `sentinel`.

Nothing here does I/O: what has to be asked is asked through the carrier handed to `refresh`. Writes and reads alike
go to primaries. What has been learned is replaced as a whole, so that threads need no lock.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import inf
from time import monotonic
from typing import Any, Final, Protocol

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import ResponseError

from coatcheck.engine.transport import Command
from coatcheck.model.errors import ConfigurationError
from coatcheck.runtime.address import Node
from coatcheck.runtime.batch import Batch
from coatcheck.runtime.errors import FOREIGN

_KEYLESS: Final = frozenset({"TIME", "SCAN", "HELLO", "PING", "INFO", "WAIT", "WAITAOF"})
_AT_ONCE: Final = 3  # a server that is asked where the others are gets a third of the time that is left


class Asker(Protocol):
    """Puts questions to servers, until a moment (monotonic, seconds)."""

    async def ask(self, node: Node, command: Command, ends_at: float) -> Any:
        """Give the reply of *node*. Raises redis-py's errors."""
        ...

    async def ask_all(self, nodes: Sequence[Node], commands: Sequence[Command], ends_at: float) -> list[Batch]:
        """Give what came of putting *commands* to each of *nodes*, which are sentinels, at the same time."""
        ...


class Topology(ABC):
    """Where the commands go.

    nodes: every server that may be spoken to. is_known: whether there is somewhere to go. is_stale: whether to look
    again before the next call. renew_at: from when on to look again in any case (monotonic, seconds). generation: grows
    when *nodes* change. changed_at: when one server last took the place of another for all. detours: grows with every
    command that a server sends elsewhere.
    """

    nodes: frozenset[Node] = frozenset()
    sole: Node | None = None
    """The server that all commands go to, unless they are spread."""
    is_known = False
    is_stale = False
    renew_at = inf
    share_of_call = 1
    """To look again may take the whole of what a call has left, a half (2), and so on."""
    generation = 0
    changed_at = -inf
    detours = 0

    def is_usable(self, now: float) -> bool:  # noqa: ARG002  it is only Sentinel's that runs out
        """Say whether what is known may be relied on *now*."""
        return self.is_known

    def is_confirmed(self, since: float) -> bool:  # noqa: ARG002  the servers themselves know their place
        """Say whether it has been found out that the servers have their place, by questions asked *since* or later."""
        return True

    def home(self, slot: int) -> Node | None:  # noqa: ARG002  all slots are there
        """Name the server that has *slot*, as far as is known; None: not known."""
        return self.sole

    @property
    def good_until(self) -> float:
        """Until when what is known may be relied on (monotonic, seconds), unless a call finds it out anew."""
        return inf

    @abstractmethod
    def route(self, command: Command) -> Node | None:
        """Name the server for *command*; None: it has no key, and any primary will do."""

    @abstractmethod
    def doubt(self, node: Node) -> None:
        """Take note that *node* did not do as the server should that was meant."""

    @abstractmethod
    async def refresh(self, asker: Asker, ends_at: float) -> None:
        """Learn where the servers are, until *ends_at*. Raises redis-py's errors, and ConfigurationError."""


class Single(Topology):
    """One server."""

    def __init__(self, node: Node | None) -> None:
        """Go to *node*; None: it is still to be started."""
        if node:
            self.place(node)

    def place(self, node: Node) -> None:
        """Go to *node* from now on."""
        if node != self.sole:
            self.sole, self.nodes, self.is_known = node, frozenset({node}), True
            self.generation += 1

    def route(self, command: Command) -> Node | None:  # noqa: ARG002  they all go there
        """See `Topology.route`."""
        return self.sole

    def doubt(self, node: Node) -> None:
        """See `Topology.doubt`: there is nobody to ask."""

    async def refresh(self, asker: Asker, ends_at: float) -> None:
        """See `Topology.refresh`: the same."""


class Cluster(Topology):
    """The nodes of a Cluster, each of which has some of the slots."""

    is_stale = True

    def __init__(self, seeds: tuple[Node, ...]) -> None:
        """Ask *seeds*, and later the nodes that they name, who has which slots."""
        self._seeds = seeds
        self._asked = seeds
        self._owners: list[Node | None] = []
        self.primaries: tuple[Node, ...] = ()

    def route(self, command: Command) -> Node | None:
        """See `Topology.route`. Raises redis-py's ConnectionError for a slot that no node has."""
        slot = slot_of(command)
        if slot is None:
            return self._scanned(command) if command[0] == "SCAN" else None
        node = self._owners[slot]
        if node is None:
            self.is_stale = True
            raise LostConnection(f"no node of the Cluster serves slot {slot}")
        return node

    def home(self, slot: int) -> Node | None:
        """See `Topology.home`."""
        return self._owners[slot] if self._owners else None

    def doubt(self, node: Node) -> None:
        """See `Topology.doubt`."""
        self.is_stale = True
        self._asked = (*(other for other in self._asked if other != node), node)

    def move(self, slot: int, node: Node) -> None:
        """Take note that *node* has *slot* from now on, and maybe more than that."""
        self._owners[slot] = node
        if node not in self.nodes:
            self._name({*self.primaries, node})
        self.is_stale = True

    async def refresh(self, asker: Asker, ends_at: float) -> None:
        """See `Topology.refresh`."""
        problem: Exception = LostConnection("no node of the Cluster answers")
        asked = self._asked
        for position, node in enumerate(asked):
            try:
                shards = await asker.ask(
                    node, ("CLUSTER", "SLOTS"), share(ends_at, min(len(asked) - position, _AT_ONCE))
                )
            except FOREIGN as error:
                if isinstance(error, ResponseError) and "cluster support disabled" in str(error):
                    raise ConfigurationError(f"{node} is no node of a Cluster: write redis://{node}") from None
                problem = error
                continue
            if shards:
                self._learn(shards, node)
                self._asked = tuple(dict.fromkeys((node, *self.primaries, *self._seeds, *asked[:position])))
                return
        raise problem

    def _learn(self, shards: list[Any], asked: Node) -> None:
        owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_ in shards:
            is_named = host not in {None, b"", b"?"}  # else: at the address by which we have reached it
            node = Node(host.decode() if is_named else asked.host, port)
            owners[first : last + 1] = [node] * (last + 1 - first)
        self._owners = owners
        self._name({node for node in owners if node})
        self.is_known, self.is_stale = True, None in owners

    def _name(self, primaries: set[Node]) -> None:
        self.primaries = tuple(sorted(primaries))
        nodes = frozenset({*self.primaries, *self._seeds})
        if nodes != self.nodes:
            self.nodes = nodes
            self.generation += 1

    # A SCAN goes over one primary after the other: the number of the primary stands above the 64 bits of its cursor.

    def _scanned(self, command: Command) -> Node:
        return self.primaries[min(int(command[1]) >> 64, len(self.primaries) - 1)]

    @staticmethod
    def scan(command: Command) -> Command:
        """Give the SCAN to send for the one that the engine wants."""
        return (command[0], int(command[1]) & (2**64 - 1), *command[2:])

    def scanned(self, command: Command, reply: list[Any]) -> list[Any]:
        """Give the reply to *command*, of the engine: its cursor leads on to the next primary."""
        number, cursor = int(command[1]) >> 64, int(reply[0])
        if cursor == 0 and number + 1 >= len(self.primaries):
            return [0, reply[1]]
        return [(number if cursor else number + 1) << 64 | cursor, reply[1]]


def slot_of(command: Command) -> int | None:
    """Give the slot of the first key of *command*; None if it has no key."""
    if command[0] in _KEYLESS:
        return None
    key = command[3 if command[0] == "EVALSHA" else 1]
    return key_slot(key if isinstance(key, bytes) else str(key).encode())


def share(ends_at: float, parts: int) -> float:
    """Give until when the first of so many *parts* of the time left lasts."""
    now = monotonic()
    return now + (ends_at - now) / parts
