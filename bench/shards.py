"""How the 256 partitions lie on the shards of a cluster."""

from typing import Final

from coatcheck.model.partition import PARTITIONS, SLOT_DISTANCE

SLOTS: Final = 16_384


def shard_of(partition: int, shards: int) -> int:
    """Give the shard that has *partition*, where *shards* have equal, contiguous parts of the slots."""
    slot = SLOT_DISTANCE * partition
    return next(shard for shard in range(shards) if slot < (shard + 1) * SLOTS // shards)


def partitions_of_each(shards: int) -> list[int]:
    """Give how many partitions each shard has."""
    found = [0] * shards
    for partition in range(PARTITIONS):
        found[shard_of(partition, shards)] += 1
    return found
