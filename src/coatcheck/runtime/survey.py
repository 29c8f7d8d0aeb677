"""Asking every server, and every sentinel, how it is set up."""

from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from coatcheck.engine.checkup import Seen
from coatcheck.engine.transport import Command
from coatcheck.runtime.address import Kind, Node
from coatcheck.runtime.errors import FOREIGN, translated
from coatcheck.runtime.topology import Cluster

if TYPE_CHECKING:
    from coatcheck.runtime.carrier import Carrier

_SETTINGS: Final = (
    "appendonly",
    "appendfsync",
    "save",
    "min-replicas-to-write",
    "cluster-require-full-coverage",
)


async def survey(carrier: "Carrier") -> list[Seen]:
    """Ask each primary, and each sentinel that the address names. Raises StoreUnavailable for a primary."""
    sole = await carrier.primary()
    primaries = carrier.topology.primaries if isinstance(carrier.topology, Cluster) else (sole,)
    seen = [await _look_at(carrier, node) for node in primaries]
    if carrier.address.kind is Kind.SENTINEL:
        seen += [await _look_at_sentinel(carrier, node) for node in carrier.address.seeds]
    return seen


async def _look_at(carrier: "Carrier", node: Node) -> Seen:
    try:
        text = await carrier.ask(node, ("INFO",), monotonic() + carrier.settings.deadline)
    except ResponseError:  # not allowed
        text = None
    except FOREIGN as error:
        raise translated(error, carrier.address) from error
    info = None if text is None else dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
    pairs = [(await _asked(carrier, node, ("CONFIG", "GET", name)))[0] for name in _SETTINGS]  # 6.2 takes one a command
    if None in pairs:
        return Seen(str(node), info)
    return Seen(str(node), info, {name: value for pair in pairs for name, value in _pairs(pair).items()})


async def _look_at_sentinel(carrier: "Carrier", node: Node) -> Seen:
    service = carrier.address.service
    found, _ = await _asked(carrier, node, ("SENTINEL", "MASTER", service))
    _, problem = await _asked(carrier, node, ("SENTINEL", "CKQUORUM", service))
    return Seen(
        f"sentinel {node}", None if found is None else _pairs(found), None, is_sentinel=True, quorum_problem=problem
    )


async def _asked(carrier: "Carrier", node: Node, command: Command) -> tuple[Any, str]:
    """Give the reply, or None and why there is none."""
    try:
        return await carrier.ask(node, command, monotonic() + carrier.settings.deadline), ""
    except FOREIGN as error:
        return None, str(error) or type(error).__name__


def _pairs(flat: list[bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}
