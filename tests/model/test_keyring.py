"""The keyring: what is derived from a key, in which order keys serve, and that none of them shows."""

import hmac
from base64 import urlsafe_b64encode

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import ConfigurationError, Keyring, new_key
from coatcheck.model.keyring import Key, binding, expand
from coatcheck.model.ticket import Handle

MASTER = bytes(range(32))
HANDLE = Handle(0xA7, b"h" * 12)

masters = st.binary(min_size=32, max_size=32)


@given(master=masters, info=st.binary(max_size=100))
def test_expand_is_hkdf_expand(master, info):
    """`expand` agrees with the HKDF-Expand of another implementation."""
    assert expand(master, info) == HKDFExpand(SHA256(), 32, info).derive(master)


@given(secret=st.binary(min_size=1, max_size=100))
def test_derived_key_is_hkdf(secret):
    """A record key of a derived key is what HKDF with the documented salt and info gives from the secret."""
    (key,) = Keyring.derive([secret]).keys
    info = b"coatcheck record 1" + binding("cc", HANDLE)

    assert key.record_key("cc", HANDLE) == HKDF(SHA256(), 32, b"coatcheck derived key 1", info).derive(secret)


def test_new_keys_are_parsed():
    """A new key is `cck_` and 43 characters, differs from the last, and a ring reads it."""
    first, second = new_key(), new_key()

    assert first != second
    assert len(first) == 47
    assert first.startswith("cck_")
    assert len(Keyring.parse([first, second]).keys) == 2


def test_text_and_list_are_the_same_ring():
    """Keys come with commas between or as a list, with white space around and empty words ignored, in order."""
    first, second = new_key(), new_key()
    expected = Keyring.parse([first, second]).keys

    assert Keyring.parse(f"{first},{second}").keys == expected
    assert Keyring.parse(f" {first} ,\n{second},, ").keys == expected
    assert Keyring.parse(f"{second},{first}").keys == expected[::-1]


def test_a_key_given_twice_counts_once():
    """A ring holds a key once, at its first place."""
    first, second = new_key(), new_key()

    assert Keyring.parse([first, second, first]).keys == Keyring.parse([first, second]).keys


@pytest.mark.parametrize("text", ["", " ", ",", [], ["", " "]])
def test_empty_ring(text):
    """A ring without a key is refused."""
    with pytest.raises(ConfigurationError, match=r"^a keyring needs at least one key$"):
        Keyring.parse(text)


@pytest.mark.parametrize(
    "text", ["cck_", "cck_" + "A" * 42, "cck_" + "A" * 44, "cck_" + "A" * 42 + "+", "A" * 47, "cck_" + "é" * 43]
)
def test_malformed_key(text):
    """What is no key is refused with a text that says how to make one, and that does not repeat what was given."""
    with pytest.raises(ConfigurationError) as caught:
        Keyring.parse(text)

    assert str(caught.value) == (
        "a sealing key is 'cck_' and 43 characters; make one with: "
        "python -c 'import coatcheck; print(coatcheck.new_key())'"
    )


def test_derive_keeps_the_order():
    """Derived keys stand in the order of their secrets; str and bytes of the same text are the same."""
    ring = Keyring.derive(["new", b"old"])

    assert ring.keys == Keyring.derive([b"new", "old"]).keys
    assert ring.keys[0] == Keyring.derive(["new"]).keys[0]
    assert ring.keys[0] != ring.keys[1]


@pytest.mark.parametrize("secrets", [[""], [b""], ["good", ""]])
def test_derive_from_nothing(secrets):
    """A key cannot be derived from an empty secret."""
    with pytest.raises(ConfigurationError, match=r"^a sealing key cannot be derived from an empty secret$"):
        Keyring.derive(secrets)


@pytest.mark.parametrize("secret", ["a long and random secret", b"a long and random secret"])
def test_derive_from_a_bare_string(secret):
    """One secret outside a list is one secret, never a guessable key for each of its characters."""
    assert Keyring.derive(secret).keys == Keyring.derive([secret]).keys


def test_keys_never_show():
    """Repr and str of a key and of a ring show the keys' ids and nothing that opens a record."""
    text = "cck_" + urlsafe_b64encode(MASTER).rstrip(b"=").decode()
    ring = Keyring.parse(text)
    (key,) = ring.keys
    hidden = [MASTER, expand(MASTER, b"coatcheck subject 1"), key.record_key("cc", HANDLE)]

    for shown in (repr(ring), str(ring), repr(key), str(key), f"{[key]}"):
        assert text[4:] not in shown
        for secret in hidden:
            assert secret.hex() not in shown
            assert repr(secret)[2:-1] not in shown
    assert repr(ring) == f"Keyring({key.key_id.hex()})"


def test_record_keys_differ():
    """Another master, prefix, partition or handle gives another record key; a longer prefix cannot imitate a handle."""
    other = Handle(0xA7, b"i" * 12)
    keys = {
        Key(MASTER).record_key("cc", HANDLE),
        Key(MASTER[::-1]).record_key("cc", HANDLE),
        Key(MASTER).record_key("cd", HANDLE),
        Key(MASTER).record_key("c", HANDLE),
        Key(MASTER).record_key("cc", other),
        Key(MASTER).record_key("cc", Handle(0xA6, HANDLE.value)),
    }

    assert len(keys) == 6
    assert {len(key) for key in keys} == {32}


def test_keys_with_the_same_id_are_all_given():
    """Two keys may carry the same two-byte id by chance: the ring gives both, in their order."""
    first, second = Key(MASTER), Key(MASTER[::-1])
    object.__setattr__(second, "key_id", first.key_id)

    ring = Keyring([first, second])

    assert ring.with_id(first.key_id) == (first, second)
    assert ring.with_id(bytes(x ^ 0xFF for x in first.key_id)) == ()


@given(subject=st.text(min_size=1), prefix=st.sampled_from(["cc", "c", "shop/cc"]))
def test_places_follow_the_keyed_hash(subject, prefix):
    """A subject's place is the HMAC of prefix, a zero byte and the subject: partition and 16 characters."""
    ring = Keyring([Key(MASTER), Key(MASTER[::-1])])

    places = ring.places(prefix, subject)

    for place, master in zip(places, [MASTER, MASTER[::-1]], strict=True):
        digest = hmac.digest(expand(master, b"coatcheck subject 1"), f"{prefix}\0{subject}".encode(), "sha256")
        assert place.partition == digest[0]
        assert place.digest == urlsafe_b64encode(digest[1:13]).decode()
        assert len(place.digest) == 16
    assert ring.places(prefix, subject) == places


def test_subjects_spread_over_the_partitions():
    """A few thousand subjects reach every partition."""
    ring = Keyring([Key(MASTER)])

    assert {ring.places("cc", f"user {number}")[0].partition for number in range(4000)} == set(range(256))
