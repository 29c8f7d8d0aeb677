"""The lines on which servers tell a near cache what is written: a thread and a connection for each primary.

Both facades use it: what it has to do is little, and it is not to wait for a busy event loop. A line uses broadcast
tracking (CLIENT TRACKING ON BCAST, RESP3) of every key of the prefix: see docs/decisions/0024.

How a line knows that it knows enough. Replies and what is told come in order over one connection, what is told of a
write no later than at the end of the turn in which the server did it. A question is sent when the one before was
answered; so when one is answered, all was heard that the server did before the question *before* it was sent. From that
moment on this is enough for `NearCache.staleness`. Nothing rests on noticing that a connection is lost.
"""

import logging
import os
from collections import deque
from contextlib import suppress
from math import inf
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any, Final
from weakref import WeakSet, ref

import hiredis
from redis._parsers.base import BaseParser
from redis.exceptions import AskError, InvalidResponse, MovedError
from redis.exceptions import ConnectionError as LostConnection

from coatcheck.engine.keys import Keys
from coatcheck.engine.near import Line, Near, Place
from coatcheck.model.errors import SessionError
from coatcheck.model.near import NearCache
from coatcheck.model.partition import PARTITIONS, SLOT_DISTANCE
from coatcheck.model.policy import SessionPolicy
from coatcheck.runtime.address import Kind, Node
from coatcheck.runtime.blocking import Recipe
from coatcheck.runtime.carrier import Carrier
from coatcheck.runtime.errors import FOREIGN, NotPrimary, code_of, is_refusal
from coatcheck.runtime.listener import pause_after
from coatcheck.runtime.topology import Cluster

log = logging.getLogger("coatcheck")

_QUESTIONS: Final = 4  # in the time for which an answer is enough
_PATIENCE: Final = 2.0  # seconds, for connecting and for an answer
_REST: Final = 0.005  # seconds: a thread that wakes for each of very many writes would take the time of all others
_REFUSED_PAUSE: Final = 30.0
_SHORTEST: Final = 0.001
_OTHERS: Final = "the server has other sessions now"
_PIECE: Final = 65536


def links_of(carrier: Carrier, near: Near | None, policy: SessionPolicy, prefix: str) -> "Links | None":
    """Make the lines of *near*, if there is one."""
    return None if near is None or policy.near_cache is None else Links(carrier, near, policy.near_cache, prefix)


class Links:
    """The lines of one near cache. They begin when they are first needed, and end with `close`, or unused."""

    def __init__(self, carrier: Carrier, near: Near, settings: NearCache, prefix: str) -> None:
        """Tell *near* of what is written under *prefix*, where *carrier* leads to. Nothing is sent yet."""
        self.carrier: Final = carrier
        self.near: Final = near
        self.keys: Final = Keys(prefix)
        self.staleness: Final = settings.staleness.total_seconds()
        self._links: dict[Node, _Link] = {}
        self._lock = Lock()
        near.lines = self
        _all.add(self)

    def place_of(self, partition: int) -> Place | None:
        """See `Lines.place_of`."""
        topology = self.carrier.topology
        node = topology.home(partition * SLOT_DISTANCE)
        if node is None:
            return None
        link = self._links.get(node)
        line = None if link is None else link.line
        if line is not None:  # its thread lets go of it before it ends
            return line, topology.detours
        if link is None or not link.is_alive():
            self._begin(node)
        return None

    def lines(self) -> list[Line]:
        """See `Lines.lines`."""
        return [link.line for link in list(self._links.values()) if link.line is not None]

    def homes(self, node: Node) -> tuple[int, ...]:
        """List the partitions that are at *node*, as far as is known."""
        home = self.carrier.topology.home
        return tuple(partition for partition in range(PARTITIONS) if home(partition * SLOT_DISTANCE) == node)

    def close(self) -> None:
        """End the lines; the next load begins new ones."""
        with self._lock:
            links, self._links = self._links, {}
        for link in links.values():
            link.end()
        for link in links.values():
            if link.is_alive():
                link.join(_PATIENCE)
        self.near.drop_all()

    def reset(self) -> None:
        """Begin anew in a process that was forked: the threads and the connections are its parent's."""
        self._links, self._lock = {}, Lock()
        self.near.reset()

    def _begin(self, node: Node) -> None:
        with self._lock:
            link = self._links.get(node)
            if link is None or not link.is_alive():
                self._links[node] = link = _Link(self, node)
                with suppress(RuntimeError):  # the interpreter is ending
                    link.start()


_all: Final[WeakSet[Links]] = WeakSet()


def _reset_all() -> None:
    for links in list(_all):
        links.reset()


os.register_at_fork(after_in_child=_reset_all)


class _Link(Thread):
    """The thread of one line, from when it is needed until nobody does any more."""

    def __init__(self, links: Links, node: Node) -> None:
        super().__init__(name="coatcheck-near", daemon=True)
        self.line: Line | None = None
        self._node = node
        self._links = ref(links)
        self._ended = Event()
        self._socket: Any = None

    def end(self) -> None:
        """Have it end soon."""
        self._ended.set()
        with suppress(OSError, AttributeError):
            self._socket.shutdown(2)

    def run(self) -> None:
        """Keep the line, as long as the node is one that commands go to. Never raises."""
        failures = 0
        while (links := self._wanted()) is not None and links.homes(self._node):
            connection, pause, failures = None, 0.0, failures + 1
            try:
                connection = self._connect(links)
                conversation = _Conversation(links, self._node, connection)
                conversation.begin(links)
                failures, self.line = 0, conversation.line
                log.info("session_near_cache_connected", extra={"server": str(self._node)})
                links = None
                while self._wanted() is not None:
                    conversation.go_on()
                    self._ended.wait(conversation.rest())
            except (*FOREIGN, SessionError) as error:
                failures = max(failures, 1)
                pause = _REFUSED_PAUSE if _is_refused(error) else pause_after(failures)
                if failures == 1 and self._wanted() is not None:
                    log.warning("session_near_cache_lost: %s", _told(error), extra={"server": str(self._node)})
            except Exception:
                pause = _REFUSED_PAUSE
                log.exception("session_near_cache_failed")
            finally:
                self._lose(connection)
            links = None
            self._ended.wait(pause)

    def _wanted(self) -> Links | None:
        """Give the links, if they are there and still need this one."""
        links = None if self._ended.is_set() else self._links()
        return links if links is not None and self._node in links.carrier.topology.nodes else None

    def _connect(self, links: Links) -> Any:
        recipe = Recipe.of(links.carrier, self._node, is_sentinel=False)
        connection = recipe.make(protocol=3, redis_connect_func=lambda connection: connection.on_connect())
        connection.limit.ends_at = monotonic() + _PATIENCE
        connection.connect()
        self._socket = connection._get_socket()  # noqa: SLF001  redis-py gives it to nobody
        return connection

    def _lose(self, connection: Any) -> None:
        line, self.line, self._socket = self.line, None, None
        links = self._links()
        if line is not None:
            line.until = -inf
            if links is not None:
                links.near.lose(line)
        if connection is not None:
            with suppress(*FOREIGN):
                connection.disconnect()


class _Conversation:
    """What is said on one connection. While it waits it holds nobody's links: who made them may let them go."""

    def __init__(self, links: Links, node: Node, connection: Any) -> None:
        self.line = Line()
        self._links = ref(links)
        self._staleness, self._node, self._homes = links.staleness, node, links.homes(node)
        self._interval = self._staleness / _QUESTIONS
        self._socket = connection._get_socket()  # noqa: SLF001  redis-py gives it to nobody
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=BaseParser.parse_error)
        self._answers: deque[Any] = deque()
        self._asked_at: float | None = None
        self._asked_before: float | None = None
        self._due = self._woke_at = 0.0
        self._turn = 0

    def begin(self, links: Links) -> None:
        """Have the server tell from now on. Raises LostConnection, ResponseError, NotPrimary."""
        if links.carrier.address.kind is Kind.SENTINEL:
            self._send("HELLO")
            role = self._answer().get(b"role", b"master")
            if role != b"master":
                raise NotPrimary(f"Sentinel names a server that is a {role.decode()}: a failover may be under way")
        # Subscribed to a channel, on which nobody speaks, it falls under the server's limit for subscribers: a process
        # that is stopped is cut off, and does not fill the server's memory with what it is not reading.
        self._send("SUBSCRIBE", links.keys.quiet_channel)
        self._send("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", links.keys.all_keys)
        self._answer()

    def go_on(self) -> None:
        """Ask if that is due, and heed what comes until the next question is."""
        now, links = monotonic(), self._links()
        if links is not None and self._asked_at is None and now >= self._due:
            self._ask(links)
        del links
        wait = self._due - now if self._asked_at is None else self._asked_at + _PATIENCE - now
        if wait <= 0 and self._asked_at is not None:
            raise LostConnection("no answer in time")
        self._read(max(wait, _SHORTEST))
        links = self._links()
        while self._answers and links is not None:
            answer = self._answers.popleft()
            is_good = not isinstance(answer, Exception) or type(answer) is AskError  # a slot is on its way elsewhere
            if not is_good:
                links.carrier.topology.doubt(self._node)
                raise LostConnection(_OTHERS) if isinstance(answer, MovedError) else answer
            self._note_answer(links)

    def rest(self) -> float:
        """Say for how long it should not listen, in seconds, if it has woken only just before."""
        now, woke_at = monotonic(), self._woke_at
        self._woke_at = now
        return min(_REST, self._interval / 2) if now - woke_at < _REST else 0.0

    def _ask(self, links: Links) -> None:
        if links.homes(self._node) != self._homes:
            raise LostConnection(_OTHERS)
        links.near.purge()
        self._asked_at = monotonic()
        if isinstance(links.carrier.topology, Cluster):  # a node that was replaced, or is cut off, answers a PING still
            self._turn += 1
            self._send("GET", links.keys.epoch(self._homes[self._turn % len(self._homes)]))
        else:
            self._send("PING")

    def _note_answer(self, links: Links) -> None:
        asked_at, self._asked_at = self._asked_at, None
        if asked_at is None:
            raise LostConnection("the server sent what nobody has asked for")
        if self._asked_before is not None:
            self.line.until = min(self._asked_before + self._staleness, links.carrier.topology.good_until)
        self._asked_before, self._due = asked_at, asked_at + self._interval

    def _answer(self) -> Any:
        ends_at = monotonic() + _PATIENCE
        while not self._answers:
            if monotonic() > ends_at:
                raise LostConnection("no answer in time")
            self._read(_PATIENCE)
        answer = self._answers.popleft()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _send(self, *words: str) -> None:
        self._socket.settimeout(_PATIENCE)
        self._socket.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]  # which says: one word

    def _read(self, seconds: float) -> None:
        """Wait up to *seconds*; heed what is told, and put the replies among the answers."""
        self._socket.settimeout(seconds)
        try:
            data = self._socket.recv(_PIECE)
        except TimeoutError:
            return
        if not data:
            raise LostConnection("the server has closed the connection")
        self._reader.feed(data)
        links = self._links()
        while (reply := self._reader.gets()) is not False:
            if not isinstance(reply, hiredis.PushNotification):
                self._answers.append(reply)
            elif reply[0] == b"invalidate" and links is not None:
                links.near.hear(reply[1])


def _is_refused(error: BaseException) -> bool:
    return is_refusal(error) or code_of(error) in {"NOPERM", "ERR"}


def _told(error: BaseException) -> str:
    if code_of(error) == "NOPERM":
        return f"{error}. What the store's user needs for it, `coatcheck acl --near-cache` prints"
    return f"{error}. Every load asks the store until it is back"
