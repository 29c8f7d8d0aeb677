"""The names of keys: as they are documented, in one slot for each partition, never ambiguous."""

import binascii

import pytest

from coatcheck import ConfigurationError
from coatcheck.engine.keys import Keys
from coatcheck.model.keyring import Place
from coatcheck.model.ticket import Handle

HANDLE = Handle(0xA7, bytes(range(12)))


def slot(name):
    """Give the Cluster slot of a key's name, as the specification says."""
    tag = name[name.index("{") + 1 : name.index("}")]
    return binascii.crc_hqx(tag.encode(), 0) % 16384


def test_names():
    """Names are what the documentation says: prefix, tag, kind and handle or digest."""
    keys = Keys("cc")
    tag = keys.expiry(0xA7)[4:-3]

    assert keys.record(HANDLE) == f"cc:{{{tag}}}:s:AAECAwQFBgcICQoL"
    assert keys.stem(0xA7) == f"cc:{{{tag}}}:s:"
    assert keys.subject(Place(0xA7, "D" * 16)) == f"cc:{{{tag}}}:u:{'D' * 16}"
    assert keys.expiry(0xA7) == f"cc:{{{tag}}}:x"


@pytest.mark.requirement("R40")
@pytest.mark.parametrize("prefix", ["cc", "shop:eu-1/x_y.z", "x" * 64])
def test_one_slot_for_a_partition(prefix):
    """All keys of a partition share its slot, 64 apart from the next partition's, whatever the prefix."""
    keys = Keys(prefix)
    for partition in range(256):
        handle, place = Handle.new(partition), Place(partition, "d" * 16)
        names = (keys.record(handle), keys.stem(partition), keys.subject(place), keys.expiry(partition))
        assert {slot(name) for name in names} == {64 * partition}


def test_names_are_unambiguous():
    """No record can be named as an index, nor as a record of another handle or prefix."""
    names = [
        name
        for prefix in ("a", "a:b")
        for partition in (0, 1)
        for name in (
            Keys(prefix).record(Handle(partition, b"x" * 12)),
            Keys(prefix).record(Handle(partition, b"u" * 12)),
            Keys(prefix).subject(Place(partition, "eHh4eHh4eHh4eHh4")),
            Keys(prefix).expiry(partition),
        )
    ]

    assert len(set(names)) == len(names)


@pytest.mark.parametrize("prefix", ["", "a b", "a{b", "a}b", "a*", "a\n", "ä", "x" * 65])
def test_prefix_that_could_be_mistaken(prefix):
    """A prefix with a brace (another slot), a blank, or too long is refused."""
    with pytest.raises(ConfigurationError) as refused:
        Keys(prefix)

    assert str(refused.value) == (f"a prefix is 1 to 64 of the characters A-Z a-z 0-9 _ . : / -, not {prefix!r}")
