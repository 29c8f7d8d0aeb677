"""A transport that a test can cut."""

from collections.abc import Iterator
from typing import Any

import pytest

from coatcheck import StoreUnavailable
from coatcheck.runtime.address import Address
from coatcheck.runtime.blocking import BlockingTransport


class Wire(BlockingTransport):
    """A transport to the server. is_cut: nothing gets there. loses_replies: everything does, and nothing comes back.

    calls_left: how many calls get there before it is cut; None: all.
    """

    is_cut = False
    loses_replies = False
    calls_left: int | None = None

    async def call(self, *commands):
        """Carry *commands* out, unless the wire is cut."""
        if self.is_cut or self.calls_left == 0:
            raise StoreUnavailable("redis://h cannot be reached: the wire is cut")
        if self.calls_left is not None:
            self.calls_left -= 1
        replies = await super().call(*commands)
        if self.loses_replies:
            raise StoreUnavailable("redis://h cannot be reached: no answer")
        return replies


@pytest.fixture
def wire(server: Any) -> Iterator[Wire]:
    """Give the transport."""
    wire = Wire(Address(server.url), {})
    yield wire
    wire.close()
