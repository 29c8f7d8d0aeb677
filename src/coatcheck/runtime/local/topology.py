"""`LocalTopology`: real servers on free ports of this machine, whose failures can be had at will.

    with LocalTopology(Kind.SENTINEL) as topology:
        sessions = coatcheck.Sessions(topology.url, keys=key)
        topology.kill("primary")

A node keeps its name ("node1" to "node6", "sentinel1" to "sentinel3"), whatever its role becomes. Where a node is to be
named, "primary", "replica" and "sentinel" mean the first of that role.
"""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self, assert_never

import redis

from coatcheck.model.errors import ConfigurationError, StoreUnavailable
from coatcheck.runtime.local import cluster, sentinel
from coatcheck.runtime.local.node import Node, cluster_config, data_config, free_ports
from coatcheck.runtime.local.processes import Processes
from coatcheck.runtime.local.settings import HOST, Kind, TopologySettings
from coatcheck.runtime.local.status import NodeStatus, Role, holds, read_status

START_LIMIT = 30.0
"""Seconds in which all must be ready."""

FAILOVER_LIMIT = 20.0
"""Seconds in which a planned failover must be done."""

_PAUSE: Final = 0.02
_DATA_NODES: Final = {Kind.SINGLE: 1, Kind.SENTINEL: 3, Kind.CLUSTER: 6}
_SENTINELS: Final = 3


class LocalTopology:
    """Servers of one kind in a temporary folder, which live no longer than this process. Safe for one thread."""

    def __init__(self, kind: Kind | str, settings: TopologySettings | None = None) -> None:
        """Plan it. Starts nothing. Raises ConfigurationError for an unknown kind, program or name of a node."""
        self.kind: Final = Kind.parse(kind)
        self.settings: Final = settings or TopologySettings()
        names = [f"node{number + 1}" for number in range(_DATA_NODES[self.kind])]
        if self.kind is Kind.SENTINEL:
            names += [f"sentinel{number + 1}" for number in range(_SENTINELS)]
        for name in (*self.settings.node_config, *self.settings.launchers):
            if name not in names:
                raise ConfigurationError(f"{self.kind} has no {name}: its nodes are {', '.join(names)}")
        self.settings.program()
        self._names: Final = tuple(names)
        self._nodes: dict[str, Node] = {}
        self._processes: Processes | None = None

    def start(self) -> None:
        """Start everything and wait until it is ready.

        Raises ConfigurationError when a port is taken or the program cannot run, and StoreUnavailable, with the end of
        the log, when a server ends or all is not ready within START_LIMIT. Nothing is left running then.
        """
        first, count = self.settings.port, len(self._names)
        ports = free_ports(count) if first is None else range(first, first + count)
        self._processes = Processes(f"coatcheck-up-{self.kind}-")
        try:
            nodes = [
                Node(name, port, self._processes.folder / name, self.settings)
                for name, port in zip(self._names, ports, strict=True)
            ]
            self._nodes = {node.name: node for node in nodes}
            self._write_configs()
            self._form()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process and remove the folder. May be called again."""
        if self._processes is not None:
            self._processes.end()
            self._processes = None

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Stop it."""
        self.stop()

    @property
    def url(self) -> str:
        """The address for `coatcheck.Sessions`; with TLS, and for the sentinels' password, options have to be added."""
        user = f"{self.settings.user}:{self.settings.password}@" if self.settings.password is not None else ""
        match self.kind:
            case Kind.SINGLE:
                return f"{'redis' if self.settings.tls is None else 'rediss'}://{user}{self.addresses[0]}"
            case Kind.SENTINEL:
                return f"sentinel://{user}{','.join(self.addresses)}/{sentinel.SERVICE}"
            case Kind.CLUSTER:
                return f"cluster://{user}{','.join(self.addresses)}"
            case _:
                assert_never(self.kind)

    @property
    def addresses(self) -> list[str]:
        """The addresses that an application is told: of the sentinels, of the first three nodes, or of the server."""
        return [node.address for node in (self._sentinels() or self._data()[: cluster.PRIMARIES])]

    @property
    def folder(self) -> Path:
        """The folder of all files, those of a node in one of its name."""
        return self._running().folder

    def client(self, which: str) -> "redis.Redis":
        """Make a client of one node; the caller closes it."""
        return redis.Redis(**self._find(which).options())

    def kill(self, which: str) -> str:
        """Kill a node with SIGKILL; give its name. Raises ConfigurationError where it does not run."""
        return self._signal(which, signal.SIGKILL).name

    def pause(self, which: str) -> str:
        """Freeze a node with SIGSTOP: it keeps its connections and answers nothing. Give its name."""
        node = self._signal(which, signal.SIGSTOP)
        node.is_paused = True
        return node.name

    def resume(self, which: str | None = None) -> list[str]:
        """Let a paused node, or every one, go on (SIGCONT); give their names."""
        paused = [node for node in self._nodes.values() if node.is_paused] if which is None else [self._find(which)]
        for node in paused:
            self._signal(node.name, signal.SIGCONT)
            node.is_paused = False
        return [node.name for node in paused]

    def launch(self, which: str) -> str:
        """Start a killed node again, with the data in its folder; give its name when it answers.

        What others make of it takes longer: see `wait_until_ready`. Raises as `start` does.
        """
        node = self._find(which)
        if node.name in self._running().living():
            raise ConfigurationError(f"{node.name} runs already")
        self._spawn(node)
        self._wait_for_answer(node)
        return node.name

    def restart(self, which: str) -> str:
        """Shut a node down in order (SIGTERM) and start it again; give its name when it answers."""
        node = self._signal(which, signal.SIGTERM)
        self._wait(lambda: f"{node.name} still runs" if node.name in self._running().living() else None, START_LIMIT)
        return self.launch(node.name)

    def failover(self, which: str = "primary") -> str:
        """Hand the role of a primary over to a replica of its; give the new primary's name when all know it.

        No write is lost by it, but with sentinels before Valkey 9. Raises ConfigurationError where there is nothing to
        hand over to, and StoreUnavailable when the servers refuse, or take longer than FAILOVER_LIMIT.
        """
        old = self._find(which)
        before = {status.name: status for status in self.status()}
        if before[old.name].role is not Role.PRIMARY:
            raise ConfigurationError(f"{old.name} is not a primary")
        replicas = [status for status in before.values() if status.follows == old.name and status.link == "up"]
        if not replicas:
            raise ConfigurationError(f"{old.name} has no replica to hand over to")
        if self.kind is Kind.SENTINEL:
            sentinel.begin_failover(self._find(Role.SENTINEL))
        else:
            cluster.begin_failover(self._nodes[replicas[0].name])
        self._wait(lambda: self._unfinished(old.name, replicas), FAILOVER_LIMIT)
        return next(status.follows for status in self.status() if status.name == old.name) or ""

    def primary(self, slot: int | None = None) -> str:
        """Give the name of the primary, in a cluster of that which serves *slot*. Raises StoreUnavailable."""
        if slot is None:
            return self._find(Role.PRIMARY).name
        for status in self.status():
            if status.role is Role.PRIMARY and holds(status.slots or "", slot):
                return status.name
        raise StoreUnavailable(f"nobody serves slot {slot} at the moment")

    def begin_move(self, slot: int, source: str, target: str) -> cluster.SlotMove:
        """Open *slot* for its move from one primary of the cluster to another; go on with what is given back."""
        primaries = [self._nodes[status.name] for status in self.status() if status.role is Role.PRIMARY]
        password = () if self.settings.password is None else (self.settings.user, self.settings.password)
        move = cluster.SlotMove(slot, self._find(source), self._find(target), primaries, password)
        move.begin()
        return move

    def move_slot(self, slot: int, source: str, target: str) -> int:
        """Move *slot* with its keys from one primary of the cluster to another; give how many keys it had."""
        move = self.begin_move(slot, source, target)
        moved = move.move_keys()
        move.finish()
        return moved

    def wait_until_ready(self, limit: float = START_LIMIT) -> None:
        """Wait until every node runs and knows its place again. Raises StoreUnavailable."""
        self._wait(self._missing, limit)

    def status(self) -> list[NodeStatus]:
        """Ask every node that runs for what it is; takes a second for each that does not answer."""
        return read_status(self._nodes.values(), self._running().living())

    def _form(self) -> None:
        """Start the servers in the order in which they find each other soonest, and wait."""
        first, *rest = self._data()
        if self.kind is Kind.CLUSTER:
            for node in self._data():
                self._spawn(node)
            for node in self._data():
                self._wait_for_answer(node)
            cluster.introduce(self._data())
            self._wait(lambda: None if cluster.have_met(self._data()) else "not all nodes have met", START_LIMIT)
            cluster.assign_replicas(self._data())
        else:
            self._spawn(first)
            self._wait_for_answer(first)  # a replica that does not reach its primary at once tries again a second later
            for node in rest:
                self._spawn(node)
            self._wait(lambda: sentinel.missing(self._data(), ()), START_LIMIT)
            for node in self._sentinels():
                self._spawn(node)
        self.wait_until_ready()

    def _write_configs(self) -> None:
        first, *_ = self._data()
        for node in self._data():
            lines = list(data_config(self.settings))
            if self.kind is Kind.CLUSTER:
                lines += cluster_config(node, self.settings)
            elif node is not first:
                lines.append(f"replicaof {HOST} {first.port}")
            node.write_config(lines)
        configs = sentinel.sentinel_configs(self._data(), self._sentinels(), self.settings)
        for node, lines in zip(self._sentinels(), configs, strict=True):
            node.write_config(lines)

    def _missing(self) -> str | None:
        ended = set(self._nodes) - set(self._running().living())
        if ended:
            return f"{min(ended)} has ended"
        return (
            cluster.missing(self._data())
            if self.kind is Kind.CLUSTER
            else sentinel.missing(self._data(), self._sentinels())
        )

    def _unfinished(self, old: str, replicas: list[NodeStatus]) -> str | None:
        """Say what a failover from *old* to one of its *replicas* still lacks."""
        now = {status.name: status for status in self.status()}
        new = now[old].follows
        if new is None or now[new].role is not Role.PRIMARY or now[old].link != "up":
            return f"{old} does not follow a new primary yet"
        concerned = {new, old, *(status.name for status in replicas), *(node.name for node in self._sentinels())}
        late = [name for name in sorted(concerned) if now[name].role and name != new and now[name].follows != new]
        return f"{late[0]} does not know the new primary yet" if late else None

    def _find(self, which: str) -> Node:
        if which in self._nodes:
            return self._nodes[which]
        if which not in set(Role) or (which == Role.SENTINEL and not self._sentinels()):
            words = [*self._nodes, *(role for role in Role if role is not Role.SENTINEL or self._sentinels())]
            raise ConfigurationError(f"no node is called {which}: choose from {', '.join(words)}")
        found = self.status()
        votes = [status.follows for status in found if status.role is Role.SENTINEL]
        fitting = [status for status in found if status.role == which and status.slots != ""]
        if not fitting:
            raise StoreUnavailable(f"there is no {which} at the moment: look at the status, and try again")
        # A former primary that has just come back takes itself for one until the sentinels have told it otherwise.
        return self._nodes[max(fitting, key=lambda status: votes.count(status.name)).name]

    def _signal(self, which: str, number: signal.Signals) -> Node:
        node = self._find(which)
        node.is_expected &= number not in {signal.SIGKILL, signal.SIGTERM}
        if not self._running().send(node.name, number):
            raise ConfigurationError(f"{node.name} does not run")
        return node

    def _spawn(self, node: Node) -> None:
        self._running().start(node.name, node.command(), node.log)
        node.is_paused, node.is_expected = False, True

    def _wait_for_answer(self, node: Node) -> None:
        def lack() -> str | None:
            info = node.info("server")
            if info is None or int(info["process_id"]) != self._running().living().get(node.name):
                return f"{node.name} does not answer"  # another server may have its port
            node.ask("PING")  # an error while it loads its data
            return None

        self._wait(lack, START_LIMIT)

    def _wait(self, look: Callable[[], str | None], limit: float) -> None:
        """Wait until *look* finds nothing missing."""
        deadline = time.monotonic() + limit
        while True:
            try:
                lack = look()
            except (redis.RedisError, OSError) as error:
                lack = str(error)
            self._refuse_unexpected_end()
            if lack is None:
                return
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"the local topology is not ready after {limit:.0f} seconds: {lack}")
            time.sleep(_PAUSE)

    def _refuse_unexpected_end(self) -> None:
        living = self._running().living()
        for node in self._nodes.values():
            if node.is_expected and node.name not in living:
                node.is_expected = False
                words = node.last_words()
                if any("Address already in use" in line for line in words):
                    raise ConfigurationError(
                        f"port {node.port} is taken: choose another first port, or let free ones be found"
                    )
                raise StoreUnavailable("\n".join((f"{node.name} has ended; its log ends:", *words)))

    def _running(self) -> Processes:
        if self._processes is None:
            raise ConfigurationError("the local topology does not run: start it, or use it as a context manager")
        return self._processes

    def _data(self) -> list[Node]:
        return [node for node in self._nodes.values() if not node.is_sentinel]

    def _sentinels(self) -> list[Node]:
        return [node for node in self._nodes.values() if node.is_sentinel]
