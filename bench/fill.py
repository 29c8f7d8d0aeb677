"""Fills servers with sessions, fast: many through the library in one pipeline, or copies of one made by a script."""

from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from importlib.resources import files
from itertools import islice
from typing import Any, Final

import redis

import coatcheck
from bench.load.content import SESSION
from bench.shards import shard_of
from coatcheck.engine.keys import Keys
from coatcheck.engine.operations import Operations
from coatcheck.engine.scripts import BY_SHA
from coatcheck.engine.transport import Command, Signal
from coatcheck.model.keyring import Keyring, Place
from coatcheck.model.partition import PARTITIONS, TAGS
from coatcheck.model.policy import SessionPolicy
from coatcheck.model.session import Session
from coatcheck.model.training import Training

TOGETHER: Final = 500
"""Operations that travel in one pipeline."""

_COPIES: Final = 2000
"""Copies that one call of the script makes."""

_APART: Final = 1_000_000
"""What the numbers of sessions that a dictionary is trained on begin with: it has seen none of the others."""

# Copies records in turn under made-up handles of one partition, and enters them as bind.lua does, events included. They
# do not open, since a record is bound to its handle; to the server they are as any other.
_COPY: Final = """
-- KEYS: 1 expiry index  2 events
-- ARGV: 1 stem of records  2 stem of subjects' indexes, or ''  3 ttl  4 now  5 deadline  6 first  7 last  8... records
local ttl, now, deadline = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
for i = tonumber(ARGV[6]), tonumber(ARGV[7]) do
  local made = redis.sha1hex(KEYS[1] .. string.format('%.0f', i))
  local handle, digest = string.sub(made, 1, 16), string.sub(made, 17, 32)
  redis.call('SET', ARGV[1] .. handle, ARGV[8 + i % (#ARGV - 7)], 'PX', ttl)
  if ARGV[2] == '' then
    emit(KEYS[2], 'created', handle, '', ARGV[4], '', '')
  else
    enter(ARGV[2] .. digest, KEYS[1], handle, digest, now, ttl, deadline)
    emit(KEYS[2], 'bound', handle, digest, ARGV[4], '', '')
  end
end
"""


Content = Callable[[int], Mapping[str, Any]]
"""What the session of that number holds."""


def the_same(number: int) -> Mapping[str, Any]:  # noqa: ARG001  that is the point of it
    """Give the content of the load, whichever it is."""
    return SESSION


class _Asked:
    """What a stepped operation awaits: its commands go to whoever steps it, and it goes on with the replies."""

    def __init__(self, commands: tuple[Command, ...]) -> None:
        self._commands = commands

    def __await__(self) -> Generator[tuple[Command, ...], list[Any], list[Any]]:
        return (yield self._commands)


class Stepped:
    """A transport that carries what many operations ask for in one pipeline to each server."""

    def __init__(self, server_of: Callable[[Command], redis.Redis]) -> None:
        """Reach the server that *server_of* gives for a command."""
        self._server_of = server_of

    async def call(self, *commands: Command) -> list[Any]:
        """Do as `Transport.call` says, once `run` comes to it."""
        return await _Asked(commands)

    async def has_stood_since(self, moment: float) -> bool:  # noqa: ARG002  nothing fails over here
        """Say so."""
        return True

    def time_left(self) -> float:
        """Give all the time that there is."""
        return 3600.0

    async def pause(self, seconds: float) -> None:
        """Do not wait: all others have a turn meanwhile."""

    def signal(self) -> Signal:
        """Refuse: of a session that is written twice in one pipeline, the second would wait for ever."""
        raise RuntimeError("one pipeline cannot write a session twice")

    def run(self, works: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
        """Carry out *works*, TOGETHER at a time; give what they return. Raises what they raise."""
        results: list[Any] = []
        waiting = iter(works)
        while batch := list(islice(waiting, TOGETHER)):
            results += self._run_together(batch)
        return results

    def _run_together(self, works: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        results: dict[int, Any] = {}
        replies: dict[int, list[Any] | None] = dict.fromkeys(range(len(works)))
        while replies:
            asked: dict[int, tuple[Command, ...]] = {}
            for i, reply in replies.items():
                try:
                    asked[i] = works[i].send(reply)
                except StopIteration as end:
                    results[i] = end.value
            replies = {**self._carry(asked)}
        return [results[i] for i in range(len(works))]

    def _carry(self, asked: dict[int, tuple[Command, ...]]) -> dict[int, list[Any]]:
        lines: dict[redis.Redis, list[tuple[int, int]]] = {}
        for i, commands in asked.items():
            for number, command in enumerate(commands):
                lines.setdefault(self._server_of(command), []).append((i, number))
        replies: dict[int, list[Any]] = {i: [None] * len(commands) for i, commands in asked.items()}
        for server, sent in lines.items():
            with server.pipeline(transaction=False) as pipeline:
                pipeline.response_callbacks = {}  # replies as the server gives them
                for i, number in sent:
                    pipeline.execute_command(*asked[i][number])
                for (i, number), reply in zip(sent, pipeline.execute(), strict=True):
                    replies[i][number] = reply
        return replies


class Filler:
    """Sessions with the content of the load, on one server or on the primaries of a cluster."""

    def __init__(self, servers: Sequence[redis.Redis], policy: SessionPolicy | None = None) -> None:
        """Fill *servers*, each of which has an equal, contiguous part of the slots."""
        self._servers = [servers[shard_of(partition, len(servers))] for partition in range(PARTITIONS)]
        self._by_tag = dict(zip(TAGS, self._servers, strict=True))
        for server in servers:
            for script in BY_SHA.values():
                server.script_load(script.source)
        self._keys = Keys("cc")
        self.transport: Final = Stepped(self._server_of)
        self.keyring: Final = Keyring.parse(coatcheck.new_key())
        self.operations: Final = Operations(self.transport, keyring=self.keyring, policy=policy)

    def anonymous(self, count: int, content: Content = the_same) -> list[Session]:
        """Create *count* anonymous sessions through the library."""
        return self.transport.run(self.operations.create(content(number)) for number in range(count))

    def bound(self, subjects: Iterable[str], content: Content = the_same) -> list[Session]:
        """Sign *subjects* in through the library, each into a new session."""
        return self.transport.run(self.sign_in(subject, content(number)) for number, subject in enumerate(subjects))

    async def sign_in(self, subject: str, attributes: Mapping[str, Any] = SESSION) -> Session:
        """Sign *subject* in with a new session."""
        session = self.operations.new()
        session.update(attributes)
        await self.operations.bind(session, subject)
        return session

    def copies(self, count: int, *, bound: bool, first: int = 0, models: int = 1, content: Content = the_same) -> None:
        """Let the servers make *count* copies of so many *models*, evenly in all partitions; *first* numbers them."""
        made = self.bound((f"user-{n}" for n in range(models)), content) if bound else self.anonymous(models, content)
        records = []
        for session in made:
            if session.handle is None or session.header is None:
                raise RuntimeError("a session that was just stored has a handle and a header")
            header, record = session.header, self._keys.record(session.handle)
            records.append(self._servers[session.handle.partition].get(record))
        now = header.seen_at
        self.transport.run(self.operations.revoke(session) for session in made)
        lua = files("coatcheck.engine") / "lua"
        source = "".join((lua / f"{part}.lua").read_text() for part in ("record", "events", "index")) + _COPY
        each, more = divmod(count, PARTITIONS)
        for partition, server in enumerate(self._servers):
            last = first + each + (partition < more)
            stem, subjects = self._keys.stem(partition), self._keys.subject(Place(partition, "")) if bound else ""
            copy = server.register_script(source)
            keys = (self._keys.expiry(partition), self._keys.events(partition))
            for begin in range(first, last, _COPIES):
                span = (begin, min(begin + _COPIES, last) - 1)
                copy(keys, (stem, subjects, header.ttl(now), now, header.absolute_deadline, *span, *records))

    def train(self, count: int, content: Content) -> Training:
        """Train a dictionary on *count* sessions, each of a subject of its own, and leave nothing else of them.

        For clients that speak RESP2, as the engine does.
        """
        made = self.bound((f"trained-{number}" for number in range(count)), lambda number: content(number + _APART))
        (training,) = self.transport.run([self.operations.train_dictionary()])
        # The first write after it asks which dictionary is in use, and those in its pipeline do not wait for that.
        made += self.anonymous(1)
        self.transport.run(self.operations.revoke(session) for session in made)
        for partition, server in enumerate(self._servers):
            server.delete(self._keys.events(partition))
        return training

    def _server_of(self, command: Command) -> redis.Redis:
        """Find the server of a command: its first key has the tag of its partition in braces; the first one else."""
        for word in command[1:]:
            if isinstance(word, str) and (end := word.find("}")) > 0 and word[end - 3 : end] in self._by_tag:
                return self._by_tag[word[end - 3 : end]]
        return self._servers[0]
