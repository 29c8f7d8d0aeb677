"""The whole API against a simple model: several clients with stale copies, on a real server with a moved clock.

COATCHECK_TEST_EXAMPLES sets how many stories are tried; each has up to 50 steps.
"""

import os
from datetime import timedelta

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
from tests.contract.model import ABSOLUTE, GRACE, IDLE, LIMIT, Conflict, Copy, Ended, Model

MINUTE = timedelta(minutes=1)
POLICY = SessionPolicy(
    idle_timeout=IDLE * MINUTE, absolute_timeout=ABSOLUTE * MINUTE, rotation_grace=GRACE * MINUTE, limit=LIMIT
)
CLIENTS = 2
EXAMPLES = int(os.environ.get("COATCHECK_TEST_EXAMPLES", "60"))

clients = st.integers(0, CLIENTS - 1)
subjects = st.sampled_from(["ada", "bob"])
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
        self.copies = [*(held for held in self.copies if held is not copy), copy][-5:]
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
        identifier = self.pick(self.identifiers, pick)
        for _ in range(times):
            expected, session = self.model.opened_by(identifier), self.opened[client].load(identifier)
            assert (session is None) == (expected is None)
            if expected is not None:
                handle, record = expected
                assert session.is_superseded == (identifier != record.current)
                session.strict = strict
                copy = Copy(client, session, handle, record.subject, identifier, "", 0, {}, is_strict=strict)
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

    @rule(pick=picks)
    def asks_for_the_end(self, pick):
        """A request ends its session."""
        copy = self.pick(self.copies, pick)
        copy.session.revoke()
        copy.is_ended = True
        self.save(copy)

    @rule(pick=picks, changes=changes, subject=subjects)
    def signs_in(self, pick, changes, subject):
        """A request changes its session and signs somebody in, whoever was before."""
        copy = self.pick(self.copies, pick)
        if copy.is_ended:
            return
        for what, detail in changes:
            getattr(self, what)(copy, detail)
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

    # Sessions are ended from outside

    @precondition(lambda self: self.model.records)
    @rule(client=clients, pick=picks, claimed=st.sampled_from([None, "ada", "bob"]))
    def revokes(self, client, pick, claimed):
        """A session is ended by its handle, perhaps for a subject that it is not of."""
        handle = self.pick(list(self.model.records), pick)
        record = self.model.live(handle)
        is_allowed = record is not None and claimed in {None, record.subject}

        assert self.opened[client].revoke(handle, subject=claimed) == is_allowed

        if is_allowed:
            self.model.end(handle, client)

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
                found = (str(session.handle), session.subject, dict(session))
                assert found == (handle, record.subject, record.attributes)

    @invariant()
    def lists_are_right(self):
        """The list of a subject's sessions is that of the model, and within the limit."""
        for subject in ("ada", "bob"):
            listed = [str(info.handle) for info in self.reader.list_for(subject)]
            assert sorted(listed) == sorted(self.model.of(subject))
            assert len(listed) <= LIMIT

    @invariant()
    def every_key_has_an_end(self):
        """No key would live for ever."""
        assert self.server.keys_without_ttl() == []


@pytest.mark.timeout(3600 if EXAMPLES > 1000 else 120)
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
