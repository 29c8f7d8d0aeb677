"""Fuzz targets: dictionaries, and records that are compressed with one. Only who has the key reaches what is behind."""

from collections.abc import Iterator
from contextlib import suppress
from functools import cache

import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coatcheck.model.compression import Dictionary
from coatcheck.model.dictionary import SealedDictionaries
from coatcheck.model.errors import RecordCorrupted
from coatcheck.model.header import BY_DICTIONARY, DICTIONARY_ID_BYTES
from coatcheck.model.keyring import Keyring, binding, dictionary_binding
from coatcheck.model.record import LARGEST_PAYLOAD, Payload, Records, fingerprint
from fuzz.values import HANDLE, KEY, NONCE, PREFIX, altered, first_header, payload_bodies, shown

_SEALED = SealedDictionaries(Keyring([KEY]), PREFIX)
_UNLEARNT_ID = 7


@cache
def _trained() -> Dictionary:
    samples = [
        b'{"user": %d, "name": "Ada %d", "cart": ["book", "pen"], "theme": "dark"}' % (n, n) for n in range(2000)
    ]
    return Dictionary(zstandard.train_dictionary(2048, samples).as_bytes())


@cache
def _records() -> Records:
    records = Records(Keyring([KEY]), PREFIX)
    records.learn(_trained())
    return records


def check_dictionary(data: bytes) -> None:
    """What stands under a dictionary's key was sealed as that dictionary, or raises RecordCorrupted.

    What was sealed and is no dictionary does too; what is one can be used.
    """
    with suppress(RecordCorrupted):
        _SEALED.open(_UNLEARNT_ID, data)
        raise AssertionError("a dictionary was forged")
    _SEALED.is_current(data)
    head = bytes((1,)) + KEY.key_id
    cipher = AESGCM(KEY.dictionary_key(PREFIX, _UNLEARNT_ID))
    sealed = head + NONCE + cipher.encrypt(NONCE, data, head + dictionary_binding(PREFIX, _UNLEARNT_ID))
    try:
        dictionary = _SEALED.open(_UNLEARNT_ID, sealed)
    except RecordCorrupted:
        return
    body = b"".join(payload_bodies())
    frame = dictionary.compress(body)
    assert frame is None or dictionary.decompress(frame) == body, "what was compressed comes back as something else"


def check_frame(data: bytes) -> None:
    """What was sealed as compressed with a dictionary opens to a payload, or raises RecordCorrupted.

    The first byte chooses: as it is; compressed with the dictionary first; as of a dictionary that nobody has.
    """
    choice, body = data[0] % 3 if data else 0, data[1:]
    dictionary = _trained()
    body = (dictionary.compress(body) or body) if choice == 1 else body
    record = _seal_frame(body, _UNLEARNT_ID if choice == 2 else dictionary.id)  # noqa: PLR2004  the third of them
    try:
        header, payload = _records().open(HANDLE, record)
    except RecordCorrupted:
        return
    assert choice != 2, "a dictionary was used that nobody has"  # noqa: PLR2004
    assert sum(map(len, payload.attributes.values())) <= LARGEST_PAYLOAD, "more was unpacked than is ever written"
    again = _records().open(HANDLE, _records().seal(HANDLE, header, payload))
    assert shown(*again) == shown(header, payload), "a payload that is sealed again is another one"


def _seal_frame(body: bytes, dictionary_id: int) -> bytes:
    head = bytearray(
        fingerprint(Records(Keyring([KEY]), PREFIX).seal(HANDLE, first_header(), Payload()))[: -len(NONCE)]
    )
    head[1] |= BY_DICTIONARY
    whole = bytes(head) + dictionary_id.to_bytes(DICTIONARY_ID_BYTES)
    cipher = AESGCM(KEY.record_key(PREFIX, HANDLE))
    return whole + NONCE + cipher.encrypt(NONCE, body, whole + binding(PREFIX, HANDLE))


def dictionary_seeds() -> Iterator[bytes]:
    """Give a dictionary's content, parts of it, and one that was sealed and altered."""
    content = _trained().content
    yield from (content[:length] for length in (0, 4, 8, 64, len(content) // 2, len(content)))
    sealed = _SEALED.seal(_trained())
    yield altered(sealed)
    yield sealed[:20]


def frame_seeds() -> Iterator[bytes]:
    """Give bodies of payloads under each form, and a frame of each as it is."""
    for body in payload_bodies():
        yield from (bytes((choice,)) + body for choice in range(3))
        long = body * 40
        yield b"\x00" + (_trained().compress(long) or long)
