"""Sealing keys are rotated: nobody is signed out, nobody is overlooked."""

import pytest

import coatcheck
from coatcheck import AtLimit, Keyring, SessionLimitReached, SessionPolicy
from coatcheck.model.keyring import Key


@pytest.fixture
def old(open_sessions):
    """Give sessions from before the rotation."""
    return open_sessions()


@pytest.fixture
def new_key():
    """Give the key that seals from now on."""
    return coatcheck.new_key()


@pytest.fixture
def new(open_sessions, key, new_key):
    """Give sessions during the rotation: the new key seals, both open."""
    return open_sessions(keys=[new_key, key])


def signed_in(sessions, subject="ada"):
    """Sign *subject* in."""
    session = sessions.create({"a": 1})
    sessions.bind(session, subject)
    return session


@pytest.mark.requirement("R36")
def test_nobody_is_signed_out(old, new):
    """A session sealed with the former key opens, and its subject is still signed in."""
    session = signed_in(old)

    loaded = new.load(session.identifier)

    assert (dict(loaded), loaded.subject) == ({"a": 1}, "ada")


@pytest.mark.requirement("R36")
def test_save_seals_anew(old, new, open_sessions, new_key, key):
    """What is saved is sealed with the new key; then the former key is no longer needed for it."""
    session = signed_in(old)
    loaded = new.load(session.identifier)
    loaded["a"] = 2
    new.save(loaded)

    assert dict(open_sessions(keys=new_key).load(session.identifier)) == {"a": 2}
    assert open_sessions(keys=key).load(session.identifier) is None


@pytest.mark.requirement("R36")
def test_list_and_end_over_both_keys(old, new):
    """The sessions of a subject under both keys are listed together, and end together."""
    before, after = signed_in(old), signed_in(new)

    assert {info.handle for info in new.list_for("ada")} == {before.handle, after.handle}
    assert new.revoke_all("ada", keep=before.handle) == 1
    assert [info.handle for info in new.list_for("ada")] == [before.handle]
    assert new.revoke(before.handle, subject="ada") is True
    assert new.list_for("ada") == []


@pytest.mark.requirement("R28")
def test_sign_in_again_moves_the_session(old, new, server):
    """A sign-in on a session under the former key moves it to the new one, and leaves nothing behind."""
    session = signed_in(old)
    mine = new.load(session.identifier)

    new.bind(mine, "ada")

    assert new.load(session.identifier) is None
    assert [info.handle for info in new.list_for("ada")] == [mine.handle]
    assert len(server.left()) == 3


@pytest.mark.parametrize("how", ["revoke", "object", "unbind", "revoke all"])
def test_nothing_is_left_behind(old, new, server, how):
    """Whatever ends a session under the former key clears its indexes too."""
    session = new.load(signed_in(old).identifier)
    {
        "revoke": lambda: new.revoke(session.handle),
        "object": lambda: new.revoke(session),
        "unbind": lambda: new.unbind(session),
        "revoke all": lambda: new.revoke_all("ada"),
    }[how]()

    assert server.keys(":u:") == server.keys("}:x") == []
    assert len(server.left()) == (1 if how == "unbind" else 0)


@pytest.mark.requirement("R23")
def test_places_that_share_a_partition(old, new, key, new_key, server):
    """Where a subject's places under both keys lie in one partition, its sessions are found in the right one."""
    rings = [Keyring.parse(text).keys[0] for text in (new_key, key)]
    subject = next(name for name in map(str, range(10_000)) if len({_partition(key, name) for key in rings}) == 1)
    before, after = signed_in(old, subject), signed_in(new, subject)
    changed = new.load(before.identifier)
    changed.set_timeouts(persistent=False)
    new.save(changed)

    listed = [info.handle for info in new.list_for(subject)]
    assert sorted(map(str, listed)) == sorted(map(str, (before.handle, after.handle)))
    assert new.revoke(before.handle, subject=subject) is True
    assert new.revoke(after.handle, subject=subject) is True
    assert server.left() == []


@pytest.mark.requirement("R17")
def test_limit_where_places_share_a_partition(open_sessions, key, new_key):
    """The limit is exact there too, for a sign-in on a session under the former key as for a new one."""
    rings = [Keyring.parse(text).keys[0] for text in (new_key, key)]
    subject = next(name for name in map(str, range(10_000)) if len({_partition(key, name) for key in rings}) == 1)
    policy = SessionPolicy(limit=2, at_limit=AtLimit.REFUSE)
    old, new = open_sessions(policy=policy), open_sessions(policy=policy, keys=[new_key, key])
    session = new.load(signed_in(old, subject).identifier)

    new.bind(session, subject)
    other = signed_in(new, subject)

    assert {info.handle for info in new.list_for(subject)} == {session.handle, other.handle}
    with pytest.raises(SessionLimitReached):
        signed_in(new, subject)


def _partition(key: Key, subject):
    return key.place("cc", subject).partition
