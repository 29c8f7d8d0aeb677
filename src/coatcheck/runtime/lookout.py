"""Looking where the servers are: no more often than it helps, and not for long where it is in vain."""

from time import monotonic
from typing import Final

from redis.exceptions import ConnectionError as LostConnection

from coatcheck.model.errors import StoreUnavailable
from coatcheck.runtime.address import Address
from coatcheck.runtime.batch import Call
from coatcheck.runtime.breaker import Breaker
from coatcheck.runtime.errors import FOREIGN, is_refusal, is_untrusted, translated
from coatcheck.runtime.topology import Asker, Topology, share

_AGAIN_SECONDS: Final = 0.05

CONFIRM_AGAIN_SECONDS: Final = 0.01
"""How long those wait for each other who need a confirmation."""


class Lookout:
    """Decides when a topology looks again. Losing a count to another thread does no harm: nothing here locks."""

    def __init__(self, topology: Topology, address: Address) -> None:
        """Look for the servers of *topology*, which are called *address* in texts."""
        self._topology = topology
        self._address = address
        self._breaker = Breaker()
        self._looked_at = 0.0
        self.reason: Exception = LostConnection("it is still being looked for")
        """Why it is not known where to go."""

    async def look(self, asker: Asker, call: Call, *, at_most: float, every: float = _AGAIN_SECONDS) -> None:
        """Look again for *call*, unless another call has begun to within *every* seconds.

        at_most: seconds that it may take. What stands in the way is the call's trouble then. Raises StoreUnavailable
        where it was in vain several times in a row, and ConfigurationError.
        """
        now, topology = monotonic(), self._topology
        if now < self._looked_at + every:
            return
        if not topology.is_usable(now) and not self._breaker.admits(now):
            raise StoreUnavailable(
                f"{self._address} cannot be reached: not tried: it was looked for {self._breaker.failures} times in a "
                f"row in vain, and is left alone for a moment: {self.reason}"
            ) from self.reason
        self._looked_at = now
        try:
            await topology.refresh(asker, min(share(call.ends_at, topology.share_of_call), now + at_most))
        except FOREIGN as error:
            call.trouble = error
            if topology.is_usable(monotonic()):
                return
            if is_refusal(error) or is_untrusted(error):
                raise translated(error, self._address) from error
            self.reason = error
            self._breaker.fail(monotonic())
        else:
            self._breaker = Breaker()
