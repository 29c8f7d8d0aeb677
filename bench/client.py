"""What a session costs its application in CPU, without a server and a framework: `python -m bench.client`.

The session is the load's (338 bytes of plain JSON), anonymous, stored as it is by default and compressed with a
dictionary that was trained on other customers' (bench.shoppers). Two levels: a record alone (`Records`, `encode`,
`decode`), and whole operations, behind a transport that has the reply at once. Rounds go through all rows in turn, each
with sessions of its own; a figure is the median of the rounds, in microseconds of the thread's CPU, and in brackets the
least. Python's garbage collector does not run meanwhile.
"""

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

import coatcheck
from bench.load.content import PLAIN_BYTES, SESSION
from bench.shoppers import shopper
from coatcheck.engine import scripts
from coatcheck.engine.keys import Keys
from coatcheck.engine.operations import Operations
from coatcheck.engine.transport import Command, Signal
from coatcheck.model.codec import decode, encode
from coatcheck.model.compression import Dictionary
from coatcheck.model.dictionary import SealedDictionaries
from coatcheck.model.keyring import Keyring
from coatcheck.model.record import Header, Payload, Records
from coatcheck.model.session import Session
from coatcheck.model.ticket import Handle, Ticket
from coatcheck.model.training import Sample, train

TOGETHER: Final = 300
"""Sessions of a round: fewer than are kept in memory, so that a save meets its session there."""
_TRAINED: Final = 3000
_FOREVER: Final = 2**47
_HOURS: Final = 3_600_000

Times = dict[str, float]


class Stored(NamedTuple):
    """A record, and what is in it."""

    handle: Handle
    header: Header
    payload: Payload
    record: bytes


class Kept:
    """A transport to a store that is a dict, and does no more than the operations here ask of it."""

    def __init__(self, dictionary: bytes | None, name: str) -> None:
        """Have *dictionary*, sealed, under *name*; None: none."""
        self.records: dict[Any, Any] = {}
        self._list = [] if dictionary is None else [name.encode(), b"1"]
        self._dictionary = dictionary

    async def call(self, *commands: Command) -> list[Any]:
        """Reply at once."""
        return [self._reply(command) for command in commands]

    def _reply(self, command: Command) -> Any:
        match command:
            case ("MGET", key, _):
                reply: Any = [self.records.get(key), None]
            case ("EVALSHA", scripts.CREATE.sha | scripts.SAVE.sha, _, key, _, _, record, *_):
                self.records[key] = record
                reply = [1]
            case ("EVALSHA", scripts.DICTIONARY_KEEP.sha, *_):
                reply = 1
            case ("TIME",):
                reply = divmod(time.time_ns() // 1000, 1_000_000)
            case ("ZRANGE", *_):
                reply = self._list
            case ("GET", _):
                reply = self._dictionary
            case _:
                raise RuntimeError(f"nothing here asks for {command[0]}")
        return reply

    async def has_stood_since(self, moment: float) -> bool:  # noqa: ARG002  nothing fails over here
        """Say so."""
        return True

    def time_left(self) -> float:
        """Give all the time that there is."""
        return 3600.0

    async def pause(self, seconds: float) -> None:
        """Do not wait."""

    async def survey(self) -> list[Any]:
        """Have no servers to ask."""
        return []

    def signal(self) -> Signal:
        """Refuse: nobody waits here."""
        raise RuntimeError("nothing is written twice at once")


class Client:
    """What is measured, without a dictionary or with one."""

    def __init__(self, dictionary: Dictionary | None) -> None:
        """Seal with *dictionary*."""
        self._dictionary = dictionary
        self._keyring = Keyring.parse(coatcheck.new_key())
        name = f"{dictionary.id:08x}" if dictionary else ""
        sealed = SealedDictionaries(self._keyring, "cc").seal(dictionary) if dictionary else None
        self._transport = Kept(sealed, name)
        _run([self._operations().create(SESSION)])  # what is derived from the keys once, is

    def round(self) -> Times:
        """Measure each once."""
        return {**self._records_alone(), **self._whole_operations()}

    def _records_alone(self) -> Times:
        found: Times = {}
        now = time.time_ns() // 1_000_000
        headers = [(Handle.new(), _header(now, Ticket.new(Handle.new()).digest)) for _ in range(TOGETHER)]
        sealing = self._records()

        def seal() -> list[Stored]:
            made = []
            for handle, header in headers:
                payload = Payload(None, {name: encode(value) for name, value in SESSION.items()})
                made.append(Stored(handle, header, payload, sealing.seal(handle, header, payload)))
            return made

        def seal_again(records: list[Stored]) -> list[Stored]:
            made = []
            for handle, header, payload, _ in records:
                again = replace(header, revision=header.revision + 1)
                changed = payload.following({**payload.attributes, "hits": encode(header.revision)}, b"", 1000)
                made.append(Stored(handle, again, changed, sealing.seal(handle, again, changed)))
            return made

        def open_(opening: Records, records: list[Stored]) -> None:
            for handle, _, _, record in records:
                found = opening.recall(handle, record)
                _, payload = opening.open(handle, record) if found is None else found
                for raw in payload.attributes.values():
                    decode(raw)

        first = _timed(found, "encode + seal, a new session", seal)
        opening = self._records()
        _timed(found, "open + decode, a session that is not known", lambda: open_(opening, first))
        _timed(found, "decode, a record that is known by its bytes", lambda: open_(opening, first))
        second = _timed(found, "encode + seal, one attribute of a session that is known", lambda: seal_again(first))
        _timed(found, "open + decode, what another process has saved of it", lambda: open_(opening, second))
        return found

    def _whole_operations(self) -> Times:
        found: Times = {}
        self._transport.records.clear()
        ours, others = self._operations(), self._operations()
        _run([ours.create(SESSION), others.create(SESSION)])  # they learn the time, and which dictionary is in use
        made: list[Session] = _timed(found, "create", lambda: _run(ours.create(SESSION) for _ in range(TOGETHER)))
        identifiers = [str(session.identifier) for session in made]

        def load(operations: Operations) -> list[Session]:
            sessions = _run(operations.load(identifier) for identifier in identifiers)
            for session in sessions:
                for name in session:
                    session[name]
            return sessions

        _timed(found, "load and read all, a session that is not known", lambda: load(others))
        loaded = _timed(found, "load and read all, known by its bytes", lambda: load(ours))
        for session in loaded:
            session.increment("hits")
        _timed(found, "save one changed attribute, all having been read", lambda: _run(map(ours.save, loaded)))
        fresh: list[Session] = _run(ours.load(identifier) for identifier in identifiers)
        for session in fresh:
            session["hits"] += 1
        _timed(found, "save one changed attribute, nothing else having been read", lambda: _run(map(ours.save, fresh)))
        return found

    def _records(self) -> Records:
        records = Records(self._keyring, "cc")
        if self._dictionary:
            records.use(self._dictionary, _FOREVER)
        return records

    def _operations(self) -> Operations:
        return Operations(self._transport, keyring=self._keyring)

    @property
    def record_bytes(self) -> int:
        """Bytes of a record of it."""
        (session,) = _run([self._operations().create(SESSION)])
        return len(self._transport.records[Keys("cc").record(session.handle)])


def _header(now: int, digest: bytes) -> Header:
    return Header(
        revision=1,
        created_at=now,
        absolute_deadline=now + 12 * _HOURS,
        seen_at=now,
        idle_timeout=_HOURS // 2,
        persistent=False,
        digest=digest,
    )


def _run(works: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Carry out what never has to wait."""
    results = []
    for work in works:
        try:
            work.send(None)
        except StopIteration as end:
            results.append(end.value)
        else:
            raise RuntimeError("an operation waited for something")
    return results


def _timed(found: Times, name: str, work: Callable[[], Any]) -> Any:
    gc.collect()
    gc.disable()
    try:
        began = time.thread_time_ns()
        result = work()
        found[name] = (time.thread_time_ns() - began) / 1000 / TOGETHER
    finally:
        gc.enable()
    return result


def trained(sessions: int) -> Dictionary:
    """Train a dictionary on the sessions of so many customers."""
    samples = []
    for number in range(sessions):
        attributes = {name: encode(value) for name, value in shopper(number).items()}
        samples.append(Sample(str(number), Payload(None, attributes).encode()))
    return train(samples).dictionary


def main() -> None:
    """Measure, and write a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.client", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    given = parser.parse_args()
    clients = [Client(None), Client(trained(_TRAINED))]
    rounds: list[list[Times]] = [[client.round() for client in clients] for _ in range(given.rounds + 1)][1:]
    sys.stdout.write(
        f"{PLAIN_BYTES} bytes of plain JSON, records of {clients[0].record_bytes} bytes without a dictionary "
    )
    sys.stdout.write(f"and {clients[1].record_bytes} with one.\n\n| CPU us | without | with a dictionary |\n")
    sys.stdout.write("| --- | ---: | ---: |\n")
    for name in rounds[0][0]:
        cells = []
        for which in range(len(clients)):
            times = [measured[which][name] for measured in rounds]
            cells.append(f"{statistics.median(times):.1f} ({min(times):.1f})")
        sys.stdout.write(f"| {name} | {' | '.join(cells)} |\n")


if __name__ == "__main__":
    main()
