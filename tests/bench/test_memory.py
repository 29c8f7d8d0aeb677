"""The sessions that memory is measured with."""

import redis

from bench.fill import Filler
from bench.memory import MODELS
from bench.shoppers import plain_json, shopper


def test_no_two_are_alike():
    """Sessions differ from one to the next, are the same in each run, and about as large as the load's."""
    sessions = [plain_json(shopper(number)) for number in range(MODELS)]

    assert len(set(sessions)) == MODELS
    assert sessions[7] == plain_json(shopper(7))
    assert 330 < sum(map(len, sessions)) / MODELS < 350


def test_a_dictionary_is_trained_and_used(start_topology):
    """Training leaves nothing but the dictionary, and what is filled in afterwards is compressed with it."""
    with redis.Redis.from_url(start_topology("single", appendfsync=None).url, protocol=2) as client:
        filler = Filler([client])
        training = filler.train(300, shopper)

        assert {key.partition(b"}")[2] for key in client.scan_iter()} == {
            b":d",
            f":d:{training.dictionary.id:08x}".encode(),
        }
        filler.copies(512, bound=True, models=8, content=shopper)
        sizes = {client.strlen(key) for key in client.scan_iter(match="cc:{*}:s:*", count=1000)}
        assert len(sizes) > 1
        assert max(sizes) < 260
