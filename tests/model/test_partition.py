"""The 256 tags, against a CRC-16 of the test's own."""

from collections import Counter

from coatcheck.model.partition import PARTITIONS, SLOT_DISTANCE, TAGS

SLOTS = 16384


def crc16(data):
    """CRC-16/XMODEM bit by bit, as the Redis Cluster specification defines it."""
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1) ^ (0x1021 if value & 0x8000 else 0)
    return value & 0xFFFF


def test_the_check_value_of_the_specification():
    """The CRC-16 used here gives the specification's test value."""
    assert crc16(b"123456789") == 0x31C3


def test_tags_are_256_and_differ():
    """There is one tag for each partition, of three characters that need no quoting."""
    assert len(TAGS) == len(set(TAGS)) == PARTITIONS == 256
    assert all(len(tag) == 3 and tag.isascii() and tag.isalnum() for tag in TAGS)


def test_slots_are_64_apart():
    """The tag of partition p hashes to Cluster slot 64 * p."""
    slots = [crc16(tag.encode()) % SLOTS for tag in TAGS]

    assert slots == [SLOT_DISTANCE * partition for partition in range(256)]


def test_every_number_of_shards_gets_an_even_share():
    """Under 1 to 256 shards with contiguous slots no shard has over one partition more than another."""
    for shards in range(1, 257):
        bounds = [SLOTS * shard // shards for shard in range(shards + 1)]
        owner = [shard for shard in range(shards) for _ in range(bounds[shard], bounds[shard + 1])]
        share = Counter(owner[SLOT_DISTANCE * partition] for partition in range(256))
        counts = [share[shard] for shard in range(shards)]
        assert max(counts) - min(counts) <= 1, f"{shards} shards: {counts}"
