"""Nothing secret is in the store, on the way to it beside the ticket's owner, in a log or in a repr."""

import json
import logging
from contextlib import ExitStack
from pathlib import Path

import pytest

from coatcheck import SessionPolicy
from coatcheck.model.ticket import Ticket

CANARY = "canary-in-a-coal-mine"
SUBJECT = "secretive-ada@example.org"


@pytest.fixture
def secrets_of(open_sessions, caplog):
    """Give a function that uses sessions in every way, and gives all that must not be seen."""
    caplog.set_level(logging.DEBUG)

    def use(server):
        sessions = open_sessions(policy=SessionPolicy(limit=2, listed=("device",)))
        tickets, shown = [], []
        for number in range(4):
            session = sessions.create({"word": CANARY, "device": f"{CANARY} {number}", "long": [CANARY] * 200})
            tickets.append(Ticket.parse(session.identifier))
            sessions.bind(session, SUBJECT)
            tickets.append(Ticket.parse(session.identifier))
            session["more"] = {"inner": CANARY}
            sessions.rotate(session)
            tickets.append(Ticket.parse(session.identifier))
            sessions.save(sessions.load(session.identifier))
            shown += [repr(session), repr(session.header), repr(session.payload), repr(tickets[-1])]
        sessions.list_for(SUBJECT)
        sessions.sweep()
        sessions.unbind(session)
        tickets.append(Ticket.parse(session.identifier))
        sessions.revoke_all(SUBJECT)
        sessions.revoke(session)
        shown += [repr(sessions), repr(server)]
        return tickets, shown

    return use


def forms(tickets):
    """List every form in which a secret could be seen, as bytes."""
    for ticket in tickets:
        yield ticket.secret
        yield ticket.identifier.encode()
        yield ticket.identifier[-32:].encode()
        yield ticket.secret.hex().encode()
        yield repr(ticket.secret)[2:-1].encode()
    yield CANARY.encode()
    yield SUBJECT.encode()


@pytest.mark.requirement("R33")
def test_store_learns_nothing(secrets_of, server):
    """Neither the commands that the server sees, nor its slow log, nor its files hold a secret or an attribute."""
    for node in server.nodes:
        node.config_set("slowlog-log-slower-than", 0)
        node.slowlog_reset()
    seen, slow, files = [], "", {}
    with ExitStack() as stack:
        monitors = [stack.enter_context(node.monitor()) for node in server.nodes]
        tickets, _ = secrets_of(server)
        for node, monitor in zip(server.nodes, monitors, strict=True):
            node.echo("the end")
            while "the end" not in (command := monitor.next_command()["command"]):
                seen.append(command)
    for node in server.nodes:
        slow += repr(node.slowlog_get(10_000))
        node.config_set("slowlog-log-slower-than", 10_000)
        node.save()
        folder = Path(node.config_get("dir")["dir"])
        files |= {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "keys"}

    assert any(b"coatcheck" in content or b"EVALSHA" in content or b"SET" in content for content in files.values())
    assert any("EVALSHA" in command for command in seen)
    everything = b"\n".join([*files.values(), "\n".join(seen).encode(), slow.encode()])
    assert [form for form in forms(tickets) if form in everything] == []


@pytest.mark.requirement("R33")
def test_logs_and_reprs_show_nothing(secrets_of, server, caplog):
    """No log record, with everything that is attached to it, and no repr holds a secret, an attribute or a subject."""
    tickets, shown = secrets_of(server)

    logged = [json.dumps(record.__dict__, default=repr) for record in caplog.records if record.name == "coatcheck"]
    assert logged
    everything = "\n".join([*logged, *shown]).encode()
    assert [form for form in forms(tickets) if form in everything] == []


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
