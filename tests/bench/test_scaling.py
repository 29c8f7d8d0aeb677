"""The model of docs/scaling.md: what it says of the partitions, and a small check on a real cluster."""

from pathlib import Path

import pytest

from bench.fill import Filler
from bench.memory import used
from bench.scaling import VALKEY, Load, check, largest_shard, primaries, tables
from bench.shards import partitions_of_each
from coatcheck.model.partition import PARTITIONS

DOCUMENT = Path(__file__).parents[2] / "docs" / "scaling.md"


@pytest.mark.parametrize("shards", [*range(1, 101), 128, 200, 255, 256])
def test_every_shard_has_its_share(shards):
    """With up to 256 shards each has as many partitions as any other, or one more."""
    held = partitions_of_each(shards)

    assert sum(held) == PARTITIONS
    assert max(held) - min(held) <= 1
    assert min(held) == PARTITIONS // shards


def test_more_shards_than_partitions():
    """Beyond 256 shards some have no partition, and none has less work than one partition makes."""
    assert sorted(set(partitions_of_each(300))) == [0, 1]
    assert largest_shard(10**9, 300, VALKEY, Load()).sessions == 10**9 / 256


def test_copies_take_what_sessions_take(start_topology):
    """To the server, copies of a session are what sessions made through the library are, within 3 %."""
    sizes = []
    with start_topology("single", appendfsync=None).client("primary") as client:
        for is_real in (False, True, False):  # the first one warms the server up
            client.flushall()
            filler = Filler([client])
            empty = used(client)
            if is_real:
                filler.bound(f"user-{number}" for number in range(1000))
            else:
                filler.copies(1000, bound=True)
            sizes.append(used(client) - empty)

    assert sizes[2] == pytest.approx(sizes[1], rel=0.03)


def test_prediction_holds_on_a_cluster(start_topology):
    """On a real cluster of three shards memory and spread are as predicted, within what the model allows."""
    servers = primaries(start_topology("cluster", appendfsync=None))

    compared = check(servers, 6000, VALKEY)

    for server in servers:
        server.close()
    assert [one for one in compared if not one.is_close] == []
    assert [one.partitions for one in compared] == [86, 85, 85]
    assert sum(one.found_sessions for one in compared) == 6000


def test_the_document_shows_what_the_program_computes():
    """The computed tables of docs/scaling.md are those of the program."""
    shown = DOCUMENT.read_text().splitlines()

    assert [line for line in tables() if line not in shown] == []
