"""Removing what the ends of a subject's sessions leave behind: entries of the expiry index, and lifecycle events.

In steps of a few hundred entries, each a plain command of less than a millisecond or so. What is removed never changes
once it is there (a member, an event under its id), so nothing can come between looking at it and removing it.
"""

from typing import Final

from coatcheck.engine.keys import Keys
from coatcheck.engine.transport import Transport
from coatcheck.model.keyring import Place

_STEP: Final = 500
_HANDLE: Final = 16


async def erase_traces(transport: Transport, keys: Keys, place: Place) -> None:
    """Remove what the partition's expiry index and its stream of events hold of the subject at *place*."""
    handles = await _erase_entries(transport, keys, place)
    await _erase_events(transport, keys, place, handles)


async def _erase_entries(transport: Transport, keys: Keys, place: Place) -> set[bytes]:
    """Remove the subject's entries from the expiry index; give the handles that were in them."""
    name, handles, cursor = keys.expiry(place.partition), set(), 0
    while True:
        ((cursor, found),) = await transport.call(("ZSCAN", name, cursor, "MATCH", f"*{place.digest}", "COUNT", _STEP))
        entries = found[::2]  # the scores are between them
        if entries:
            await transport.call(("ZREM", name, *entries))
            handles |= {entry[:_HANDLE] for entry in entries}
        if int(cursor) == 0:
            return handles


async def _erase_events(transport: Transport, keys: Keys, place: Place, handles: set[bytes]) -> None:
    """Remove the subject's events: those of the digest, and those of *handles* or of a handle met in one of them.

    An event of a session whose record did not open has the handle alone.
    """
    name, digest, start = keys.events(place.partition), place.digest.encode(), b"-"
    while True:
        (found,) = await transport.call(("XRANGE", name, start, "+", "COUNT", _STEP))
        told = [(event, dict(zip(flat[::2], flat[1::2], strict=True))) for event, flat in found]
        handles |= {fields[b"h"] for _, fields in told if fields.get(b"s") == digest and fields.get(b"h")}
        doomed = [event for event, fields in told if fields.get(b"s") == digest or fields.get(b"h") in handles]
        if doomed:
            await transport.call(("XDEL", name, *doomed))
        if len(told) < _STEP:
            return
        start = b"(" + told[-1][0]
