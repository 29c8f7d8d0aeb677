"""What the workers do: sign-ins, reads, saves, rotations and revocations, each entered in the ledger."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from threading import Lock
from typing import Any, Final

from coatcheck import RecordCorrupted, SessionRevoked, StoreError
from coatcheck.engine.operations import Operations
from coatcheck.model.session import Session
from faults.ledger import Kind, Ledger, Operation, Outcome, Seen, Trace, present

PACE_SECONDS: Final = 0.03
"""What a worker waits between two things, on average. With six of them that are some 200 operations a second."""

_AT_ONCE: Final = 0.5  # of the things that are done follow at once on another, as the requests of a page do
_NEWEST: Final = 0.5  # of them concern the session that was signed in last, so that workers meet at it
_FEWEST, _MOST = 12, 40
_TRIES: Final = 3
_SUBJECTS: Final = 12
_ENDS: Final = frozenset({"revoke", "revoke_all"})
_WEIGHTS: Final = {
    "read": 4.0,
    "add": 8.0,
    "put": 4.0,
    "rotate": 1.0,
    "sign_in": 1.0,
    "revoke": 0.6,
    "revoke_all": 0.1,
    "look_at_ended": 2.0,
}


@dataclass(eq=False)
class Known:
    """A session that was signed in, as its browser and the application know it."""

    name: str
    subject: str
    handle: str
    identifier: str
    secret: int = 0
    """The number of the secret in `identifier`."""
    is_retired: bool = False
    """Whether it is left alone: ended, or its rotation is unknown, so that nobody knows which secret is good."""
    lock: Lock = field(default_factory=Lock)
    """Held by who rotates it."""


class People:
    """The sessions that the workers share."""

    def __init__(self, seed: str) -> None:
        """Begin with nobody. seed: for names that no other process gives."""
        self.seed: Final = seed
        self.known: Final[list[Known]] = []

    def living(self) -> list[Known]:
        """Give those that may be used."""
        return [one for one in self.known if not one.is_retired]

    def retired(self) -> list[Known]:
        """Give those that are over."""
        return [one for one in self.known if one.is_retired]


class Worker:
    """Does one thing after the other, and enters each in the ledger."""

    def __init__(
        self,
        name: str,
        sessions: Operations,
        people: People,
        ledger: Ledger,
        *,
        is_last: bool = False,
        is_apart: bool = False,
    ) -> None:
        """Work with *sessions*, whose transport is watched. is_last, is_apart: of its reads; see `Operation`."""
        self._marks = {"is_last": is_last, "is_apart": is_apart}
        self._near = sessions.policy.near_cache
        self.name = name
        self._sessions = sessions
        self._people = people
        self._ledger = ledger
        self._chance = Random(f"{people.seed} {name}")  # noqa: S311  it chooses what is done
        self._count = 0
        self._is_answered = True

    async def work(self, has_ended: Callable[[], bool], pace: float = PACE_SECONDS) -> None:
        """Go on until *has_ended*. pace: seconds between two things, on average."""
        while not has_ended():
            await self.step()
            seconds = 2 * pace * self._chance.random()
            if self._is_answered:  # who asks again at once after an error asks a breaker, a thousand times a second
                seconds = 0.0 if self._chance.random() < _AT_ONCE else seconds / (1 - _AT_ONCE)
            await self._sessions._store.transport.pause(seconds)

    async def step(self) -> None:
        """Do one thing."""
        living = self._people.living()
        (what,) = self._chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        if what == "look_at_ended":
            gone = self._people.retired()[-20:]
            # Only who comes with an identifier may be answered from memory.
            look = self.read if self._near else self.look
            await (look(self._chance.choice(gone)) if gone else self.sign_in())
        elif what == "sign_in" or not living or (len(living) < _FEWEST and (what in _ENDS or self._is_answered)):
            await self.sign_in()  # not again and again where that is refused: what there is can still be read
        elif what in _ENDS or len(living) > _MOST:
            await (self.revoke_all() if what == "revoke_all" else self.revoke(self._choose(living)))
        else:
            await getattr(self, what)(self._choose(living))

    def _choose(self, living: list[Known]) -> Known:
        return living[-1] if self._chance.random() < _NEWEST else self._chance.choice(living)

    async def sign_in(self) -> None:
        """Sign somebody in."""
        self._count += 1
        name, subject = f"{self._people.seed}-{self.name}-{self._count}", f"user{self._chance.randrange(_SUBJECTS)}"
        session = self._sessions.new()
        session.update({"session": name, "total": 0})
        entry = await self._do(lambda: self._sessions.bind(session, subject), Kind.SIGN_IN, subject, name, secret=0)
        if entry["outcome"] is Outcome.DONE:
            entry |= {"handle": str(session.handle), "identifier": session.identifier}
            self._people.known.append(Known(name, subject, str(session.handle), session.identifier or ""))
        self._enter(entry)

    async def read(self, one: Known) -> Session | None:
        """Load a session as a request does."""
        identifier, secret = one.identifier, one.secret
        staleness = self._near.staleness.total_seconds() if self._near else 0.0
        return await self._look(one, secret, lambda: self._sessions.load(identifier), staleness)

    async def look(self, one: Known) -> None:
        """See by its handle whether a session is there, whatever its secret."""
        await self._look(one, -1, lambda: self._sessions.find(one.handle))

    async def add(self, one: Known) -> None:
        """Count in a session."""
        session = await self.read(one)
        if session is not None:
            amount = self._chance.randrange(1, 10)
            session.increment("total", amount)
            await self._save(one, session, Kind.ADD, amount)

    async def put(self, one: Known) -> None:
        """Set the attribute of this worker."""
        session = await self.read(one)
        if session is not None:
            self._count += 1
            session[f"of {self.name}"] = self._count
            await self._save(one, session, Kind.SET, self._count)

    async def rotate(self, one: Known) -> None:
        """Give a session a new secret, unless another worker is at it; ask again where the answer is lost."""
        if not one.lock.acquire(blocking=False):
            return
        try:
            session = await self.read(one)
            if session is None:
                return
            is_unknown = False
            for _ in range(_TRIES):
                outcome = await self._rotate(one, session)
                is_unknown |= outcome is Outcome.UNKNOWN
                if outcome is Outcome.DONE or not is_unknown:
                    return
            one.is_retired = True  # nobody knows which secret is good
        finally:
            one.lock.release()

    async def _rotate(self, one: Known, session: Session) -> Outcome:
        """Try to give a session a new secret; note it, if that succeeds."""
        entry = await self._do(
            lambda: self._sessions.rotate(session),
            Kind.ROTATE,
            one.subject,
            one.name,
            secret=one.secret + 1,
            handle=one.handle,
        )
        if entry["kind"] is Kind.READ:
            one.is_retired = True
        elif entry["outcome"] is Outcome.DONE and session.identifier:
            one.identifier, one.secret = session.identifier, one.secret + 1
            entry["identifier"] = session.identifier
        self._enter(entry)
        return Outcome(entry["outcome"])

    async def revoke(self, one: Known) -> None:
        """End a session."""
        ended = False

        async def end() -> None:
            nonlocal ended
            # Sent twice, since the first reply was lost, it finds what itself has ended.
            ended = await self._sessions.revoke(one.handle, subject=one.subject) or present.get().writes > 1

        one.is_retired = True
        entry = await self._do(end, Kind.REVOKE, one.subject, one.name, handle=one.handle)
        self._enter(entry | {"value": int(ended)})

    async def revoke_all(self) -> None:
        """End all sessions of somebody."""
        subject = f"user{self._chance.randrange(_SUBJECTS)}"
        for one in self._people.living():
            one.is_retired |= one.subject == subject
        self._enter(await self._do(lambda: self._sessions.revoke_all(subject), Kind.REVOKE_ALL, subject))

    async def _save(self, one: Known, session: Session, kind: Kind, value: int) -> None:
        entry = await self._do(
            lambda: self._sessions.save(session), kind, one.subject, one.name, value=value, handle=one.handle
        )
        self._enter(entry)

    async def _look(
        self, one: Known, secret: int, look: Callable[[], Awaitable[Session | None]], staleness: float = 0.0
    ) -> Session | None:
        session: Session | None = None

        async def find() -> None:
            nonlocal session
            session = await look()

        entry = await self._do(find, Kind.READ, one.subject, one.name, secret=secret, handle=one.handle)
        marks = {**self._marks, "staleness": staleness, "found": None if session is None else seen(session)}
        self._enter(entry | marks)
        return session

    async def _do(
        self, act: Callable[[], Awaitable[Any]], kind: Kind, subject: str, session: str = "", **more: Any
    ) -> dict[str, Any]:
        """Do *act*, and give the entry about it. A write that finds its session ended is an answer: a read of that."""
        entry = {"kind": kind, "subject": subject, "session": session, "writer": self.name, **more}
        trace, began = Trace(), time.monotonic()
        entry |= {"began": began, "ended": float("inf"), "outcome": Outcome.UNKNOWN}
        self._ledger.begins(Operation(**entry))
        present.set(trace)
        entry |= {"outcome": Outcome.DONE}
        try:
            await act()
        except SessionRevoked:
            # Sent again, since the first reply was lost, it may have been carried out before the session ended.
            is_certain = trace.writes <= 1
            entry |= {"kind": Kind.READ, "secret": -1} if is_certain else {"outcome": Outcome.UNKNOWN}
        except RecordCorrupted as error:
            entry |= {"outcome": Outcome.UNKNOWN, "problem": str(error), "is_corrupted": True}
        except StoreError as error:
            # An end that was asked for is kept and asked for again, whatever went wrong.
            may_come = trace.writes or trace.is_along or kind in {Kind.REVOKE, Kind.REVOKE_ALL}
            entry |= {"outcome": Outcome.UNKNOWN if may_come else Outcome.FAILED, "problem": str(error)}
        except Exception as error:  # noqa: BLE001  whatever comes is what the checker is to judge
            entry |= {"outcome": Outcome.UNKNOWN, "problem": repr(error), "is_foreign": True}
        self._is_answered = entry["outcome"] is Outcome.DONE
        return entry | {"ended": time.monotonic()}

    def _enter(self, entry: dict[str, Any]) -> None:
        self._ledger.add(Operation(**entry))


def seen(session: Session) -> Seen:
    """Give what a session is seen to be."""
    marks = {name.removeprefix("of "): value for name, value in session.items() if name.startswith("of ")}
    return Seen(
        handle=str(session.handle),
        subject=session.subject,
        session=str(session.get("session")),
        total=int(session.get("total", 0)),
        marks=marks,
    )
