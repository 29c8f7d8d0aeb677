"""The session as the code of a request sees it."""

import traceback
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import ConfigurationError, SessionPolicy, Status
from coatcheck.model.codec import encode
from coatcheck.model.delta import apply
from coatcheck.model.record import Payload
from coatcheck.model.session import Session, SessionInfo, instant
from coatcheck.model.ticket import Handle, Ticket

POLICY = SessionPolicy()
NOW = 1_767_225_600_000
TICKET = Ticket(Handle(0xA7, b"handle 12345"), b"secret 0123456789 abcdef")


def stored(ticket=TICKET, subject=None, seen_at=NOW, **values):
    """Make a session as the engine presents a stored one."""
    header = Session(POLICY).new_header(NOW, TICKET.digest)
    payload = Payload(subject, {name: encode(value) for name, value in values.items()})
    return Session(POLICY, ticket=ticket, header=header, payload=payload, seen_at=seen_at)


def test_new_session():
    """A new session has no handle, no identifier and no deadlines, and is not worth a record while empty."""
    session = Session(POLICY)

    assert (session.handle, session.identifier, session.subject) == (None, None, None)
    assert (session.created_at, session.idle_deadline, session.absolute_deadline) == (None, None, None)
    assert (session.status, session.is_new, session.is_empty) == (Status.NEW, True, True)
    session["a"] = 1
    assert (session.status, session.is_new, session.is_empty) == (Status.NEW, True, False)


@pytest.mark.parametrize(
    ("act", "status"),
    [
        (lambda _: None, Status.CLEAN),
        (lambda s: s["list"], Status.CLEAN),
        (lambda s: s.update(list=[1]), Status.CLEAN),
        (lambda s: s.update(list=[2]), Status.CHANGED),
        (lambda s: s["list"].append(2), Status.CHANGED),
        (lambda s: s.increment("n"), Status.CHANGED),
        (lambda s: s.rotate(), Status.CHANGED),
        (lambda s: s.set_timeouts(idle=timedelta(minutes=5)), Status.CHANGED),
        (lambda s: s.set_timeouts(idle=POLICY.idle_timeout), Status.CLEAN),
        (lambda s: s.set_timeouts(persistent=False), Status.CHANGED),
        (lambda s: s.clear(), Status.CHANGED),
        (lambda s: s.revoke(), Status.REVOKED),
    ],
)
def test_status(act, status):
    """The status says what a save has to do."""
    session = stored(list=[1], n=1)

    act(session)

    assert session.status is status
    assert session.is_changed == (status is Status.CHANGED) or status is Status.REVOKED


ACTS = {
    "set": lambda session, name: session.update({name: 7}),
    "set default": lambda session, name: session.setdefault(name, 9),
    "increment": lambda session, name: session.increment(name),
    "remove": lambda session, name: session.pop(name, None),
    "set a list": lambda session, name: session.update({name: [1]}),
    "clear": lambda session, _: session.clear(),
}
STEPS = st.lists(st.tuples(st.sampled_from(sorted(ACTS)), st.sampled_from("abc")), max_size=6)


def go_through(steps, session):
    """Carry out *steps*; those that a session refuses change nothing."""
    for act, name in steps:
        if not (act == "increment" and isinstance(session.get(name), list)):
            ACTS[act](session, name)


@given(STEPS, STEPS)
def test_what_is_written(before, meanwhile):
    """A save writes what the delta makes of the stored attributes, and that stays so whatever is changed meanwhile."""
    session = stored(a=1, b=2)
    go_through(before, session)
    expected = apply(session.delta(), session.payload.attributes)

    written = session.written_to(session.payload, session.delta())
    assert written == expected
    go_through(meanwhile, session)
    assert written == expected
    assert session.payload.attributes == {"a": encode(1), "b": encode(2)}


def test_status_after_a_rotation():
    """A rotated session stays so until its owner has the new identifier."""
    session = stored()
    rotated = Ticket(TICKET.handle, b"other  0123456789 abcdef")

    session.now_stored(rotated, session.header.rotate(rotated.digest, NOW + 10_000), session.payload)

    assert (session.status, session.cookie_due) == (Status.ROTATED, True)
    session.cookie_due = False
    assert session.status is Status.CLEAN


def test_instants():
    """Deadlines are aware datetimes in UTC, counted from the creation and the last use."""
    session = stored(seen_at=NOW + 60_000)

    assert session.created_at == instant(NOW) == datetime(2026, 1, 1, tzinfo=UTC)
    assert session.absolute_deadline == datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert session.idle_deadline == datetime(2026, 1, 1, 0, 31, tzinfo=UTC)
    session.seen(NOW + timedelta(hours=11, minutes=50) // timedelta(milliseconds=1))
    assert session.idle_deadline == session.absolute_deadline
    assert {value.tzinfo for value in (session.created_at, session.absolute_deadline, session.idle_deadline)} == {UTC}


@pytest.mark.parametrize("new", [True, False])
def test_timeouts_of_its_own(new):
    """A session's own timeouts count from its creation, whether it is stored yet or not."""
    session = Session(POLICY) if new else stored()

    session.set_timeouts(idle=timedelta(days=7), absolute=timedelta(days=30), persistent=False)

    header = session.new_header(NOW, b"") if new else session.next_header(session.header, NOW + 5000)
    assert header.idle_timeout == 7 * 86_400_000
    assert header.absolute_deadline == NOW + 30 * 86_400_000
    assert header.persistent is False
    assert (session.idle_timeout, session.absolute_timeout) == (timedelta(days=7), timedelta(days=30))
    assert session.accessed


@pytest.mark.parametrize(
    "options",
    [
        {"idle": timedelta(hours=13)},
        {"absolute": timedelta(minutes=29)},
        {"idle": timedelta(0)},
        {"absolute": timedelta(days=3651)},
    ],
)
def test_contradicting_timeouts(options):
    """Timeouts that contradict each other, or what stays of the others, are refused and change nothing."""
    session = stored()

    with pytest.raises(ConfigurationError, match="need 1 ms <= idle_timeout <= absolute_timeout <= 3650 days"):
        session.set_timeouts(**options)

    assert session.status is Status.CLEAN


def test_the_next_header():
    """A save increments the revision by one, notes the use, and drops a former secret when its grace has ended."""
    header = stored().header.rotate(b"n" * 32, NOW + 10_000)

    within = stored().next_header(header, NOW + 9_999)
    after = stored().next_header(header, NOW + 10_000)

    assert (within.revision, within.seen_at, within.former_digest) == (2, NOW + 9_999, TICKET.digest)
    assert (after.former_digest, after.former_until) == (None, 0)
    assert (after.created_at, after.absolute_deadline) == (header.created_at, header.absolute_deadline)


def test_found_by_handle():
    """A session found by its handle has no identifier, and is not taken for one with a superseded secret."""
    session = stored(ticket=TICKET.handle)

    assert (session.handle, session.identifier, session.is_superseded) == (TICKET.handle, None, False)
    assert stored(ticket=Ticket(TICKET.handle, b"former 0123456789 abcdef")).is_superseded
    assert not stored().is_superseded


def test_nothing_is_worth_a_record_without_attributes_and_subject():
    """A session without attributes is empty, unless it is a subject's."""
    session = stored(a=1)
    session.clear()

    assert session.is_empty
    assert not stored(subject="ada").is_empty


def test_going_on_as_a_new_session():
    """A session that goes on after its record has ended takes the policy's timeouts, or those set in this request."""
    header = Session(SessionPolicy(idle_timeout=timedelta(minutes=9))).new_header(NOW, TICKET.digest)
    payload = Payload("ada", {"a": encode(1)})
    session = Session(
        SessionPolicy(idle_timeout=timedelta(minutes=1)), ticket=TICKET, header=header, payload=payload, seen_at=NOW
    )
    assert session.idle_timeout == timedelta(minutes=9)
    session.now_new({"b": encode(2)})
    assert (dict(session), session.subject, session.is_new) == ({"b": 2}, None, True)
    assert session.idle_timeout == timedelta(minutes=1)

    chosen = stored()
    chosen.set_timeouts(idle=timedelta(minutes=3))
    chosen.now_new({})
    assert chosen.idle_timeout == timedelta(minutes=3)


HIDDEN = (
    "book",
    "cart",
    "ada",
    TICKET.identifier,
    TICKET.identifier[-32:],
    TICKET.secret.hex(),
    repr(TICKET.secret)[2:-1],
)


def texts(session):
    """Give every text that a program makes of a session without asking for its contents."""
    return [repr(session), str(session), f"{session}", repr([session]), repr({"session": session})]


@pytest.mark.parametrize("ticket", [TICKET, TICKET.handle])
def test_texts_show_neither_secret_nor_attributes(ticket):
    """Whatever prints a session shows its handle and its status, and nothing else of it."""
    session = stored(ticket=ticket, subject="ada", cart=["book"])
    session["cart"].append("book")

    assert repr(session) == f"<Session {TICKET.handle} changed>"
    for text in [*texts(session), repr(session.header), repr(session.ticket)]:
        for hidden in HIDDEN:
            assert hidden not in text
    assert repr(Session(POLICY)) == "<Session new new>"


def test_printing_is_no_access():
    """Printing a session is not the application's use of it."""
    session = stored(a=1)

    assert texts(session)
    assert not session.accessed


def test_a_session_that_cannot_be_saved_can_be_printed():
    """A nested value that cannot be stored is refused by the save, and does not break a log line."""
    session = stored(cart=["book"])
    session["cart"].append(object())

    assert repr(session) == f"<Session {TICKET.handle} changed>"
    with pytest.raises(TypeError, match=r"^attribute cart: a session cannot hold builtins\.object"):
        session.delta()


@pytest.mark.parametrize(
    "act",
    [
        lambda s: s.__setitem__("cart", ["book", object()]),
        lambda s: s.__setitem__("cart", {"note": 2**70, "title": "book"}),
        lambda s: s.__setitem__("cart", ["book", "\ud800"]),
        lambda s: s.increment("title"),
        lambda s: s["book"],
    ],
)
def test_errors_show_no_values(act):
    """The errors of a session's mapping name attributes, and show neither values nor the secret."""
    session = stored(title="secret value")
    try:
        act(session)
    except (TypeError, ValueError, KeyError) as error:
        text = "".join(traceback.format_exception_only(error)) + repr(error)

    for hidden in ("secret value", TICKET.identifier, TICKET.identifier[-32:], TICKET.secret.hex()):
        assert hidden not in text


def test_a_line_of_the_listing_shows_no_secret():
    """A line of the listing has the handle, the deadlines and the listed attributes alone."""
    info = SessionInfo(
        handle=TICKET.handle,
        created_at=instant(NOW),
        last_seen=instant(NOW),
        idle_deadline=instant(NOW),
        absolute_deadline=instant(NOW),
        metadata={"device": "phone"},
    )

    assert TICKET.identifier[-32:] not in repr(info)
    assert str(TICKET.handle) in repr(info)
