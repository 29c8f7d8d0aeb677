"""Nothing secret is in the store, on the way to it beside the ticket's owner, in a log, an exception or a repr.

Canaries are planted wherever a secret can be (tests/contract/canaries.py), sessions are used in every way, and refused
in every way (tests/contract/usage.py), and then all that others can see is searched for them.
"""

import logging
from base64 import b64encode
from datetime import timedelta

import pytest
import redis

import coatcheck
from coatcheck.model.ticket import Ticket
from tests.contract.canaries import Canaries, clients, logged, objects, shown, watched
from tests.contract.usage import Usage

MINUTE = timedelta(minutes=1)

# What no command is sent for that the others do not send, or that is the same as another.
NOT_USED = {"close", "policy", "on", "listen", "listening"}


@pytest.fixture
def canaries():
    """Give canaries, none yet."""
    return Canaries()


@pytest.mark.requirement("R33")
@pytest.mark.requirement("R60")
def test_nothing_secret_is_seen(open_sessions, acl_server, canaries, caplog):
    """Whatever is done with sessions and refused to them, nobody but a ticket's owner sees anything secret.

    Not who watches a server, primary or replica (MONITOR, SLOWLOG, ACL LOG, CLIENT LIST, INFO), or has its files (RDB,
    AOF), nor who reads the log of the application, its exceptions or how its objects show.
    """
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, logger=name)
    usage = Usage(open_sessions, acl_server, canaries)
    with watched(acl_server.all_nodes) as places:
        usage.live()
        usage.fail()
        places["CLIENT LIST"] = clients(acl_server.all_nodes)

    places["log"] = logged(caplog.records)
    places["exceptions"] = b"\n".join(map(shown, usage.errors))
    places["objects"] = objects() + "\n".join(usage.reprs).encode()
    operations = {name for name in vars(coatcheck.Sessions) if not name.startswith("_")}
    assert usage.used >= operations - NOT_USED, "plant canaries through these too"
    assert set(places) >= {"MONITOR", "SLOWLOG", "ACL LOG", "INFO", "CLIENT LIST", "RDB", "AOF", "log", "exceptions"}
    assert canaries.found_in(places) == set()


FORMS = {
    "raw": str,
    "first half": lambda text: text[:16],
    "second half": lambda text: text[-16:],
    "hexadecimal": lambda text: text.encode().hex(),
    "HEXADECIMAL": lambda text: text.encode().hex().upper(),
    "base64": lambda text: b64encode(text.encode()).decode(),
    "base64, behind 1": lambda text: b64encode(b"." + text.encode()).decode(),
    "base64, behind 2": lambda text: b64encode(b".." + text.encode() + b".").decode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_canary_in_the_clear_is_found(acl_server, canaries, caplog, form):
    """The search can find: a canary that is planted in the clear, in any form, is seen in every place."""
    seen, nodes = FORMS[form](canaries.text("planted")), acl_server.all_nodes
    event = coatcheck.Event(type=coatcheck.EventType.REVOKED, partition=0, handle=None, subject_digest=seen, at=None)
    with watched(nodes) as places:
        acl_server.client.set("cc:planted", seen)
        for node in nodes:
            node.client_setname(seen)
        places["CLIENT LIST"] = clients(nodes)
        for node in nodes:
            node.client_setname("")
            be_refused(node, seen)
    logging.getLogger("coatcheck").error("x", extra={"subject": seen})
    places["log"] = logged(caplog.records)
    places["objects"] = objects()
    places["exceptions"] = shown(raised(seen))
    places["locals"] = shown(raised("x", event))
    everywhere = {
        "MONITOR",
        "SLOWLOG",
        "ACL LOG",
        "CLIENT LIST",
        "RDB",
        "AOF",
        "log",
        "exceptions",
        "locals",
        "objects",
    }

    assert {place for place, _ in canaries.found_in(places)} >= everywhere


def test_bytes_in_the_clear_are_found(acl_server, canaries):
    """The search can find bytes that are no text, also where the server shows them escaped."""
    secret = bytes(range(0, 250, 8))
    canaries.plant("planted", secret)
    with watched(acl_server.all_nodes) as places:
        acl_server.client.set("cc:planted", b"x" + secret)
    places["log"] = repr([secret]).encode()

    assert {place for place, _ in canaries.found_in(places)} >= {"MONITOR", "SLOWLOG", "RDB", "AOF", "log"}


def be_refused(node, name):
    """Let somebody who may not do so set the key *name*."""
    node.acl_setuser("curious", enabled=True, nopass=True, commands=["+set"], keys=["none"])
    pool = node.connection_pool
    options = {**pool.connection_kwargs, "username": "curious", "password": "any"}
    with (
        redis.Redis.from_pool(redis.ConnectionPool(pool.connection_class, **options)) as curious,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        curious.set(name, "1")
    node.acl_deluser("curious")


def raised(text, held=None):
    """Give an exception that was raised by a frame that holds something."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  whatever its text
        raise_it(text, held)
    return caught.value


def raise_it(text, held):
    """Raise an exception."""
    raise ValueError(text)


@pytest.mark.requirement("R33")
def test_what_is_stored_opens_nothing(open_sessions, server):
    """Whoever has read the whole store, the digests included, still has no identifier that opens a session."""
    sessions = open_sessions()
    session = sessions.create({"a": 1})
    (name,) = server.left()
    record = server.client.get(name)
    digest = record[32:64]

    assert digest == Ticket.parse(session.identifier).digest
    for start in range(len(record) - 24):
        assert sessions.load(Ticket(session.handle, record[start : start + 24]).identifier) is None
