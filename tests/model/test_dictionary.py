"""Dictionaries: records that are compressed with one open to the same, with that one and no other."""

import hashlib
import json
from pathlib import Path
from threading import Thread

import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from coatcheck import Keyring, RecordCorrupted, new_key
from coatcheck.engine.keys import Keys
from coatcheck.model import dictionary as dictionary_module
from coatcheck.model.codec import encode
from coatcheck.model.compression import LARGEST_PAYLOAD, Dictionary
from coatcheck.model.dictionary import SealedDictionaries
from coatcheck.model.header import dictionary_of
from coatcheck.model.keyring import binding
from coatcheck.model.payload import NOT_UNDERSTOOD
from coatcheck.model.record import Header, Payload, Records
from tests.damage import flipped
from tests.model import plain_reader
from tests.model.make_vectors import train_dictionary
from tests.model.test_record import HANDLE, HEADER, KEY, ROTATED, headers
from tests.model.test_vectors import each, handle_of, header_of, payload_of, place_of
from tests.model.values import attribute_names, values

VECTORS = json.loads((Path(__file__).parents[2] / "docs" / "vectors" / "dictionaries.json").read_text())
CONTENT = bytes.fromhex(VECTORS["dictionary"]["content"])
DICTIONARY = Dictionary(CONTENT)
OTHER = Dictionary(CONTENT[:4] + (0x20000).to_bytes(4, "little") + CONTENT[8:])
SESSION = Payload("ada", {"cart": encode(["a coat", "a hat"]), "note": encode("an umbrella; a scarf; book; " * 3)})
FOREVER = 2**48


def records(*dictionaries, use=None, until=FOREVER, keyring=None):
    """Make records that know *dictionaries*, and seal with the one that is to be used."""
    made = Records(keyring or Keyring([KEY]), "cc")
    for dictionary in dictionaries:
        made.learn(dictionary)
    made.use(use, until)
    return made


@given(
    header=headers,
    attributes=st.dictionaries(attribute_names, values, max_size=4),
    filler=st.binary(max_size=400),
    flip=st.integers(0, 8 * (len(CONTENT) - 8) - 1),
)
@settings(max_examples=200)
def test_round_trip(header, attributes, filler, flip):
    """Any session, sealed with any dictionary, opens to what it was made of."""
    changed = bytearray(CONTENT)
    changed[8 + flip // 8] ^= 1 << flip % 8
    try:
        dictionary = Dictionary(bytes(changed))
    except ValueError:
        dictionary = DICTIONARY
    payload = Payload("ada", {name: encode(value) for name, value in attributes.items()} | {"f": encode(filler)})
    made = records(use=dictionary)

    record = made.seal(HANDLE, header, payload)

    assert made.open(HANDLE, record) == (header, payload)
    assert dictionary_of(record) in {0, dictionary.id}


@pytest.mark.parametrize("header", [HEADER, ROTATED, replace(HEADER, device_class=b"abcd")])
def test_shorter(header):
    """A session that resembles what the dictionary was trained on gets much shorter by it."""
    plain, short = records().seal(HANDLE, header, SESSION), records(use=DICTIONARY).seal(HANDLE, header, SESSION)

    assert len(short) < 0.8 * len(plain)
    assert dictionary_of(short) == DICTIONARY.id
    assert dictionary_of(plain) == 0


def test_only_where_it_pays():
    """What a dictionary does not make shorter is sealed without one."""
    noise = Payload(None, {"a": encode(hashlib.shake_256(b"noise").digest(300))})

    assert records(use=DICTIONARY).seal(HANDLE, HEADER, noise)[1] & 0b10001 == 0


def test_record_that_outlives_the_dictionary():
    """A record that ends later than the dictionary is kept for is sealed without one."""
    until = HEADER.absolute_deadline
    made = records(use=DICTIONARY, until=until)

    assert dictionary_of(made.seal(HANDLE, HEADER, SESSION)) == DICTIONARY.id
    longer = replace(HEADER, absolute_deadline=until + 1)
    assert dictionary_of(made.seal(HANDLE, longer, SESSION)) == 0


@pytest.mark.parametrize("known", [(), (OTHER,)], ids=["none", "another"])
def test_unknown_dictionary(known):
    """Without the dictionary that a record names it is refused; it says which, and what to do. It opens later."""
    made = records(*known)
    record = records(use=DICTIONARY).seal(HANDLE, HEADER, SESSION)

    with pytest.raises(RecordCorrupted) as caught:
        made.open(HANDLE, record)

    assert made.lacks(record) == DICTIONARY.id
    assert str(caught.value) == (
        f"session {HANDLE} was compressed with dictionary {DICTIONARY.id:08x}, which the store does not have, or no "
        "key of the ring opens: it can be read when that key of the store is restored"
    )
    made.learn(DICTIONARY)
    assert made.lacks(record) == 0
    assert made.open(HANDLE, record) == (HEADER, SESSION)


def test_dictionaries_take_turns():
    """What was sealed with a former dictionary, or without, still opens when another one is in use."""
    made = records()
    sealed = [made.seal(HANDLE, HEADER, SESSION)]
    for dictionary in (DICTIONARY, OTHER):
        made.use(dictionary, FOREVER)
        sealed.append(made.seal(HANDLE, HEADER, SESSION))
    made.use(None)
    sealed.append(made.seal(HANDLE, HEADER, SESSION))

    assert [dictionary_of(record) for record in sealed] == [0, DICTIONARY.id, OTHER.id, 0]
    assert [made.open(HANDLE, record) for record in sealed] == 4 * [(HEADER, SESSION)]


@pytest.mark.requirement("R35")
def test_naming_another_dictionary_is_refused():
    """A record whose header was made to name another dictionary does not open."""
    record = records(use=DICTIONARY).seal(HANDLE, HEADER, SESSION)
    changed = record[:64] + OTHER.id.to_bytes(4) + record[68:]

    with pytest.raises(RecordCorrupted, match="was altered"):
        records(DICTIONARY, OTHER).open(HANDLE, changed)


@pytest.mark.requirement("R35")
def test_every_bit_flip_and_truncation_is_refused():
    """No bit of such a record can change, and it cannot be cut short anywhere."""
    made = records(use=DICTIONARY)
    record = made.seal(HANDLE, ROTATED, SESSION)
    for changed in flipped(record):
        with pytest.raises(RecordCorrupted):
            made.open(HANDLE, changed)
    for length in range(len(record)):
        with pytest.raises(RecordCorrupted):
            made.open(HANDLE, record[:length])


def test_a_dictionary_is_resealed_by_name():
    """Resealing with another key leaves the payload compressed as it was, and needs no dictionary."""
    new = Keyring([Keyring.parse(new_key()).keys[0], KEY])
    record = records(use=DICTIONARY).seal(HANDLE, ROTATED, SESSION)

    fresh = records(keyring=new).reseal(HANDLE, record)

    assert dictionary_of(fresh) == DICTIONARY.id
    assert records(DICTIONARY, keyring=new).open(HANDLE, fresh) == (ROTATED, SESSION)


def sealed(frame, dictionary=DICTIONARY):
    """Seal *frame* as a payload that is compressed with *dictionary*, as any holder of the key could."""
    head = bytearray(records(use=dictionary).seal(HANDLE, HEADER, SESSION)[:68])
    nonce, name = b"nonce 123456", binding("cc", HANDLE)
    return bytes(head) + nonce + AESGCM(KEY.key_of_record(name)).encrypt(nonce, frame, bytes(head) + name)


@pytest.mark.parametrize("size_is_written", [True, False])
def test_decompression_bomb(size_is_written):
    """With a dictionary, too, what decompresses to more than 16 MiB is refused."""
    compressor = zstandard.ZstdCompressor(
        dict_data=zstandard.ZstdCompressionDict(CONTENT), write_dict_id=False, write_content_size=size_is_written
    )
    bomb = sealed(compressor.compress(bytes(LARGEST_PAYLOAD + 1))[4:])

    text = "a record's payload claims to be larger than any that is written" if size_is_written else NOT_UNDERSTOOD
    with pytest.raises(RecordCorrupted, match=f"^{text}$"):
        records(DICTIONARY).open(HANDLE, bomb)


@given(frame=st.binary(max_size=80))
@settings(max_examples=1000)
def test_arbitrary_frame(frame):
    """Whatever a holder of the key seals as a frame, it opens or raises RecordCorrupted."""
    try:
        opened = records(DICTIONARY).open(HANDLE, sealed(frame))
    except RecordCorrupted:
        return
    assert isinstance(opened[0], Header)


@given(record=st.binary(max_size=200))
@settings(max_examples=500)
def test_dictionary_of_arbitrary_bytes(record):
    """To ask which dictionary a record names never fails."""
    assert dictionary_of(record) >= 0
    assert dictionary_of(b"\x01\x10" + record) >= 0


def test_threads():
    """One dictionary, and the kept ciphers, serve many threads at once."""
    made, failures = records(use=DICTIONARY), []

    def work(number):
        payload = replace(SESSION, subject=f"user {number}")
        opened = [made.open(HANDLE, made.seal(HANDLE, HEADER, payload)) for _ in range(300)]
        failures.extend(found for found in opened if found != (HEADER, payload))

    threads = [Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


@pytest.mark.parametrize("content", [b"", b"no dictionary", CONTENT[:40]])
def test_what_is_no_dictionary(content):
    """Bytes that Zstandard does not take for a trained dictionary are refused."""
    with pytest.raises(ValueError, match=r"^not a trained Zstandard dictionary: "):
        Dictionary(content)


@pytest.mark.requirement("R60")
def test_repr_shows_no_content():
    """The repr of a dictionary is its id."""
    assert repr(DICTIONARY) == "Dictionary(13917e4b)"


# Vectors, and dictionaries as they are stored


def test_stored_dictionary(monkeypatch):
    """Both implementations name a dictionary, derive its key, open it, and seal the same."""
    vector = VECTORS["dictionary"]
    number, nonce, raw = vector["id"], bytes.fromhex(vector["nonce"]), bytes.fromhex(vector["sealed"])
    monkeypatch.setattr(dictionary_module, "urandom", lambda _: nonce)
    where, keyring, names = (vector["key"], "cc", number), Keyring.parse(vector["key"]), Keys("cc")
    stored = SealedDictionaries(keyring, "cc")

    assert (names.dictionaries, names.dictionary(int(number, 16))) == (vector["list"], vector["key_name"])
    assert keyring.keys[0].dictionary_key("cc", int(number, 16)).hex() == vector["dictionary_key"]
    assert stored.open(int(number, 16), raw).content == CONTENT
    assert stored.seal(DICTIONARY) == raw
    assert plain_reader.dictionary_names("cc", "06S", number) == (vector["list"], vector["key_name"])
    assert plain_reader.dictionary_key(*where).hex() == vector["dictionary_key"]
    assert plain_reader.open_dictionary(raw, *where) == CONTENT
    assert plain_reader.seal_dictionary(CONTENT, nonce, *where) == raw


def test_the_dictionary_of_the_vectors():
    """It is one that was trained, and names itself."""
    assert f"{DICTIONARY.id:08x}" == VECTORS["dictionary"]["id"]
    assert zstandard.ZstdCompressionDict(train_dictionary()).dict_id() == DICTIONARY.id


@each(VECTORS["records"], "what")
def test_record_with_a_dictionary(vector):
    """Both implementations open a record of the vectors, and the second one seals the same from its parts."""
    record, parts = bytes.fromhex(vector["record"]), (vector["header"], vector["system"], vector["attributes"])
    header = dict(vector["header"])
    del header["dictionary"]

    expected = header_of(vector | {"header": header}), payload_of(vector)
    assert records(DICTIONARY, keyring=Keyring.parse(vector["key"])).open(handle_of(vector), record) == expected
    assert plain_reader.open_record(record, *place_of(vector), dictionary=CONTENT) == parts
    payload, nonce = bytes.fromhex(vector["payload"]), bytes.fromhex(vector["nonce"])
    assert plain_reader.seal_record(vector["header"], payload, nonce, *place_of(vector)) == record


@pytest.mark.requirement("R35")
@each(VECTORS["refused_records"], "why")
def test_bad_record_with_a_dictionary(vector):
    """Both implementations refuse such a record where it was altered."""
    record = bytes.fromhex(vector["record"])

    with pytest.raises(RecordCorrupted):
        records(DICTIONARY, keyring=Keyring.parse(vector["key"])).open(handle_of(vector), record)
    with pytest.raises(plain_reader.Refused):
        plain_reader.open_record(record, *place_of(vector), dictionary=CONTENT)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({0: 17}, "a record names no dictionary, or says twice how it is compressed"),
        ({4: 0}, "a record names no dictionary, or says twice how it is compressed"),
    ],
    ids=["two flags", "dictionary 0"],
)
def test_contradictions(changed, text):
    """A header that says two things about compression is refused before anything is opened."""
    record = bytearray(records(use=DICTIONARY).seal(HANDLE, HEADER, SESSION))
    if 0 in changed:
        record[1] |= changed[0]
    else:
        record[64:68] = bytes(4)

    with pytest.raises(RecordCorrupted, match=f"^{text}$"):
        records(DICTIONARY).open(HANDLE, bytes(record))


@pytest.mark.requirement("R35")
@each(VECTORS["refused_dictionaries"], "why")
def test_bad_dictionary(vector):
    """Both implementations refuse a dictionary that was altered or moved: it would decide what records open to."""
    raw = bytes.fromhex(vector["sealed"])

    with pytest.raises(RecordCorrupted, match=r"^dictionary [0-9a-f]{8} (was altered, or moved|has a format unknown)"):
        SealedDictionaries(Keyring.parse(vector["key"]), vector["prefix"]).open(int(vector["id"], 16), raw)
    with pytest.raises(plain_reader.Refused):
        plain_reader.open_dictionary(raw, vector["key"], vector["prefix"], vector["id"])


@pytest.mark.requirement("R36")
def test_former_keys_open_dictionaries():
    """A dictionary that a former key has sealed opens, and is told from one that the first key has."""
    old, new = Keyring([KEY]), Keyring([Keyring.parse(new_key()).keys[0], KEY])
    raw = SealedDictionaries(old, "cc").seal(DICTIONARY)

    turned = SealedDictionaries(new, "cc")
    assert turned.open(DICTIONARY.id, raw).content == CONTENT
    assert not turned.is_current(raw)
    assert turned.is_current(turned.seal(DICTIONARY))
