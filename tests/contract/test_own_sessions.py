"""A user ends own sessions only, whatever handle is sent and however subjects resemble each other."""

import unicodedata
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coatcheck import SessionPolicy
from coatcheck.model.ticket import Handle

MINUTE = timedelta(minutes=1)

# Those of a group are told apart by nothing but what a careless comparison drops: zeros, case, spaces, accents, a NUL.
LOOKALIKES = (
    ("1", "01", " 1", "1 ", "1\n", "1\0", "\0001", "+1", "1.0", "１", "¹"),  # noqa: RUF001
    ("I", "l", "i", "ı", "İ", "Ⅰ", "1"),  # noqa: RUF001
    ("ada", "Ada", "ADA", "аda", "ａｄａ", "ada\u200b", "\ufeffada", "ada ", "ada\0bob", "ada:bob"),  # noqa: RUF001
    ("é", "e\u0301", "É"),
    ("ß", "ss", "SS"),
    ("ﬁ", "fi", "FI"),
    ("None", "null", "False", "0", "*", "?", "anyone", "Anyone.ANYONE"),
)
NOBODY = (None, "", "nobody", 0, False)


def variants(text):
    """Give what somebody may make of a handle."""
    yield from (
        text,
        text.upper(),
        text.lower(),
        text.swapcase(),
        f" {text}",
        f"{text}\n",
        f"{text}\0",
        f"{text}=",
        text[3:],
    )
    yield from (
        text[:-1],
        text + "A",
        text.replace(".", ""),
        text.replace(".", ":"),
        text.replace("-", "+"),
        f"*{text[1:]}",
    )
    yield from (unicodedata.normalize("NFKC", text), text.translate({ord("A"): "Ａ", ord("a"): "а"}), "0" + text)  # noqa: RUF001
    yield from (
        text[:2] + "." + text[3:-1] + chr(ord(text[-1]) ^ 1),
        f"{int(text[:2], 16) ^ 1:02x}{text[2:]}",
        "",
        "*",
        "?",
    )


kinds_of_sessions = st.lists(
    st.sampled_from(["signed in", "anonymous", "expired", "revoked", "rotated"]), min_size=2, max_size=6
)
subjects = st.sampled_from(LOOKALIKES).flatmap(
    lambda group: st.lists(st.sampled_from(group), min_size=2, max_size=3, unique=True)
)
attempts = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 40), st.sampled_from([True, True, False]), st.integers(0, 20)),
    min_size=1,
    max_size=10,
)


class World:
    """Sessions of some people and of nobody, alive and ended."""

    def __init__(self, sessions, clock, people, kinds):
        self.sessions = sessions
        self.owners = {}  # of those that are alive
        self.handles = [Handle.new()]
        for number, kind in enumerate(sorted(kinds, key="expired".__ne__)):  # those first: time passes for all
            session, owner = (
                sessions.create({"n": number}),
                None if kind == "anonymous" else people[number % len(people)],
            )
            if owner is not None:
                sessions.bind(session, owner)
            self.handles.append(session.handle)
            match kind:
                case "revoked":
                    sessions.revoke(session.handle)
                case "expired":
                    clock.advance(31 * MINUTE)
                case "rotated":
                    sessions.rotate(session)
            if kind not in {"revoked", "expired"}:
                self.owners[session.handle] = owner

    def attempt(self, handle, sent, claimed):
        """Try to end a session as *claimed*; hold that it ends if it is alive and that subject's own."""
        owner = self.owners.get(handle)
        is_own = owner is not None and claimed == owner and str(sent) == str(handle)

        assert self.sessions.revoke(sent, subject=claimed) == is_own, (sent, claimed, owner)

        if is_own:
            del self.owners[handle]


@pytest.mark.requirement("R23")
def test_only_own_sessions_end(open_sessions, clock, server):
    """Of any mixture of sessions and handles, those end that are the named subject's own and alive; no other does."""
    sessions = open_sessions(policy=SessionPolicy(idle_timeout=30 * MINUTE))

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(subjects, kinds_of_sessions, attempts)
    def story(people, kinds, tries):
        server.client.flushall()
        world = World(sessions, clock, people, kinds)
        for which, how, is_exact, who in tries:
            handle = world.handles[which % len(world.handles)]
            spelled = [handle, str(handle)] if is_exact else list(variants(str(handle)))
            world.attempt(
                handle, spelled[how % len(spelled)], [*people * 4, *NOBODY][who % (len(people) * 4 + len(NOBODY))]
            )
        for handle in world.handles:
            assert (sessions.find(handle) is not None) == (handle in world.owners)
        for person in people:
            own = {handle for handle, owner in world.owners.items() if owner == person}
            assert {info.handle for info in sessions.list_for(person)} == own

    story()
