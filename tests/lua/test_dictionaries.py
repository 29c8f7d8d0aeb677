"""The scripts of dictionaries: kept, lengthened, put out of use and deleted, and twice is once."""

import pytest

from coatcheck.engine import scripts
from coatcheck.engine.keys import Keys

LIST, ONE, OTHER = Keys("cc").dictionaries, Keys("cc").dictionary(1), Keys("cc").dictionary(2)


@pytest.fixture
def held(bench):
    """Give functions that run the scripts on dictionary 1, or on another."""

    class Held:
        @staticmethod
        def add(since, key=ONE, content=b"sealed", ttl=60_000):
            return bench.run(scripts.DICTIONARY_ADD, (LIST, key), key[-8:], content, since, ttl)

        @staticmethod
        def keep(ttl, key=ONE):
            return bench.run(scripts.DICTIONARY_KEEP, (LIST, key), ttl)

        @staticmethod
        def drop(now, settled="", key=ONE):
            return bench.run(scripts.DICTIONARY_DROP, (LIST, key), key[-8:], now, settled)

        @staticmethod
        def listed():
            return [(name.decode(), int(since)) for name, since in bench.client.zrange(LIST, 0, -1, withscores=True)]

    return Held


def test_add(bench, held):
    """A dictionary is kept and listed, both with a TTL; a second time nothing changes, but it may live longer."""
    assert held.add(1000) == 1
    assert held.add(2000, content=b"sealed anew", ttl=90_000) == 1

    assert bench.client.get(ONE) == b"sealed"
    assert held.listed() == [("00000001", 1000)]
    for key in (LIST, ONE):
        assert 60_000 < bench.client.pttl(key) <= 90_000
    held.add(1000, ttl=10)
    assert bench.client.pttl(ONE) > 60_000


def test_keep(bench, held):
    """A dictionary's life is lengthened, never shortened; what is not there is not made."""
    held.add(1000)
    assert held.keep(90_000) == 1
    assert held.keep(10) == 1
    assert bench.client.pttl(ONE) > 60_000
    assert bench.client.pttl(LIST) > 60_000

    assert held.keep(90_000, OTHER) == 0
    assert bench.client.exists(OTHER) == 0


def test_drop_of_the_one_in_use(held):
    """The one in use is first put out of use; asked again, the script says for how long it has been."""
    held.add(1000)

    assert held.drop(5000, 100) == [1, 0]
    assert held.listed() == [("00000001", 1000), ("-", 5000)]
    assert held.drop(5099, 100) == [1, 99]
    assert held.drop(9000) == [1, 4000]
    assert held.drop(5100, 100) == [2, 100]
    assert held.listed() == []
    assert held.drop(5100, 100) == [0, 0]


def test_drop_of_a_former_one(bench, held):
    """One that another has taken the place of is out of use since then; the other stays in use."""
    held.add(1000)
    held.add(3000, OTHER)

    assert held.drop(4000, 1000) == [2, 1000]
    assert held.listed() == [("00000002", 3000)]
    assert bench.client.exists(ONE, OTHER) == 1


def test_time_that_goes_back(held):
    """A clock that was set back makes nothing of what is in use the last one again, and nothing deletable."""
    held.add(1000)

    assert held.drop(500, 100) == [1, 0]
    assert held.listed() == [("00000001", 1000), ("-", 1001)]
    assert held.drop(400, 100) == [1, 0]
