"""What a session may hold at most, so that nobody can fill the store through it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_LONGEST_CHARACTER: Final = 4
"""Bytes of a character in UTF-8."""


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that the attributes of a session may take: bytes, names and encoded values together, and their number.

    Depth has a limit too: see `coatcheck.model.codec`. Whatever is over a limit is refused with a ValueError.
    """

    max_bytes: int
    max_attributes: int

    def check_value(self, name: str, raw: bytes) -> None:
        """Refuse an attribute that alone is too large."""
        if _LONGEST_CHARACTER * len(name) + len(raw) <= self.max_bytes:
            return
        if (size := _size(name, raw)) > self.max_bytes:
            raise ValueError(f"attribute {name} takes {size:,} bytes; {self._bytes_advice}")

    def check_count(self, count: int) -> None:
        """Refuse that many attributes."""
        if count > self.max_attributes:
            raise ValueError(
                f"the session would hold {count:,} attributes; the policy's max_attributes allows "
                f"{self.max_attributes:,}: keep a collection in one attribute"
            )

    def check(self, attributes: Mapping[str, bytes], former: Mapping[str, bytes]) -> None:
        """Refuse *attributes* that are too many or too large, unless they are no more than *former* were.

        So a session that is over a limit made tighter since then can still be used, made smaller and ended.
        """
        if len(attributes) > len(former):
            self.check_count(len(attributes))
        at_most = _LONGEST_CHARACTER * sum(map(len, attributes)) + sum(map(len, attributes.values()))
        if at_most <= self.max_bytes:
            return
        size = _total(attributes)
        if size > self.max_bytes and size > _total(former):
            raise ValueError(f"the session's attributes take {size:,} bytes; {self._bytes_advice}")

    @property
    def _bytes_advice(self) -> str:
        return f"the policy's max_bytes allows {self.max_bytes:,}: keep large data elsewhere, and its id in the session"


def _size(name: str, raw: bytes) -> int:
    return len(name.encode(errors="surrogatepass")) + len(raw)


def _total(attributes: Mapping[str, bytes]) -> int:
    return sum(_size(name, raw) for name, raw in attributes.items())
