"""How payloads are compressed: with Zstandard (RFC 8878), where that pays, without a dictionary or with a trained one.

docs/decisions/0021-dictionaries.md has the measurements that the levels and limits here come from.
"""

import threading
from typing import Final

import zstandard

from coatcheck.model.errors import RecordCorrupted
from coatcheck.model.payload import NOT_UNDERSTOOD

LARGEST_PAYLOAD: Final = 16 * 1024 * 1024
"""Bytes of a payload before compression; what claims to be larger is not decompressed."""

DICTIONARY_LEVEL: Final = 4
_SMALL: Final = 128  # fewer bytes are not worth a try without a dictionary
_MEDIUM: Final = 512  # below, the level without entropy coding costs a third of the time and saves nearly as much
_LEVEL_OF_SMALL: Final = -1
_LEVEL: Final = 1
_MAGIC: Final = b"\x28\xb5\x2f\xfd"  # what every frame begins with; left out where there is a dictionary


class _Contexts(threading.local):
    """The compressors and the decompressor of a thread: they must not be shared, and cost more to make than to use."""

    def __init__(self) -> None:
        self.small = zstandard.ZstdCompressor(level=_LEVEL_OF_SMALL, write_checksum=False)
        self.large = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False)
        self.decompressor = zstandard.ZstdDecompressor()


_contexts: Final = _Contexts()


def compress(body: bytes) -> bytes | None:
    """Give a frame that saves at least a tenth of *body*; None where there is none."""
    size = len(body)
    if size < _SMALL:
        return None
    frame = (_contexts.small if size < _MEDIUM else _contexts.large).compress(body)
    return frame if _pays(len(frame), size) else None


def decompress(frame: bytes) -> bytes:
    """Give what `compress` was given. Raises RecordCorrupted."""
    return _decompress(_contexts.decompressor, frame)


class Dictionary:
    """A trained Zstandard dictionary, by which small payloads that resemble each other get much shorter."""

    __slots__ = ("_contexts", "content", "id")

    def __init__(self, content: bytes) -> None:
        """Use *content*, in the format of Zstandard. Raises ValueError for what is no trained dictionary."""
        try:
            trained = zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_FULLDICT)
            trained.precompute_compress(level=DICTIONARY_LEVEL)
        except zstandard.ZstdError as error:
            raise ValueError(f"not a trained Zstandard dictionary: {error}") from None
        self.content = content
        self.id: int = trained.dict_id()
        self._contexts = _DictionaryContexts(trained)

    def compress(self, body: bytes) -> bytes | None:
        """Give a frame, without its magic number, that saves at least a tenth of *body*; None where there is none."""
        frame = self._contexts.compressor.compress(body)
        return frame[len(_MAGIC) :] if _pays(len(frame), len(body)) else None

    def decompress(self, frame: bytes) -> bytes:
        """Give what `compress` was given. Raises RecordCorrupted."""
        return _decompress(self._contexts.decompressor, _MAGIC + frame)

    def __repr__(self) -> str:
        """Show its id; the content holds pieces of sessions."""
        return f"Dictionary({self.id:08x})"


class _DictionaryContexts(threading.local):
    """The compressor and the decompressor of a thread for one dictionary."""

    def __init__(self, trained: zstandard.ZstdCompressionDict) -> None:
        self.compressor = zstandard.ZstdCompressor(
            level=DICTIONARY_LEVEL, dict_data=trained, write_checksum=False, write_dict_id=False
        )
        self.decompressor = zstandard.ZstdDecompressor(dict_data=trained)


def _pays(compressed: int, plain: int) -> bool:
    return 10 * compressed <= 9 * plain


def _decompress(decompressor: zstandard.ZstdDecompressor, frame: bytes) -> bytes:
    try:
        if zstandard.frame_content_size(frame) > LARGEST_PAYLOAD:
            raise RecordCorrupted("a record's payload claims to be larger than any that is written")
        return decompressor.decompress(frame, max_output_size=LARGEST_PAYLOAD)
    except zstandard.ZstdError:
        raise RecordCorrupted(NOT_UNDERSTOOD) from None
