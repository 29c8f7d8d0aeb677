"""Sessions: the same operations without an event loop, each a line over the same code."""

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any, Final, Literal, Self, TypeVar

from coatcheck.engine.checkup import Checkup
from coatcheck.engine.clock import Clock
from coatcheck.engine.dictionaries import DictionaryInfo, Dropped
from coatcheck.engine.operations import ANYONE, Anyone, Operations
from coatcheck.engine.resealing import Resealed
from coatcheck.engine.server import Server
from coatcheck.model.activity import Activity
from coatcheck.model.events import Event, EventType
from coatcheck.model.issued import IssuerSession
from coatcheck.model.near import NearCounts
from coatcheck.model.policy import SessionPolicy
from coatcheck.model.session import Session, SessionInfo
from coatcheck.model.ticket import Handle, Ticket
from coatcheck.model.training import Training
from coatcheck.runtime import listener
from coatcheck.runtime.address import Address, Keys, prefix_or_default
from coatcheck.runtime.blocking import BlockingTransport
from coatcheck.runtime.channel import BlockingChannel
from coatcheck.runtime.near import links_of
from coatcheck.runtime.outbox import outbox_or_default

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of the engine over a blocking transport: it never suspends, so one step ends it.

    Raises RuntimeError for a coroutine that does suspend.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # StopIteration is not generic
    coroutine.close()
    raise RuntimeError("only coroutines over a blocking transport can be run without an event loop")


class Sessions:
    """The sessions of an application. Make one when the application starts; share it among threads and forks.

        sessions = coatcheck.Sessions("redis://localhost")
        session = sessions.load(identifier)

    It connects when it is first used.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        keys: Keys = None,
        policy: SessionPolicy | None = None,
        prefix: str | None = None,
        outbox: Path | Literal[False] | None = None,
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        """Use the store at *url* (COATCHECK_URL; ``embedded://``), sealing with *keys* (COATCHECK_KEYS).

        keys: also a `Path`, of a file with one key a line (COATCHECK_KEYS_FILE); it is read now, and not again.
        prefix: what key names begin with (COATCHECK_PREFIX; "cc"). clock: for tests, which move it.
        outbox: a file in which ends that the store did not confirm outlive this process (COATCHECK_OUTBOX);
        False: none, whatever the environment names. Processes that share one have the same keys.
        options: deadline (a timedelta), max_connections and redis-py's (`coatcheck.runtime.settings`).
        Raises ConfigurationError.
        """
        address = Address(url)
        transport = BlockingTransport(address, options)
        transport.settings.check(policy)
        keyring = address.keyring(keys)
        prefix = prefix_or_default(prefix)
        journal = outbox_or_default(outbox, prefix, keyring)
        self.core = Operations(transport, keyring=keyring, policy=policy, prefix=prefix, clock=clock, journal=journal)
        self._open_channel: Final = partial(BlockingChannel, transport, prefix)
        self._subscribers = listener.Subscribers(may_await=False, leases=self.core.leases)
        self._near_links = links_of(transport, self.core.near, self.core.policy, prefix)
        self._close_transport = transport.close
        self._leave = address.leave

    @property
    def policy(self) -> SessionPolicy:
        """The rules of these sessions."""
        return self.core.policy

    def new(self) -> Session:
        """See `Operations.new`."""
        return self.core.new()

    def create(self, attributes: Mapping[str, Any] | None = None) -> Session:
        """See `Operations.create`."""
        return run(self.core.create(attributes))

    def load(self, identifier: str | Ticket, *, fresh: bool = False) -> Session | None:
        """See `Operations.load`."""
        return run(self.core.load(identifier, fresh=fresh))

    def refresh(self, session: Session) -> bool:
        """See `Operations.refresh`."""
        return run(self.core.refresh(session))

    def find(self, handle: Handle | str) -> Session | None:
        """See `Operations.find`."""
        return run(self.core.find(handle))

    def save(self, session: Session) -> None:
        """See `Operations.save`."""
        return run(self.core.save(session))

    def touch(self, session: Session) -> bool:
        """See `Operations.touch`."""
        return run(self.core.touch(session))

    def rotate(self, session: Session) -> None:
        """See `Operations.rotate`."""
        return run(self.core.rotate(session))

    def revoke(
        self,
        session: Session | Handle | str,
        *,
        subject: str | Anyone | None = ANYONE,
        by: str = "",
        why: str = "",
    ) -> bool:
        """See `Operations.revoke`."""
        return run(self.core.revoke(session, subject=subject, by=by, why=why))

    def sweep(self) -> int:
        """See `Operations.sweep`."""
        return run(self.core.sweep())

    def reseal(self, *, batch: int = 500) -> Resealed:
        """See `Operations.reseal`."""
        return run(self.core.reseal(batch=batch))

    def server(self) -> Server:
        """See `Operations.server`."""
        return run(self.core.server())

    def train_dictionary(self, *, samples: int = 10_000, batch: int = 500) -> Training:
        """See `Operations.train_dictionary`."""
        return run(self.core.train_dictionary(samples=samples, batch=batch))

    def dictionaries(self) -> list[DictionaryInfo]:
        """See `Operations.dictionaries`."""
        return run(self.core.dictionaries())

    def drop_dictionary(self, name: str, *, batch: int = 500) -> Dropped | None:
        """See `Operations.drop_dictionary`."""
        return run(self.core.drop_dictionary(name, batch=batch))

    def check_server(self) -> Checkup:
        """See `Operations.check_server`."""
        return run(self.core.check_server())

    def pending_revocations(self) -> int:
        """See `Operations.pending_revocations`."""
        return self.core.pending_revocations()

    def remaining(self, session: Session) -> int:
        """See `Operations.remaining`."""
        return self.core.remaining(session)

    def time_left(self, sessions: Iterable[Session]) -> list[timedelta]:
        """See `Operations.time_left`."""
        return run(self.core.time_left(sessions))

    def is_fresh(self, session: Session, within: timedelta, assurance: int = 1) -> bool:
        """See `Operations.is_fresh`."""
        return self.core.is_fresh(session, within, assurance)

    def require_fresh(self, session: Session, within: timedelta, assurance: int = 1) -> None:
        """See `Operations.require_fresh`."""
        self.core.require_fresh(session, within, assurance)

    def demand_fresh(self, session: Session, within: timedelta, assurance: int = 1) -> None:
        """See `Operations.demand_fresh`."""
        return run(self.core.demand_fresh(session, within, assurance))

    def near_cache(self) -> NearCounts | None:
        """See `Operations.near_cache`."""
        return self.core.near_cache()

    def bind(self, session: Session, subject: str, *, assurance: int = 1) -> None:
        """See `Operations.bind`."""
        return run(self.core.bind(session, subject, assurance=assurance))

    def unbind(self, session: Session) -> None:
        """See `Operations.unbind`."""
        return run(self.core.unbind(session))

    def revoke_all(self, subject: str, *, keep: Handle | str | None = None, by: str = "", why: str = "") -> int:
        """See `Operations.revoke_all`."""
        return run(self.core.revoke_all(subject, keep=keep, by=by, why=why))

    def revoke_issued(self, issued: IssuerSession, *, why: str = "back-channel logout") -> int:
        """See `Operations.revoke_issued`."""
        return run(self.core.revoke_issued(issued, why=why))

    def revoke_others(self, session: Session, *, by: str = "", why: str = "") -> int:
        """See `Operations.revoke_others`."""
        return run(self.core.revoke_others(session, by=by, why=why))

    def revoke_everyone(self, *, by: str = "", why: str = "") -> None:
        """See `Operations.revoke_everyone`."""
        return run(self.core.revoke_everyone(by=by, why=why))

    def erase(self, subject: str) -> int:
        """See `Operations.erase`."""
        return run(self.core.erase(subject))

    def list_for(self, subject: str) -> list[SessionInfo]:
        """See `Operations.list_for`."""
        return run(self.core.list_for(subject))

    def activity(
        self,
        session: Session | Handle | str,
        *,
        newest_first: bool = True,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> list[Activity]:
        """See `Operations.activity`."""
        return run(self.core.activity(session, newest_first=newest_first, since=since, until=until, limit=limit))

    def recognise(self, session: Session, *, user_agent: str | None, address: str | None) -> bool:
        """See `Operations.recognise`."""
        return run(self.core.recognise(session, user_agent=user_agent, address=address))

    def is_rotation_due(self, session: Session) -> bool:
        """See `Operations.is_rotation_due`."""
        return self.core.is_rotation_due(session)

    def csrf_token(self, session: Session) -> str:
        """See `Operations.csrf_token`."""
        return self.core.csrf_token(session)

    def is_csrf_token(self, session: Session, token: str, *, is_own: bool = False) -> bool:
        """See `Operations.is_csrf_token`."""
        return self.core.is_csrf_token(session, token, is_own=is_own)

    def subject_digests(self, subject: str) -> frozenset[str]:
        """See `Operations.subject_digests`."""
        return self.core.subject_digests(subject)

    def read_events(
        self, group: str, consumer: str, *, at_most: int = 100, claim_after: timedelta = timedelta(minutes=1)
    ) -> list[Event]:
        """See `Operations.read_events`."""
        return run(self.core.read_events(group, consumer, at_most=at_most, claim_after=claim_after))

    def acknowledge_events(self, group: str, events: Iterable[Event]) -> int:
        """See `Operations.acknowledge_events`."""
        return run(self.core.acknowledge_events(group, events))

    def on(self, *types: EventType) -> Callable[[listener.C], listener.C]:
        """Decorate a function to be called with each Event of *types* (none given: of any) while this listens.

        One event at a time, in order, in the thread that listens. What they raise is logged.
        """
        return self._subscribers.add(types)

    def listen(self) -> None:
        """Tell the functions registered with `on` what happens to sessions, in any process, for ever.

        Connects again when the connection is lost, and never raises. An event is told at most once: what happened
        while there was no connection is not told. `read_events` misses nothing.
        """
        return run(listener.listen(self._open_channel(), self._subscribers.tell))

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen in a thread of its own for as long as the block runs: ``with sessions.listening():``.

        The block begins when the connection is there, or when the first attempt to connect has failed.
        """
        tried, ended = Flag(), Flag()
        work = listener.listen(
            self._open_channel(),
            self._subscribers.tell,
            tried=lambda _: tried.set(),
            is_wanted=lambda: not ended.is_set(),
        )
        thread = Thread(target=run, args=(work,), name="coatcheck-listener", daemon=True)
        thread.start()
        try:
            tried.wait()
            yield
        finally:
            ended.set()
            thread.join()

    def close(self) -> None:
        """Close every connection, and leave the embedded server."""
        if self._near_links is not None:
            self._near_links.close()
        self._close_transport()
        self._leave()

    def __enter__(self) -> Self:
        """Use it in a ``with``, which closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
