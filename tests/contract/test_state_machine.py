"""The whole API against a simple model: several clients with stale copies, on a real server with a moved clock.

COATCHECK_TEST_EXAMPLES sets how many stories are tried; each has up to 50 steps.
"""

import inspect
import os
import secrets
from datetime import timedelta
from random import Random
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from coatcheck import SessionConflict, SessionPolicy, SessionRevoked
from tests.contract.model import ABSOLUTE, DEVICES, GRACE, IDLE, LIMIT, Conflict, Copy, Ended, Model

MINUTE = timedelta(minutes=1)
POLICY = SessionPolicy(
    idle_timeout=IDLE * MINUTE,
    absolute_timeout=ABSOLUTE * MINUTE,
    rotation_grace=GRACE * MINUTE,
    limit=LIMIT,
    device_limits=DEVICES,
)
CLIENTS = 2
EXAMPLES = int(os.environ.get("COATCHECK_TEST_EXAMPLES", "60"))

clients = st.integers(0, CLIENTS - 1)
subjects = st.sampled_from(["ada", "bob"])
devices = st.sampled_from(["phone", "phone", "desktop", None])
names = st.sampled_from(["a", "b", "d"])
picks = st.integers(0, 9)
inner = st.sampled_from(["x", "y"])
often = st.sampled_from([True, True, True, False])
changes = st.lists(
    st.tuples(st.just("sets"), names)
    | st.tuples(st.just("deletes"), names)
    | st.tuples(st.just("increments"), st.integers(-3, 3))
    | st.tuples(st.just("sets_inside"), inner)
    | st.tuples(st.just("deletes_inside"), inner)
    | st.tuples(st.just("clears"), st.none()),
    max_size=3,
)


class Stories(RuleBasedStateMachine):
    """What may happen, each step done to the sessions and to the model."""

    def __init__(self, open_sessions, server, clock):
        super().__init__()
        server.client.flushall()
        self.server = server
        self.clock = clock
        self.opened = [open_sessions(policy=POLICY) for _ in range(CLIENTS + 1)]
        self.reader = self.opened[-1]
        self.model = Model(CLIENTS)
        self.identifiers = []
        self.copies = []
        self.values = iter(range(1_000_000))

    def teardown(self):
        """Close the connections."""
        for sessions in self.opened:
            sessions.close()

    def hold(self, copy):
        """Remember the copy and its identifier, and forget old ones."""
        held = [other for other in self.copies if other is not copy and self.model.live(other.handle) is not None]
        self.copies = [*([self.copies[0]] if self.copies and not held else held), copy][-6:]
        self.identifiers = [*(known for known in self.identifiers if known != copy.identifier), copy.identifier][-8:]

    @staticmethod
    def pick(candidates, number):
        """Choose one, the latest more easily."""
        return candidates[-1 - number % len(candidates)]

    def agree(self, predicted, happens):
        """Let the model do what the sessions do; hold that both raise the same. Give what the model gave."""
        expected, result = None, None
        try:
            result = predicted()
        except Ended:
            expected = SessionRevoked
        except Conflict:
            expected = SessionConflict
        if expected is None:
            happens()
            return result
        with pytest.raises(expected):
            happens()
        return None

    # Sessions begin and are loaded

    @initialize(client=clients)
    def first(self, client):
        """There is one session to begin with."""
        self.creates(client)

    @rule(client=clients)
    def creates(self, client):
        """A client creates a session."""
        attributes = {"a": next(self.values), "n": 0, "d": {"x": next(self.values)}}
        session = self.opened[client].create(attributes)
        copy = Copy(client, session, "", None, "", "", 0, {})
        self.model.store(copy, attributes, None)
        self.hold(copy)

    @rule(client=clients, pick=picks, times=st.integers(1, 2), strict=st.booleans())
    def loads(self, client, pick, times, strict):
        """One or two requests load a session by an identifier, old or new."""
        live = [record.current for handle in list(self.model.records) if (record := self.model.live(handle))]
        identifier = self.pick(live if live and pick > 1 else self.identifiers, pick)
        for _ in range(times):
            expected, session = self.model.opened_by(identifier), self.opened[client].load(identifier)
            assert (session is None) == (expected is None)
            if expected is not None:
                handle, record = expected
                assert session.is_superseded == (identifier != record.current)
                session.strict = strict
                copy = Copy(client, session, handle, record.subject, identifier, "", 0, {}, is_strict=strict)
                copy.device = record.device
                self.model.settle(copy)
                self.hold(copy)

    # Sessions are changed and written

    @rule(pick=picks, changes=changes, is_rotated=st.sampled_from([False, False, True]), is_saved=often)
    def works(self, pick, changes, is_rotated, is_saved):
        """A request changes its session, rotates it perhaps, and saves it as a rule."""
        copy = self.pick(self.copies, pick)
        for what, detail in changes:
            getattr(self, what)(copy, detail)
        if is_rotated:
            copy.session.rotate()
            copy.is_rotating = not copy.is_ended
        if is_saved:
            self.save(copy)

    def sets(self, copy, name):
        """Set an attribute."""
        value = {"x": next(self.values)} if name == "d" else next(self.values)
        copy.session[name] = value
        copy.set(name, value)

    def deletes(self, copy, name):
        """Remove an attribute, where there is one."""
        assert (name in copy.session) == (name in copy.view)
        if name in copy.view:
            del copy.session[name]
            copy.delete(name)

    def increments(self, copy, by):
        """Add to a number."""
        copy.increment("n", by)
        assert copy.session.increment("n", by) == copy.view["n"]

    def sets_inside(self, copy, key):
        """Change a value inside a dict."""
        if "d" in copy.view:
            copy.session["d"][key] = copy.view["d"][key] = next(self.values)

    def deletes_inside(self, copy, key):
        """Remove a value inside a dict."""
        if key in copy.view.get("d", {}):
            del copy.session["d"][key]
            del copy.view["d"][key]

    def clears(self, copy, _):
        """Remove everything."""
        copy.session.clear()
        copy.clear()

    def save(self, copy):
        """Save a copy."""
        sessions = self.opened[copy.client]
        self.agree(lambda: self.model.save(copy), lambda: sessions.save(copy.session))
        self.model.saved(copy)
        self.hold(copy)
        assert copy.session.ended == copy.is_ended
        assert copy.is_ended or copy.is_changed or dict(copy.session) == copy.view

    @rule(pick=picks, changes=changes)
    def increments_and_saves(self, pick, changes):
        """A request counts something and saves it: what most requests do."""
        self.works(pick, [("increments", 1), *changes], is_rotated=False, is_saved=True)

    @precondition(lambda self: len(self.model.records) > 2)
    @rule(pick=picks)
    def asks_for_the_end(self, pick):
        """A request ends its session."""
        copy = self.pick(self.copies, pick)
        copy.session.revoke()
        copy.is_ended = True
        self.save(copy)

    @rule(pick=picks, changes=changes, subject=subjects, device=devices)
    def signs_in(self, pick, changes, subject, device):
        """A request changes its session and signs somebody in on a device, whoever was before."""
        copy = self.pick(self.copies, pick)
        if copy.is_ended:
            return
        for what, detail in changes:
            getattr(self, what)(copy, detail)
        copy.session.device = copy.device = device
        self.clock.moved += 2  # no two sign-ins in the same millisecond: it says which session is the oldest
        sessions = self.opened[copy.client]
        attributes = self.agree(lambda: self.model.bind(copy, subject), lambda: sessions.bind(copy.session, subject))
        if attributes is not None:
            self.model.store(copy, attributes, subject)
            self.hold(copy)
            assert dict(copy.session) == copy.view

    @rule(pick=picks)
    def signs_out(self, pick):
        """A request signs out."""
        copy = self.pick(self.copies, pick)
        if copy.is_ended or copy.subject is None:
            return
        sessions = self.opened[copy.client]
        attributes = self.agree(lambda: self.model.take(copy), lambda: sessions.unbind(copy.session))
        if attributes:
            self.model.store(copy, attributes, None)
            self.hold(copy)
        elif attributes is not None:
            copy.is_ended = True
            copy.start_over({})

    # Sessions are ended from outside

    @precondition(lambda self: len(self.model.records) > 2)
    @rule(client=clients, pick=picks, claimed=st.sampled_from([None, "nobody", "ada", "bob"]))
    def revokes(self, client, pick, claimed):
        """A session is ended by its handle, perhaps for a subject that it is not of."""
        handle = self.pick(list(self.model.records), pick)
        record = self.model.live(handle)
        is_allowed = record is not None and claimed in {None, record.subject}
        options = {} if claimed is None else {"subject": None if claimed == "nobody" else claimed}

        assert self.opened[client].revoke(handle, **options) == is_allowed

        if is_allowed:
            self.model.end(handle, client)

    @precondition(lambda self: len(self.model.records) > 2)
    @rule(client=clients, subject=subjects, pick=picks)
    def revokes_all(self, client, subject, pick):
        """The sessions of a subject are ended, perhaps but one."""
        live = self.model.of(subject)
        keep = [None, *live][pick % (1 + len(live))]
        stale = len([handle for handle in live if handle != keep])

        assert self.opened[client].revoke_all(subject, keep=keep) == stale

        for handle in live:
            if handle != keep:
                del self.model.records[handle]

    # Time passes

    @rule(minutes=st.sampled_from([1, 1, 2, 3, 5, 10, 20, 29, 30]))
    def waits(self, minutes):
        """Some minutes pass."""
        self.clock.advance(minutes * MINUTE)
        self.model.now += minutes

    @rule(client=clients, is_meant=st.sampled_from([True, False, False, False]))
    def revokes_everyone(self, client, is_meant):
        """Now and then everybody's sessions are ended."""
        if is_meant:
            self.opened[client].revoke_everyone()
            self.model.records.clear()

    @rule(client=clients)
    def sweeps(self, client):
        """The indexes are settled."""
        self.opened[client].sweep()

    # What always holds

    @invariant()
    def identifiers_open_what_they_should(self):
        """Every identifier opens its session as the model has it, or nothing."""
        for identifier in self.identifiers:
            expected, session = self.model.opened_by(identifier), self.reader.load(identifier)
            assert (session is None) == (expected is None)
            if expected is not None:
                handle, record = expected
                found = (str(session.handle), session.subject, dict(session), session.device)
                assert found == (handle, record.subject, record.attributes, record.device)

    @invariant()
    def lists_are_right(self):
        """The list of a subject's sessions is that of the model, and within the limits."""
        for subject in ("ada", "bob"):
            found = self.reader.list_for(subject)
            assert [info.device for info in found].count("phone") <= DEVICES["phone"]
            listed = [str(info.handle) for info in found]
            assert sorted(listed) == sorted(self.model.of(subject))
            assert len(listed) <= LIMIT

    @invariant()
    def every_key_has_an_end(self):
        """No key would live for ever."""
        assert self.server.keys_without_ttl() == []


class Walk:
    """A long story, each step chosen by a seed with the weights of real life."""

    weights: ClassVar = {
        "creates": 1,
        "loads": 8,
        "works": 12,
        "signs_in": 2,
        "signs_out": 0.7,
        "asks_for_the_end": 0.3,
        "revokes": 0.3,
        "revokes_all": 0.2,
        "waits": 3,
        "sweeps": 0.3,
    }

    def __init__(self, stories, seed):
        self._stories = stories
        self._random = Random(seed)  # noqa: S311  it chooses what is tested
        self._seed = seed

    def go(self, steps):
        """Take *steps* steps; an error says which."""
        self._stories.first(client=0)
        trail = []
        for action in self._random.choices(list(self.weights), list(self.weights.values()), k=steps):
            if action == "revokes" and not self._stories.model.records:
                continue
            arguments = getattr(self, action)() if hasattr(self, action) else {}
            trail.append(f"{action} {arguments}")
            try:
                getattr(self._stories, action)(**{**self._any(action), **arguments})
                self._stories.identifiers_open_what_they_should()
                self._stories.lists_are_right()
            except BaseException as error:
                error.add_note(f"seed {self._seed}, last steps: {trail[-12:]}")
                raise
        self._stories.every_key_has_an_end()

    def _any(self, action):
        parameters = inspect.signature(getattr(Stories, action)).parameters
        found = {"client": self._random.randrange(CLIENTS), "pick": min(9, int(self._random.expovariate(0.6)))}
        return {name: value for name, value in found.items() if name in parameters}

    def loads(self):
        """Mostly two requests at once."""
        return {"times": self._random.choice([1, 2, 2]), "strict": self._random.random() < 0.2}

    def works(self):
        """Change something as a rule."""
        return {
            "changes": self._changes(self._random.choice([0, 1, 1, 2, 3])),
            "is_rotated": self._random.random() < 0.15,
            "is_saved": self._random.random() < 0.8,
        }

    def signs_in(self):
        """Sign in ada or bob, on a device or another."""
        return {
            "changes": self._changes(1),
            "subject": self._random.choice(["ada", "ada", "bob"]),
            "device": self._random.choice(["phone", "phone", "desktop", None]),
        }

    def revokes(self):
        """Say whose it is, rightly or not, or do not."""
        return {"claimed": self._random.choice([None, "ada", "bob"])}

    def revokes_all(self):
        """End the sessions of ada or bob."""
        return {"subject": self._random.choice(["ada", "bob"])}

    def waits(self):
        """Wait not long as a rule."""
        return {"minutes": self._random.choice([1, 1, 1, 2, 2, 3, 5, 10, 28, 29, 30])}

    def _changes(self, count):
        kinds = ["sets", "sets", "deletes", "increments", "increments", "sets_inside", "sets_inside", "deletes_inside"]
        what = self._random.choices([*kinds * 3, "clears"], k=count)
        details = {"sets": ["a", "b", "d"], "deletes": ["a", "b", "d"], "increments": [1, 2, -1], "clears": [None]}
        return [(kind, self._random.choice(details.get(kind, ["x", "y"]))) for kind in what]


long_ones = pytest.mark.timeout(3600 if EXAMPLES > 1000 else 900)


@long_ones
@pytest.mark.requirement("R13")
@pytest.mark.requirement("R14")
@pytest.mark.requirement("R20")
@pytest.mark.requirement("R38")
def test_long_walks(open_sessions, server, clock):
    """However two clients with stale copies go about, the sessions are what the model says, for 200 steps on end."""
    for _ in range(EXAMPLES // 3):
        stories = Stories(open_sessions, server, clock)
        Walk(stories, secrets.randbits(32)).go(200)
        stories.teardown()

    assert server.keys_without_ttl() == []


@long_ones
@pytest.mark.requirement("R13")
@pytest.mark.requirement("R14")
@pytest.mark.requirement("R20")
@pytest.mark.requirement("R38")
def test_stories(open_sessions, server, clock):
    """Whatever two clients do in whatever order, the sessions are what the model says."""
    run_state_machine_as_test(
        lambda: Stories(open_sessions, server, clock),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=50,
            deadline=None,
            database=None,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        ),
    )

    assert server.keys_without_ttl() == []
