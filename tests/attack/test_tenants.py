"""Tenants of one server: each has a prefix and a user of its own, and none reaches the others."""

import pytest
import redis

import coatcheck
from coatcheck import ConfigurationError, RecordCorrupted
from coatcheck.engine.keys import Keys
from coatcheck.runtime.sync import run
from tests.fix_access import crossing

TENANTS = ("bank", "shop", "shop:eu", "shop:")
PAIRS = [(own, other) for own in TENANTS for other in TENANTS if own != other]
OPERATIONS = {
    "create": lambda sessions, _: sessions.create({"a": 1}),
    "load": lambda sessions, session: sessions.load(session.identifier),
    "find": lambda sessions, session: sessions.find(session.handle),
    "save": lambda sessions, session: sessions.save(session),
    "touch": lambda sessions, session: sessions.touch(session),
    "bind": lambda sessions, _: sessions.bind(sessions.new(), "ada"),
    "bind again": lambda sessions, session: sessions.bind(session, "ada"),
    "unbind": lambda sessions, session: sessions.unbind(session),
    "rotate": lambda sessions, session: sessions.rotate(session),
    "revoke": lambda sessions, session: sessions.revoke(session),
    "revoke by handle": lambda sessions, session: sessions.revoke(session.handle, subject="ada"),
    "revoke all": lambda sessions, _: sessions.revoke_all("ada"),
    "revoke everyone": lambda sessions, _: sessions.revoke_everyone(),
    "list": lambda sessions, _: sessions.list_for("ada"),
    "sweep": lambda sessions, _: sessions.sweep(),
    "read events": lambda sessions, _: sessions.read_events("audit", "one"),
}


@pytest.fixture
def tenant(acl_server, key):
    """Give a function that makes sessions: as the user of one tenant, on the prefix of the same or of another."""
    urls, opened = {}, []

    def make(user, prefix=None, **options):
        url = urls.get(user) or urls.setdefault(user, acl_server.user(user))
        sessions = coatcheck.Sessions(url, prefix=prefix or user, **{"keys": key, **options})
        opened.append(sessions)
        return sessions

    yield make
    for sessions in opened:
        sessions.close()


def signed_in(sessions):
    """Make a session of ada's, with a change that was not saved yet."""
    sessions.bind(session := sessions.create({"a": 1}), "ada")
    session["b"] = 2
    return session


def contents(acl_server):
    """Give what every key holds, but for when it was used."""
    return {name: node.dump(name) for node in acl_server.nodes for name in node.scan_iter()}


@pytest.mark.requirement("R52")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_tenant_reaches_another(acl_server, tenant, operation):
    """Whatever one tenant's user tries on another's sessions is refused by the server and changes nothing.

    Even with the other's sealing key, and even where one's prefix begins like the other's.
    """
    for own, other in PAIRS:
        session = signed_in(tenant(other))
        before = contents(acl_server)
        acl_server.refused()

        with pytest.raises(ConfigurationError, match="does not let this user do what sessions need"):
            OPERATIONS[operation](tenant(own, other), session)

        assert contents(acl_server) == before
        assert acl_server.refused() != []


@pytest.mark.requirement("R52")
def test_a_script_cannot_cross(acl_server, tenant):
    """A script that is given one's own keys, and reaches for another's from within, is refused too."""
    victim, thief = tenant("shop"), tenant("bank")
    session = signed_in(victim)
    command = crossing(acl_server.client, "bank", "shop", session.handle)

    with pytest.raises(ConfigurationError, match="does not let this user do what sessions need"):
        run(thief.core._store.transport.call(command))

    assert victim.load(session.identifier) is not None


@pytest.mark.requirement("R52")
@pytest.mark.parametrize("channel", ["shop:{*}:e", "shop:{06S}:e", "*", "bank:{*", "bank:*"])
def test_no_tenant_hears_another(acl_server, channel):
    """A tenant's user can listen to its own channels alone, by the one pattern that names them."""
    url = acl_server.of_one(acl_server.user("bank"))
    with redis.Redis.from_url(url, protocol=2) as client, client.pubsub() as hub:
        with pytest.raises(redis.exceptions.NoPermissionError):
            hub.psubscribe(channel) or hub.get_message(timeout=5)
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.publish("shop:{06S}:e", "forged")


@pytest.mark.requirement("R52", "R35")
@pytest.mark.parametrize(("own", "other"), PAIRS)
def test_a_moved_record_does_not_open(acl_server, tenant, own, other):
    """A record that somebody puts under another tenant's prefix does not open there, though the key be the same."""
    session = tenant(other).create({"a": 1})
    record = acl_server.client.get(Keys(other).record(session.handle))
    acl_server.client.set(Keys(own).record(session.handle), record, px=60_000)

    with pytest.raises(RecordCorrupted, match="belongs to another key, prefix or request"):
        tenant(own).load(session.identifier)

    assert tenant(other).load(session.identifier)["a"] == 1


@pytest.mark.requirement("R52")
def test_one_tenants_subject_is_not_the_others(acl_server, tenant):
    """The sessions of a subject of the same name at another tenant are another's, and listed under another digest."""
    signed_in(tenant("shop"))
    session = signed_in(tenant("bank"))

    assert tenant("shop").subject_digests("ada") != tenant("bank").subject_digests("ada")
    assert tenant("shop").revoke_all("ada") == 1
    assert tenant("bank").load(session.identifier) is not None
    assert acl_server.refused() == []
