"""Several sessions that are used at the same time, each by a task of its own: none has anything of another.

What the tasks ask travels in common pipelines, in which commands of all kinds are mixed, calls that are given up too.
COATCHECK_TEST_EXAMPLES sets how many sets of stories are tried, a quarter of it.
"""

import asyncio
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import coatcheck
from coatcheck import SessionRevoked
from coatcheck.engine.clock import Clock
from tests.attack.test_mixed_replies import AlwaysDue

EXAMPLES = max(1, int(os.environ.get("COATCHECK_TEST_EXAMPLES", "60")) // 4)

names = st.sampled_from(["a", "b", "d"])
steps = st.one_of(
    st.tuples(st.just("sets"), names, st.integers(0, 99)),
    st.tuples(st.just("sets"), names, st.integers(0, 99)),
    st.tuples(st.just("sets_much"), names, st.integers(1, 60_000)),
    st.tuples(st.just("deletes"), names),
    st.tuples(st.just("increments"), st.integers(-3, 3)),
    st.tuples(st.just("merges"), names, names),
    st.tuples(st.just("rotates")),
    st.tuples(st.just("signs_in")),
    st.tuples(st.just("gives_up"), st.integers(0, 6)),
    st.tuples(st.just("ends")),
)


class Story:
    """What one user does, and what is to be found of it; *who* is in the session, and in no other."""

    def __init__(self, sessions, who):
        self.sessions = sessions
        self.who = who
        self.subject = None
        self.expected = {"who": who, "n": 0}

    async def play(self, steps):
        """Take the steps, and look behind each."""
        self.session = await self.sessions.create(self.expected)
        for name, *details in steps:
            await getattr(self, name)(*details)
            await self.agree()

    async def agree(self):
        """Hold that the session is as it should be, and that the user has no other."""
        found = await self.sessions.load(self.session.identifier)
        assert (dict(found), found.subject) == (self.expected, self.subject)
        listed = [info.handle for info in await self.sessions.list_for(f"user {self.who}")]
        assert listed == ([found.handle] if self.subject else [])
        self.session = found

    async def sets(self, name, value):
        """Set an attribute and save."""
        self.session[name] = self.expected[name] = [self.who, value]
        await self.sessions.save(self.session)

    async def sets_much(self, name, size):
        """Set one that takes some room."""
        await self.sets(name, bytes([self.who]) * size)

    async def deletes(self, name):
        """Remove an attribute and save."""
        self.session.pop(name, None)
        self.expected.pop(name, None)
        await self.sessions.save(self.session)

    async def increments(self, by):
        """Count, in two tasks at once."""
        other = await self.sessions.load(self.session.identifier)
        for session in (self.session, other):
            session.increment("n", by)
        await asyncio.gather(self.sessions.save(self.session), self.sessions.save(other))
        self.expected["n"] += 2 * by

    async def merges(self, first, second):
        """Set two attributes in two tasks at once, or one, of which the one value or the other stays."""
        other = await self.sessions.load(self.session.identifier)
        self.session[first], other[second] = [self.who, "first"], [self.who, "second"]
        await asyncio.gather(self.sessions.save(self.session), self.sessions.save(other))
        if first == second:
            kept = (await self.sessions.load(self.session.identifier))[first]
            assert kept in ([self.who, "first"], [self.who, "second"])
            self.expected[first] = kept
        else:
            self.expected |= {first: [self.who, "first"], second: [self.who, "second"]}

    async def rotates(self):
        """Take a new secret."""
        await self.sessions.rotate(self.session)

    async def signs_in(self):
        """Sign in, as the user that it has always been."""
        self.subject = f"user {self.who}"
        await self.sessions.bind(self.session, self.subject)

    async def gives_up(self, turns):
        """Ask, and be cancelled some turns of the loop later."""
        task = asyncio.create_task(self.sessions.load(self.session.identifier))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        (found,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(found, asyncio.CancelledError) or found["who"] == self.who

    async def ends(self):
        """End the session, see that it has ended, and begin another with the same content."""
        stale = await self.sessions.load(self.session.identifier)
        assert await self.sessions.revoke(self.session.handle)
        assert await self.sessions.load(stale.identifier) is None
        stale["a"] = 1
        with pytest.raises(SessionRevoked):
            await self.sessions.save(stale)
        self.subject = None
        self.session = await self.sessions.create(self.expected)


@pytest.mark.requirement("R42")
@pytest.mark.parametrize("clock", [Clock, AlwaysDue], ids=["commands", "pipelines"])
def test_stories_at_once(server, key, clock):
    """Whatever many users do at the same time, each finds what that user has done, and nobody else's."""

    async def play(sessions, stories):
        server.client.flushall()
        await asyncio.gather(*(Story(sessions, who).play(steps) for who, steps in enumerate(stories)))

    with asyncio.Runner() as runner:
        sessions = coatcheck.AsyncSessions(server.url, keys=key, clock=clock())

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(stories=st.lists(st.lists(steps, min_size=1, max_size=12), min_size=4, max_size=16))
        def hold(stories):
            runner.run(play(sessions, stories))

        hold()
        runner.run(sessions.close())
