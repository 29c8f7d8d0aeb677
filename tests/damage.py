"""What may become of bytes on their way or in the store."""

from collections.abc import Iterator


def flipped(content: bytes) -> Iterator[bytes]:
    """Give *content* with each of its bits flipped, one at a time."""
    for bit in range(len(content) * 8):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)
