"""The sessions of a subject, as the question where it is logged in shows them."""

from datetime import timedelta
from itertools import islice

import msgspec
import pytest
from msgspec.msgpack import Ext

from coatcheck import SessionPolicy
from coatcheck.engine.operations import Operations
from coatcheck.engine.store import Store
from coatcheck.model.keyring import Keyring
from coatcheck.model.record import Payload, Records
from coatcheck.model.session import instant

MINUTE = timedelta(minutes=1)
SLACK = timedelta(seconds=2)


def signed_in(sessions, subject="ada", **attributes):
    """Sign *subject* in on a session with *attributes*."""
    session = sessions.new()
    session.update(attributes)
    sessions.bind(session, subject)
    return session


def test_nobody_is_signed_in(sessions):
    """A subject without sessions has an empty list."""
    assert sessions.list_for("ada") == []


def test_those_seen_last_come_first(sessions, clock):
    """Sessions are listed by their last use, whether that was a write or a read."""
    first = signed_in(sessions)
    clock.advance(4 * MINUTE)
    second = signed_in(sessions)
    clock.advance(4 * MINUTE)
    third = signed_in(sessions)
    clock.advance(4 * MINUTE)
    sessions.save(sessions.load(first.identifier))
    clock.advance(4 * MINUTE)
    written = sessions.load(second.identifier)
    written["a"] = 1
    sessions.save(written)

    assert [info.handle for info in sessions.list_for("ada")] == [second.handle, first.handle, third.handle]


def test_what_a_line_says(open_sessions, clock):
    """A line gives handle, creation, last use, both deadlines, and the attributes that the policy lists."""
    sessions = open_sessions(policy=SessionPolicy(listed=("device", "address")))
    session = signed_in(sessions, device="Firefox", secretive="hidden")
    created = instant(clock.now())
    clock.advance(10 * MINUTE)
    sessions.save(sessions.load(session.identifier))
    clock.advance(5 * MINUTE)

    (info,) = sessions.list_for("ada")

    assert info.handle == session.handle
    assert info.metadata == {"device": "Firefox"}
    assert abs(info.created_at - created) < SLACK
    assert abs(info.last_seen - (created + 10 * MINUTE)) < SLACK
    assert abs(info.idle_deadline - (created + 40 * MINUTE)) < SLACK
    assert abs(info.absolute_deadline - (created + timedelta(hours=12))) < SLACK


def test_ended_sessions_are_not_listed(sessions, clock):
    """Sessions that were revoked or have expired are not listed, swept or not."""
    revoked, expired, alive = (signed_in(sessions) for _ in range(3))
    alive.set_timeouts(idle=timedelta(hours=1))
    sessions.save(alive)
    sessions.revoke(revoked.handle)
    assert expired is not None
    clock.advance(31 * MINUTE)

    assert [info.handle for info in sessions.list_for("ada")] == [alive.handle]


def test_session_past_its_absolute_deadline_is_not_listed(sessions, clock):
    """A record that outlived its absolute deadline is not listed."""
    signed_in(sessions)
    clock.moved += 12 * 3600 * 1000

    assert sessions.list_for("ada") == []


def test_very_many_sessions(sessions):
    """More sessions than fit in one reply are listed completely, each once."""
    expected = {signed_in(sessions).handle for _ in range(405)}

    listed = [info.handle for info in sessions.list_for("ada")]

    assert len(listed) == 405
    assert set(listed) == expected


@pytest.mark.requirement("R24")
def test_sessions_end_while_they_are_listed(open_sessions, monkeypatch):
    """Of 500 sessions, 300 of which end between the pages, those that live throughout are listed, each once."""
    sessions, other = open_sessions(), open_sessions()
    everyone = [signed_in(sessions).handle for _ in range(500)]
    doomed, page = iter(everyone[:300]), Store.page

    async def and_some_end(self, *arguments):
        found = await page(self, *arguments)
        for handle in islice(doomed, 100):
            await Operations.revoke(getattr(other, "core", None) or other._sessions, handle, subject="ada")
        return found

    monkeypatch.setattr(Store, "page", and_some_end)
    listed = [info.handle for info in sessions.list_for("ada")]

    assert next(doomed, None) is None
    assert len(listed) == len(set(listed))
    assert set(everyone[300:]) <= set(listed)


@pytest.mark.requirement("R37")
def test_corrupted_record_is_skipped(sessions, server, logged):
    """A record that does not open is left out and logged by its handle; the others are listed."""
    broken, sound = signed_in(sessions), signed_in(sessions)
    (name,) = server.keys(broken.handle.name)
    server.client.setrange(name, 0, b"\x09")

    assert [info.handle for info in sessions.list_for("ada")] == [sound.handle]
    assert [record.handle for record in logged("session_record_corrupted")] == [str(broken.handle)]
    assert server.client.exists(name)


@pytest.mark.requirement("R37")
def test_metadata_of_a_newer_version(open_sessions, server, key, logged):
    """A listed attribute that only a newer version understands does not take the whole list away."""
    sessions = open_sessions(policy=SessionPolicy(listed=("device",)))
    newer, sound = signed_in(sessions), signed_in(sessions, device="Firefox")
    (name,) = server.keys(newer.handle.name)
    unknown = {"device": msgspec.msgpack.encode(Ext(99, b"?"))}
    records = Records(Keyring.parse(key), "cc")
    server.client.set(name, records.seal(newer.handle, newer.header, Payload("ada", unknown)), keepttl=True)

    assert sound.handle in {info.handle for info in sessions.list_for("ada")}
    assert logged("session_record_corrupted")
