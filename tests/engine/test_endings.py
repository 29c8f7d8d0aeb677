"""Ends that the store has not confirmed: refused here at once, kept, and carried out when it can be reached."""

import json
import logging
import stat
import time
from datetime import timedelta

import pytest

from coatcheck import (
    ConfigurationError,
    CookiePolicy,
    Durability,
    Keyring,
    Level,
    RevocationPending,
    SessionPolicy,
    SessionRevoked,
    StoreUnavailable,
    new_key,
)
from coatcheck.engine import endings
from coatcheck.engine.clock import Clock
from coatcheck.engine.exchange import Exchange
from coatcheck.engine.operations import Operations
from coatcheck.runtime.outbox import Outbox, outbox_or_default
from coatcheck.runtime.sync import run


@pytest.fixture
def make(wire, key, clock, monkeypatch):
    """Give a function that makes sessions over the wire, which try what is outstanding again at once."""
    monkeypatch.setattr(endings, "_FIRST_PAUSE", 0.0)

    def operations(journal=None, clock=clock, keys=key, **policy):
        policy = SessionPolicy(subject_attribute="user", **policy)
        return Operations(wire, keyring=Keyring.parse(keys), clock=clock, policy=policy, journal=journal)

    return operations


@pytest.fixture
def path(tmp_path):
    """Name a file for an outbox."""
    return tmp_path / "outbox"


@pytest.fixture
def box(path, key):
    """Give a function that opens the outbox as a process does that starts, with the application's keys or others."""
    return lambda prefix="cc", keys=key: Outbox(path, prefix, Keyring.parse(keys))


def sign_in(sessions, subject="ada"):
    """Make a session of *subject*."""
    return run(sessions.create({"user": subject}))


def ask_in_vain(wire, end):
    """Await *end* while the wire is cut; it is pending then."""
    wire.is_cut = True
    with pytest.raises(RevocationPending):
        run(end)
    wire.is_cut = False


ENDS = {
    "session": lambda sessions, session: sessions.revoke(session),
    "handle": lambda sessions, session: sessions.revoke(session.handle),
    "own": lambda sessions, session: sessions.revoke(session.handle, subject="ada"),
    "subject": lambda sessions, session: sessions.revoke_all("ada"),
    "everyone": lambda sessions, session: sessions.revoke_everyone(),
}
EVERY_END = pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)


@pytest.mark.requirement("R25")
@EVERY_END
def test_in_an_outage(make, wire, server, end):
    """An end that does not get through says so, holds in this process at once, and is carried out later."""
    sessions, elsewhere = make(), make()
    session = sign_in(sessions)
    held = run(sessions.load(session.identifier))
    wire.is_cut = True
    with pytest.raises(RevocationPending, match=r"not durable: .*the wire is cut.*goes on until that is confirmed"):
        run(end(sessions, session))
    wire.is_cut = False
    assert sessions.pending_revocations() == 1
    held["n"] = 1
    with pytest.raises(SessionRevoked):
        run(sessions.save(held))

    assert run(elsewhere.load(held.identifier)) is not None
    assert run(sessions.load(held.identifier)) is None  # and along with this call it has ended
    assert sessions.pending_revocations() == 0
    assert run(elsewhere.load(held.identifier)) is None
    assert run(elsewhere.list_for("ada")) == []


@pytest.mark.requirement("R25")
@EVERY_END
def test_lost_reply(make, wire, end):
    """An end that was carried out and whose reply was lost is pending until a later call has confirmed it."""
    sessions = make()
    session = sign_in(sessions)
    identifier = session.identifier
    wire.loses_replies = True
    with pytest.raises(RevocationPending):
        run(end(sessions, session))
    wire.loses_replies = False

    assert run(sessions.load(identifier)) is None
    assert sessions.pending_revocations() == 0


@pytest.mark.requirement("R25")
@pytest.mark.parametrize("end", [ENDS["subject"], ENDS["session"]], ids=["subject", "session"])
def test_later_sessions_live(make, wire, clock, end):
    """What begins after an end was asked for is not meant by it, however late it is carried out."""
    sessions, elsewhere = make(), make()
    session = sign_in(sessions)
    ask_in_vain(wire, end(sessions, session))
    clock.advance(timedelta(seconds=5))
    later = sign_in(elsewhere)
    run(sessions.sweep())

    assert sessions.pending_revocations() == 0
    assert run(sessions.load(later.identifier)) is not None


def read_late(clock, server, *, milliseconds):
    """Tell *clock* the server's time by an answer that was on its way for so long."""
    asked_at = time.monotonic() - milliseconds / 1000
    seconds, microseconds = server.client.time()
    clock.learn(divmod(seconds * 1_000_000 + microseconds - milliseconds * 1000, 1_000_000), asked_at)


@pytest.mark.requirement("R25", "R15")
def test_time_known_badly(make, wire, server):
    """What was there when an end was asked for ends, though the process that was asked takes the time for earlier.

    The answer that told it the time was on its way for half a second; others know it better.
    """
    late, others = Clock(), make(clock=Clock())
    sessions = make(clock=late)
    read_late(late, server, milliseconds=500)
    session = sign_in(others)
    ask_in_vain(wire, sessions.revoke_all("ada"))

    assert run(sessions.load(session.identifier)) is None
    assert run(others.load(session.identifier)) is None


@pytest.mark.requirement("R25", "R15")
def test_time_never_known(make, wire, box, monkeypatch):
    """A process that has never reached the store ends what was there, though its own clock is half a minute behind."""
    others, own_time = make(clock=Clock()), time.time_ns
    session = sign_in(others)
    monkeypatch.setattr(time, "time_ns", lambda: own_time() - 30 * 10**9)
    ask_in_vain(wire, make(box(), clock=Clock()).revoke_all("ada"))
    run(make(box()).sweep())

    assert run(others.load(session.identifier)) is None


@pytest.mark.requirement("R25", "R15")
def test_server_set_back(make, wire, clock):
    """What was there when an end was asked for ends, though the server's clock has been set back since it began."""
    sessions, elsewhere = make(), make()
    clock.moved += 3_600_000
    session = sign_in(sessions)
    clock.moved -= 3_600_000
    ask_in_vain(wire, sessions.revoke_all("ada"))

    assert run(sessions.load(session.identifier)) is None
    assert run(elsewhere.load(session.identifier)) is None


def test_kept_session(make, wire):
    """The session that revoke_all is to keep is not refused, and is kept."""
    sessions = make()
    kept, other = sign_in(sessions), sign_in(sessions)
    ask_in_vain(wire, sessions.revoke_all("ada", keep=kept.handle))

    assert run(sessions.load(kept.identifier)) is not None
    assert run(sessions.load(other.identifier)) is None
    assert [info.handle for info in run(sessions.list_for("ada"))] == [kept.handle]


@pytest.mark.requirement("R25")
def test_another_subjects_handle(make, wire):
    """Who names another's handle in an outage ends nothing: neither in this process nor later."""
    sessions = make()
    session = sign_in(sessions)
    partition = session.handle.partition
    names = (f"mallory {number}" for number in range(10_000))
    mallory = next(name for name in names if sessions._store.places(name)[0].partition == partition)
    ask_in_vain(wire, sessions.revoke(session.handle, subject=mallory))

    assert run(sessions.load(session.identifier)) is not None
    assert sessions.pending_revocations() == 0
    assert run(sessions.load(session.identifier)) is not None


@pytest.mark.requirement("R25", "R45")
@pytest.mark.parametrize("leave", [lambda session: session.revoke(), lambda session: session.clear()])
def test_sign_out_in_an_outage(make, wire, leave):
    """A sign-out that is not confirmed is a 503 that removes the cookie, since this browser asked for it."""
    sessions, elsewhere = make(), make()
    exchange = Exchange(sessions, CookiePolicy())
    session = sign_in(sessions)
    visit = exchange.begin(f"__Host-session={session.identifier}", https=True, host="shop.example")
    leave(run(exchange.load(visit)))
    wire.is_cut = True
    with pytest.raises(RevocationPending) as raised:
        run(exchange.finish(visit))
    wire.is_cut = False
    failure = exchange.failure(raised.value)

    assert (failure.status, dict(failure.headers)["Set-Cookie"].partition(";")[0]) == (503, "__Host-session=")
    assert "will end as soon as it can be" in failure.text
    run(sessions.sweep())
    assert run(elsewhere.load(session.identifier)) is None


def test_tried_less_and_less_often(make, wire, monkeypatch):
    """What is outstanding costs the calls of an outage nothing but a try now and then."""
    sessions = make()
    session, other = sign_in(sessions), sign_in(sessions, "bob")
    ask_in_vain(wire, sessions.revoke(session.handle, subject="ada"))
    monkeypatch.setattr(sessions._endings, "_pause", 3600.0)
    monkeypatch.setattr(wire, "loses_replies", False)
    tries = []

    async def fail(ending, receipt):
        tries.append(ending)
        raise StoreUnavailable("redis://h cannot be reached")

    monkeypatch.setattr(sessions._endings, "_end", fail)
    for _ in range(5):
        assert run(sessions.load(other.identifier)) is not None

    assert len(tries) == 1
    assert sessions.pending_revocations() == 1


def test_bounded(make, wire, monkeypatch, caplog):
    """Where too many are outstanding, another one is an outage as any other, and logged as lost."""
    sessions = make()
    session = sign_in(sessions)
    monkeypatch.setattr(endings, "_MOST", 0)
    wire.is_cut = True

    with pytest.raises(StoreUnavailable) as raised:
        run(sessions.revoke(session))
    assert not isinstance(raised.value, RevocationPending)
    assert "session_revocation_lost" in [record.msg for record in caplog.records]


@pytest.mark.requirement("R25")
@EVERY_END
def test_outbox_survives_the_process(make, wire, path, end, box):
    """What was outstanding when a process ended is refused and carried out by the next one, from the outbox."""
    first = make(box())
    session = sign_in(first)
    identifier = session.identifier
    wire.is_cut = True
    with pytest.raises(RevocationPending) as pending:
        run(end(first, session))
    assert pending.value.is_kept
    wire.is_cut = False
    second = make(box())
    assert second.pending_revocations() == 1

    assert run(second.load(identifier)) is None
    assert second.pending_revocations() == 0
    assert run(make().load(identifier)) is None
    assert path.read_bytes() == b""
    assert make(box()).pending_revocations() == 0


def test_outbox_of_several(make, wire, path, caplog, box):
    """Processes share an outbox; those of another prefix leave its lines alone. No secret is in it."""
    one, names = make(box()), ("Ada Lovelace", "Robert Hooke")  # "ada" alone comes up in hexadecimal digits
    sessions = [sign_in(one, name) for name in names]
    wire.is_cut = True
    for session in sessions:
        with pytest.raises(RevocationPending):
            run(one.revoke_all(session.subject, by="admin"))
    assert box("shop").load() == []
    text = path.read_text()
    assert all(word not in text for word in (*names, *(session.identifier for session in sessions)))
    two = make(box())
    wire.is_cut = False
    run(two.sweep())
    run(one.sweep())

    assert path.read_bytes() == b""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.requirement("R25")
@EVERY_END
def test_outbox_of_other_keys(make, wire, path, box, key, end, caplog):
    """What was kept under a key that a process lacks is left to those that have it, with one warning that says so."""
    sessions = make(box())
    session = sign_in(sessions)
    identifier = session.identifier
    ask_in_vain(wire, end(sessions, session))
    kept = path.read_bytes()
    stranger = new_key()
    with caplog.at_level(logging.WARNING, "coatcheck"):
        other = make(box(keys=stranger), keys=stranger)
    run(other.sweep())

    (told,) = [record for record in caplog.records if record.msg.startswith("session_outbox_keys_missing")]
    (own,) = Keyring.parse(key).keys
    assert told.getMessage() == (
        f"session_outbox_keys_missing: {path} keeps ends (1) that were asked for under keys which this process does "
        f"not have ({own.fingerprint}). They are left to a process that has these; if none will ever have them, stop "
        "all processes and remove the file"
    )
    assert (told.path, told.count) == (str(path), 1)
    assert other.pending_revocations() == 0
    assert path.read_bytes() == kept
    more = f"{stranger},{key}"
    assert run(make(box(keys=more), keys=more).load(identifier)) is None
    assert path.read_bytes() == b""


@pytest.mark.requirement("R25", "R36")
def test_outbox_of_a_longer_ring(make, wire, box, key):
    """A process that has only some of the keys of an end leaves it: sessions under the others it could not tell."""
    both = f"{new_key()},{key}"
    sessions = make(box(keys=both), keys=both)
    sign_in(sessions)
    wire.is_cut = True
    with pytest.raises(RevocationPending):
        run(sessions.revoke_all("ada"))

    assert make(box()).pending_revocations() == 0
    assert make(box(keys=both), keys=both).pending_revocations() == 1


@pytest.mark.requirement("R25")
def test_outbox_line_without_keys(make, wire, path, box):
    """A line of an older version does not say its keys; whoever carries it out ends also what it cannot open."""
    sessions = make(box())
    session = sign_in(sessions)
    identifier = session.identifier
    ask_in_vain(wire, sessions.revoke_all("ada"))
    line = json.loads(path.read_bytes())
    del line["keys"]
    path.write_text(json.dumps(line) + "\n")
    other = new_key()

    run(make(box(keys=other), keys=other).sweep())

    assert run(make().load(identifier)) is None
    assert path.read_bytes() == b""


def test_outbox_with_broken_lines(make, wire, path, caplog, box):
    """Lines that were cut short or written by somebody else are reported, and the others count."""
    sessions = make(box())
    session = sign_in(sessions)
    ask_in_vain(wire, sessions.revoke_all("ada"))
    good = path.read_bytes()
    wrong = json.loads(good)
    lines = [b'{"id": "a1", "prefix"', b"\xff\xfe", b"7", b"[]", json.dumps({**wrong, "handle": 5}).encode()]
    path.write_bytes(b"\n".join(lines) + b"\n" + good)
    with caplog.at_level(logging.ERROR, "coatcheck"):
        again = make(box())

    assert [record.line for record in caplog.records if record.msg == "session_outbox_line_unreadable"] == [
        *range(1, 6)
    ]
    assert again.pending_revocations() == 1
    assert run(again.load(session.identifier)) is None


def test_outbox_that_fails(make, wire, path, caplog, box):
    """Where the outbox cannot be written, that is logged, and memory keeps what is outstanding."""
    sessions = make(box())
    session = sign_in(sessions)
    path.unlink()
    path.mkdir()
    wire.is_cut = True
    with pytest.raises(RevocationPending) as pending:
        run(sessions.revoke(session))

    assert not pending.value.is_kept
    assert "session_outbox_failed" in [record.msg for record in caplog.records]
    assert sessions.pending_revocations() == 1


def test_outbox_refused(tmp_path, path, monkeypatch, box):
    """An outbox that cannot be made, or that others may read, is refused; the environment may name one."""
    with pytest.raises(ConfigurationError, match=r"cannot be used: .*Name a file in a folder"):
        Outbox(tmp_path / "no" / "folder", "cc", Keyring.parse(new_key()))
    path.touch(mode=0o644)
    with pytest.raises(ConfigurationError, match="is open to others: chmod 600 "):
        box()
    ring = Keyring.parse(new_key())
    assert outbox_or_default(None, "cc", ring) is None
    monkeypatch.setenv("COATCHECK_OUTBOX", str(tmp_path / "other"))
    assert outbox_or_default(None, "cc", ring).load() == []
    assert (tmp_path / "other").exists()
    assert outbox_or_default(path=False, prefix="cc", keyring=ring) is None


@pytest.mark.access(durability=Durability(revocation=Level.REPLICAS))
def test_short_of_its_level(make):
    """An end that no replica has confirmed is pending; where the policy is not strict it is no error, but counted."""
    short = {"revocation": Level.REPLICAS, "timeout": timedelta(milliseconds=5)}
    strict = make(durability=Durability(**short))
    session = sign_in(strict)
    with pytest.raises(RevocationPending, match=r"revocation: it was carried out"):
        run(strict.revoke(session.handle, subject="ada"))
    assert run(strict.load(session.identifier)) is None
    assert strict.pending_revocations() == 1
    easy = make(durability=Durability(**short, strict=False))
    session = sign_in(easy)

    assert run(easy.revoke_all("ada")) == 1
    assert easy.pending_revocations() == 1
