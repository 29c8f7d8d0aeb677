"""Whoever can write to the store plants bytes of every kind, pickles that run code among them, in every key.

What comes of it is at most an error of the store, which an application answers with 503: no code runs, no other
exception escapes, and nobody is taken for somebody else.
"""

from contextlib import suppress

import pytest

from coatcheck import SessionError

STREAM_END = "18446744073709551615-18446744073709551615"


def change_and_save(sessions, session):
    """Change something everywhere, and save it."""
    session["a"] = 2
    session.compartment("cart")["items"] = []
    session.record("change")
    sessions.save(session)


def read_the_cart(sessions, session):
    """Look into the cart, if the session is still there."""
    loaded = sessions.load(session.identifier)
    return loaded and dict(loaded.compartment("cart"))


OPERATIONS = {
    "load": lambda sessions, session: sessions.load(session.identifier),
    "read the cart": read_the_cart,
    "find": lambda sessions, session: sessions.find(session.handle),
    "save": change_and_save,
    "touch": lambda sessions, session: sessions.touch(session),
    "rotate": lambda sessions, session: sessions.rotate(session),
    "sign in again": lambda sessions, session: sessions.bind(session, "ada"),
    "sign in elsewhere": lambda sessions, _: [sessions.bind(sessions.new(), "ada") for _ in range(4)],
    "sign out": lambda sessions, session: sessions.unbind(session),
    "list": lambda sessions, _: sessions.list_for("ada"),
    "revoke": lambda sessions, session: sessions.revoke(session.handle),
    "revoke own": lambda sessions, session: sessions.revoke(session.handle, subject="ada"),
    "revoke all": lambda sessions, _: sessions.revoke_all("ada"),
    "revoke others": lambda sessions, session: sessions.revoke_others(session),
    "erase": lambda sessions, _: sessions.erase("ada"),
    "revoke everyone": lambda sessions, _: sessions.revoke_everyone(),
    "sweep": lambda sessions, _: sessions.sweep(),
    "reseal": lambda sessions, _: sessions.reseal(),
    "activity": lambda sessions, session: sessions.activity(session.handle),
    "events": lambda sessions, _: sessions.read_events("audit", "one"),
    "time left": lambda sessions, session: sessions.time_left([session]),
}


def plant_text(client, key, value):
    """Put a string there."""
    client.set(key, value, px=60_000)


def plant_members(client, key, value):
    """Put a sorted set there, with one member that is due and one that is not."""
    client.delete(key)
    client.zadd(key, {value: 1, value + b"!": 9e12})


def plant_entries(client, key, value):
    """Add an entry to the stream there, or begin one."""
    if client.type(key) != b"stream":
        client.delete(key)
    client.xadd(key, {"t": value, "h": value, "s": value, "at": value, "by": value, "why": value})
    client.xadd(key, {value: value})


def plant_last_entry(client, key, value):
    """Begin a stream there which has no room for another entry."""
    client.delete(key)
    client.xadd(key, {"d": value}, id=STREAM_END)


def plant_list(client, key, value):
    """Put a list there."""
    client.delete(key)
    client.rpush(key, value)


PLANTS = [plant_members, plant_entries, plant_last_entry, plant_list]
GARBAGE = [b"", b"\0", b"\1\0garbage", b"9" * 5000, b"-1", b"nan", b"\xff" * 200, bytes(100_000)]
KINDS = ["record", "compartment", "activity", "index", "expiry index", "epoch", "events"]


@pytest.mark.requirement("R34", "R37")
@pytest.mark.parametrize("kind", KINDS)
def test_garbage(victim, snapshot, bombs, server, kind):
    """Whatever stands in a key, every operation does its work or fails with an error of ours."""
    whole, key = snapshot(), victim.keys()[kind]
    planted = [(plant_text, value) for value in [*GARBAGE, *bombs]]
    planted += [(plant, value) for plant in PLANTS for value in (b"", b"\xff", b"9" * 5000, bombs[-1])]
    for plant, value in planted:
        for operation in OPERATIONS.values():
            whole.put_back()
            victim.forget_ends()
            session = victim.load()
            plant(server.client, key, value)
            with suppress(SessionError):
                operation(victim.sessions, session)


@pytest.mark.requirement("R34")
def test_strange_names(victim, bombs, server):
    """Names of keys and of handles that nobody has given stop neither resealing, nor lists, sign-ins and sweeps."""
    stem = victim.record.removesuffix(victim.handle.name).encode()
    record = server.client.get(victim.record)
    for name in (b"", b"x", b"\xff\xfe", b"../../etc/passwd", b"A" * 5000, *bombs):
        server.client.set(stem + name, record, px=60_000)
        server.client.zadd(victim.index, {name: 9e12})
        server.client.zadd(victim.expiry, {name: 1})

    victim.sessions.reseal()
    victim.sessions.sweep()
    assert victim.handle in [info.handle for info in victim.sessions.list_for("ada")]
    victim.sessions.bind(session := victim.sessions.new(), "ada")
    assert victim.sessions.load(session.identifier).subject == "ada"
    victim.sessions.revoke_all("ada")
    assert victim.sessions.load(session.identifier) is None
