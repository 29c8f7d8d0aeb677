"""The checker of the ledger: every kind of flaw in a history is found, and none in a history that is right."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faults.checker import GRACE, LOSSES, Flaw, check, find_short
from faults.ledger import Kind, Ledger, Operation, Outcome, Seen, from_lines, to_line


class Story:
    """A history, told in order on a clock of its own: what is told begins at that second and takes half of one."""

    def __init__(self):
        self.entries = []
        self.now = 0.0

    def tell(self, kind, *, outcome=Outcome.DONE, session="s1", subject="ada", at=None, **fields):
        """Tell of an operation; *at*: it began at that second instead of now."""
        if at is None:
            self.now += 1
            at = self.now
        fields = {"began": at, "ended": at + 0.5, **fields}
        self.entries.append(Operation(kind=kind, subject=subject, session=session, outcome=outcome, **fields))
        return self.entries[-1]

    def sign_in(self, session="s1", handle="h1", **fields):
        """Tell of a sign-in."""
        self.tell(Kind.SIGN_IN, session=session, handle=handle, secret=0, **fields)

    def read(self, found="whole", *, secret=0, **fields):
        """Tell of a read; *found*: fields of what was seen, None for nothing."""
        seen = {"handle": "h1", "subject": "ada", "session": "s1", "total": 0, "marks": {}}
        if found is not None:
            found = Seen(**(seen if found == "whole" else seen | found))
        self.tell(Kind.READ, found=found, secret=secret, **fields)

    def flaws(self):
        """Give the flaws that are found, by name."""
        return sorted(finding.flaw.name for finding in check(self.entries))


@pytest.fixture
def story():
    """Give a history with a sign-in."""
    story = Story()
    story.sign_in()
    return story


def test_nothing_wrong(story):
    """Reads that show what was acknowledged are right."""
    story.tell(Kind.ADD, value=3)
    story.tell(Kind.SET, writer="a", value=1)
    story.read({"total": 3, "marks": {"a": 1}})
    story.tell(Kind.ROTATE, secret=1)
    story.read({"total": 3, "marks": {"a": 1}}, secret=1)
    story.tell(Kind.REVOKE, value=1)
    story.read(None, secret=1)

    assert story.flaws() == []


def test_sign_in_missing(story):
    """A signed-in session that nobody ended and nobody finds again is missing."""
    story.read(None)
    story.read(None, secret=-1, is_last=True)

    assert story.flaws() == ["SIGN_IN_MISSING"]


def test_nothing_to_revoke(story):
    """A revocation that finds nothing to end, which nobody else has ended, shows a missing sign-in."""
    story.tell(Kind.REVOKE, value=0)

    assert story.flaws() == ["SIGN_IN_MISSING"]


def test_nothing_to_revoke_after_a_replay(story):
    """A revocation that finds nothing to end is right where a former secret, used too late, has ended the session."""
    story.tell(Kind.ROTATE, secret=1, outcome=Outcome.UNKNOWN)
    story.now += GRACE
    story.read(None, secret=0)
    story.tell(Kind.REVOKE, value=0)

    assert story.flaws() == []


def test_unacknowledged_sign_in():
    """A sign-in that was not acknowledged may be missing."""
    story = Story()
    story.sign_in(outcome=Outcome.UNKNOWN)
    story.read(None)

    assert story.flaws() == []


@pytest.mark.requirement("R20")
@pytest.mark.parametrize("kind", [Kind.REVOKE, Kind.REVOKE_ALL])
def test_revocation_undone(story, kind):
    """A session that is read after its revocation was acknowledged was brought back."""
    story.tell(kind, session="s1" if kind is Kind.REVOKE else "", value=1)
    story.read()

    assert story.flaws() == ["REVOCATION_UNDONE"]


@pytest.mark.requirement("R26")
@pytest.mark.parametrize(("staleness", "flaws"), [(0.4, ["REVOCATION_UNDONE"]), (0.6, [])])
def test_read_that_may_lag_behind(story, staleness, flaws):
    """A read from memory may show a session for as long after its end as its staleness is, and no longer."""
    story.tell(Kind.REVOKE, at=5, value=1)
    story.read(at=6, staleness=staleness)

    assert story.flaws() == flaws


@pytest.mark.requirement("R26")
@pytest.mark.parametrize(("staleness", "flaws"), [(0.4, ["UPDATE_LOST"]), (0.6, [])])
@pytest.mark.parametrize("kind", [Kind.ADD, Kind.SET])
def test_update_that_is_not_read_yet(story, kind, staleness, flaws):
    """A read from memory may lack an update for as long as its staleness is, and no longer."""
    story.tell(kind, at=5, value=3, writer="w")
    story.read(at=6, staleness=staleness)

    assert story.flaws() == flaws


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, Outcome.FAILED])
def test_read_after_unacknowledged_revocation(story, outcome):
    """A session may be read after a revocation that was not acknowledged."""
    story.tell(Kind.REVOKE, outcome=outcome)
    story.read()

    assert story.flaws() == []


def test_read_that_began_before_the_revocation_ended(story):
    """A read beside a revocation may show either."""
    story.tell(Kind.REVOKE, at=5, value=1)
    story.read(at=5.2)
    story.read(None, at=5.3)

    assert story.flaws() == []


def test_sign_in_beside_revoke_all():
    """A session that signs in while all of its subject end may live."""
    story = Story()
    story.tell(Kind.REVOKE_ALL, session="", at=1)
    story.sign_in(at=1.2)
    story.read(at=3)

    assert story.flaws() == []


@pytest.mark.requirement("R25")
@pytest.mark.parametrize(
    ("outcome", "later", "flaws"),
    [(Outcome.UNKNOWN, 0.5, []), (Outcome.UNKNOWN, 1.5, ["SIGN_IN_MISSING"]), (Outcome.DONE, 0.5, ["SIGN_IN_MISSING"])],
)
def test_sign_in_after_revoke_all(outcome, later, flaws):
    """A session that signs in after all of its subject ended lives; shortly after an end that is pending it may end."""
    story = Story()
    end = story.tell(Kind.REVOKE_ALL, session="", at=1, outcome=outcome)
    story.sign_in(at=end.ended + later)
    story.read(None, at=5)

    assert story.flaws() == flaws


def test_revoke_all_of_another_subject(story):
    """A revocation of another subject's sessions explains nothing."""
    story.tell(Kind.REVOKE_ALL, session="", subject="bob")
    story.read(None)
    story.read(secret=0, is_last=True)

    assert story.flaws() == ["FALSE_LOGOUT"]


@pytest.mark.requirement("R38")
def test_update_lost(story):
    """A counter below what was acknowledged has lost an update."""
    story.tell(Kind.ADD, value=3)
    story.tell(Kind.ADD, value=4, outcome=Outcome.UNKNOWN)
    story.read({"total": 2})

    assert story.flaws() == ["UPDATE_LOST"]


@pytest.mark.parametrize("total", [3, 7])
def test_unknown_update(story, total):
    """An update that may have been made may be seen or not."""
    story.tell(Kind.ADD, value=3)
    story.tell(Kind.ADD, value=4, outcome=Outcome.UNKNOWN)
    story.read({"total": total})

    assert story.flaws() == []


@pytest.mark.requirement("R43")
@pytest.mark.parametrize("outcome", [Outcome.DONE, Outcome.FAILED])
def test_update_made_twice(story, outcome):
    """A counter above all that may have been added counted something twice, or something that had failed."""
    story.tell(Kind.ADD, value=3, outcome=outcome)
    story.read({"total": 6 if outcome is Outcome.DONE else 3})

    assert story.flaws() == ["UPDATE_INVENTED"]


def test_attribute_lost(story):
    """An attribute with an older value than the one acknowledged last has lost an update."""
    story.tell(Kind.SET, writer="a", value=1)
    story.tell(Kind.SET, writer="a", value=2)
    story.read({"marks": {"a": 1}})

    assert story.flaws() == ["UPDATE_LOST"]


def test_attribute_invented(story):
    """An attribute with a value whose save certainly failed was invented."""
    story.tell(Kind.SET, writer="a", value=1)
    story.tell(Kind.SET, writer="a", value=2, outcome=Outcome.FAILED)
    story.read({"marks": {"a": 2}})

    assert story.flaws() == ["UPDATE_INVENTED"]


def test_attribute_of_nobody(story):
    """An attribute that nobody has set was invented."""
    story.read({"marks": {"a": 2}})

    assert story.flaws() == ["UPDATE_INVENTED"]


@pytest.mark.requirement("R42")
@pytest.mark.parametrize("wrong", [{"handle": "h2"}, {"subject": "bob"}, {"subject": None}, {"session": "s2"}])
def test_record_mixed(story, wrong):
    """A session that is not its own is mixed with another."""
    story.read(wrong)

    assert story.flaws() == ["RECORD_MIXED"]


def test_record_that_does_not_open(story):
    """A record that is refused is mixed with something."""
    story.tell(Kind.READ, outcome=Outcome.UNKNOWN, is_corrupted=True)

    assert story.flaws() == ["RECORD_MIXED"]


def test_handle_with_two_owners(story):
    """Two sign-ins that were given one handle share it."""
    story.sign_in(session="s2", handle="h1")

    assert story.flaws() == ["HANDLE_SHARED"]


@pytest.mark.requirement("R45")
@pytest.mark.parametrize("secret", [0, -1])
def test_false_logout(story, secret):
    """A session that is there in the end was never to be answered with None."""
    story.read(None, secret=secret)
    story.read(secret=0, is_last=True)

    assert story.flaws() == ["FALSE_LOGOUT"]


def test_former_secret(story):
    """A former secret is refused some time after the rotation, and using it ends the session: no false logout."""
    story.tell(Kind.ROTATE, secret=1)
    story.now += GRACE
    story.read(None, secret=0)
    story.read(None, secret=1, is_last=True)

    assert story.flaws() == []


def test_former_secret_within_grace(story):
    """Within the grace a former secret must do."""
    story.tell(Kind.ROTATE, secret=1)
    story.read(None, secret=0)
    story.read(secret=1, is_last=True)
    story.read(secret=-1, is_last=True)

    assert story.flaws() == ["FALSE_LOGOUT"]


@pytest.mark.requirement("R28")
def test_rotation_lost(story):
    """A new secret that opens nothing, while the session is there, was lost with its rotation."""
    story.tell(Kind.ROTATE, secret=1)
    story.read(None, secret=1)
    story.read(secret=-1, is_last=True)

    assert story.flaws() == ["ROTATION_LOST"]


def test_foreign_error(story):
    """An error that no application is told of is a flaw, whatever operation meets it."""
    story.tell(Kind.ADD, outcome=Outcome.UNKNOWN, is_foreign=True)

    assert story.flaws() == ["FOREIGN_ERROR"]


def test_errors_are_no_logout(story):
    """A read without an answer says nothing."""
    story.read(None, outcome=Outcome.FAILED)
    story.read(None, outcome=Outcome.UNKNOWN)

    assert story.flaws() == []


def test_lines():
    """A history survives being told as lines; of a killed process, what had begun is unknown."""
    lines = []
    ledger = Ledger(lines.append)
    story = Story()
    story.read({"marks": {"a": 1}})
    story.tell(Kind.ADD, value=2)
    for entry in story.entries:
        ledger.begins(replace(entry, ended=float("inf"), outcome=Outcome.UNKNOWN, found=None))
        ledger.add(entry)
    cut_short = replace(story.entries[-1], ended=float("inf"), outcome=Outcome.UNKNOWN)

    assert from_lines(lines) == story.entries == ledger.entries
    assert from_lines([*lines, to_line(cut_short)]) == [*story.entries, cut_short]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "set", "rotate", "revoke", "read", "read", "read"]),
        st.sampled_from([*Outcome]),
        st.booleans(),
        st.integers(1, 9),
    ),
    min_size=1,
    max_size=60,
)


def true_history(steps):
    """Tell what a right store does; what is unknown is done or not by chance. Gives the story, and if it ended."""
    story, total, mark, secret, count, has_ended = Story(), 0, 0, 0, 0, False
    story.sign_in()
    for what, outcome, is_lucky, value in steps:
        is_done = outcome is Outcome.DONE or (outcome is Outcome.UNKNOWN and is_lucky)
        if what == "read":
            found = None if has_ended else {"total": total, "marks": {"a": mark} if mark else {}}
            story.read(found, secret=secret)
        elif has_ended:
            continue
        elif what == "add":
            story.tell(Kind.ADD, outcome=outcome, value=value)
            total += value * is_done
        elif what == "set":
            count += 1
            story.tell(Kind.SET, outcome=outcome, writer="a", value=count)
            mark = count if is_done else mark
        elif what == "rotate" and outcome is not Outcome.UNKNOWN:
            story.tell(Kind.ROTATE, outcome=outcome, secret=secret + 1)
            secret += is_done
        elif what == "revoke":
            story.tell(Kind.REVOKE, outcome=outcome, value=int(is_done))
            has_ended = is_done
    found = None if has_ended else {"total": total, "marks": {"a": mark} if mark else {}}
    story.read(found, secret=secret, is_last=True)
    return story, has_ended


@given(STEPS)
def test_right_histories(steps):
    """Nothing is found in the history of a store that does what it says."""
    story, _ = true_history(steps)

    assert story.flaws() == []


@given(STEPS, st.data())
def test_wrong_histories(steps, data):
    """Whatever is falsified in a right history is found."""
    story, has_ended = true_history(steps)
    last = story.entries[-1]
    may_have_ended = any(entry.kind is Kind.REVOKE and entry.outcome is not Outcome.FAILED for entry in story.entries)
    ended_for_certain = any(entry.kind is Kind.REVOKE and entry.outcome is Outcome.DONE for entry in story.entries)
    falsified = {}
    if not has_ended:
        falsified["RECORD_MIXED"] = replace(last.found, subject="eve")
        falsified["UPDATE_INVENTED"] = replace(last.found, total=10_000)
        falsified["UPDATE_LOST"] = replace(last.found, total=-1)
    if not may_have_ended:
        falsified["SIGN_IN_MISSING"] = None
    if ended_for_certain:
        falsified["REVOCATION_UNDONE"] = Seen(handle="h1", subject="ada", session="s1", total=0)
    if falsified:
        flaw = data.draw(st.sampled_from(sorted(falsified)))
        story.entries[-1] = replace(last, found=falsified[flaw])
        assert flaw in story.flaws()


def test_stale_read(story):
    """A read by who was cut off and could not know of an end is told apart from an end that was undone."""
    story.tell(Kind.REVOKE, value=1)
    story.read(is_apart=True)
    story.read(None, secret=-1, is_last=True)

    assert story.flaws() == ["STALE_READ"]


def test_stale_read_of_an_undone_end(story):
    """A session that is still there in the end was brought back, whoever had read it before."""
    story.tell(Kind.REVOKE, value=1)
    story.read(is_apart=True)
    story.read(secret=-1, is_last=True)

    assert story.flaws() == ["REVOCATION_UNDONE", "STALE_READ"]


@pytest.mark.parametrize("kind", [Kind.SIGN_IN, Kind.ADD, Kind.SET, Kind.ROTATE, Kind.REVOKE, Kind.REVOKE_ALL])
def test_short_write(kind):
    """A write that was acknowledged while a replica was missing was confirmed by nobody."""
    story = Story()
    story.tell(kind, at=5)

    (found,) = find_short(story.entries, 5, 5.5)
    assert (found.flaw, found.shown_by) == (Flaw.SHORT_WRITE, story.entries[0])


@pytest.mark.parametrize("fields", [{"at": 4.9}, {"at": 5.1}, {"at": 5, "outcome": Outcome.UNKNOWN}])
def test_write_that_may_have_been_confirmed(fields):
    """A write that began earlier or ended later may have been confirmed; one that says that it fell short is right."""
    story = Story()
    story.tell(Kind.ADD, **fields)

    assert find_short(story.entries, 5, 5.5) == []


def test_reads_wait_for_nobody(story):
    """A read while a replica is missing is right."""
    story.entries.clear()
    story.read(at=5)

    assert find_short(story.entries, 4, 6) == []


def test_what_may_be_lost():
    """What a level may lose is what was acknowledged; nothing else is ever excused."""
    assert {flaw.name for flaw in LOSSES} == {"SIGN_IN_MISSING", "REVOCATION_UNDONE", "UPDATE_LOST", "ROTATION_LOST"}
    assert Flaw.FALSE_LOGOUT not in LOSSES
