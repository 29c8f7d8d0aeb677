"""The gate: where handlers of the apps stop until a trial lets them go on. Standard library only."""

import asyncio
import os
import socket

_PATH = os.environ["FIELD_GATE"]


async def wait_at_gate() -> None:
    """Say that we are here, and wait until the gate opens."""
    reader, writer = await asyncio.open_unix_connection(_PATH)
    await reader.read()
    writer.close()


def wait_at_gate_in_thread() -> None:
    """Do the same for a synchronous app."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(_PATH)
        connection.recv(1)
