"""What the server is: asked, never assumed."""

import re
from dataclasses import dataclass
from typing import Any, Final, Self

_NUMBERS: Final = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Server:
    """The server that commands go to; in a Cluster, one of its primaries.

    kind: what it calls itself: "redis", "valkey"... version: as numbers, to be compared. is_cluster: whether it is a
    node of a Cluster.
    """

    kind: str
    version: tuple[int, ...]
    is_cluster: bool

    @classmethod
    def read(cls, hello: list[Any]) -> Self:
        """Read the reply to HELLO (RESP2: names and values in turn)."""
        found = {name: value for name, value in zip(hello[::2], hello[1::2], strict=True) if isinstance(value, bytes)}
        version = tuple(int(number) for number in _NUMBERS.findall(found.get(b"version", b"").decode()))
        return cls(found.get(b"server", b"").decode(), version, found.get(b"mode") == b"cluster")
