"""Visits to the test apps: many at once, up to a point, and what they have sent to the store."""

from concurrent.futures import ThreadPoolExecutor

from coatcheck.model.ticket import Handle, Ticket

CROWD = 64


def at_once(function, items, *, threads=CROWD):
    """Call *function* with each of *items*, many at the same time; give the results."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


def sent(commands):
    """Leave TIME out: about once a minute it travels with another command, in the same round trip."""
    return [command for command in commands if command != "TIME"]


def url_of(client, path):
    """Give the address of a WebSocket at *path* of the app that *client* visits."""
    return f"ws{str(client.base_url).removeprefix('http').rstrip('/')}{path}"


def stranger():
    """Make a well-formed ticket that nobody was ever given."""
    return Ticket.new(Handle.new())
