"""The targets of `make fuzz`, called with their seeds and with some that were changed a little; without atheris."""

import random
import subprocess
import sys
import tracemalloc

import pytest
import zstandard

from coatcheck import RecordCorrupted
from coatcheck.model.record import LARGEST_PAYLOAD
from fuzz.targets import TARGETS
from fuzz.values import HANDLE, RECORDS, seal_body

CHANGED = 1000


@pytest.mark.requirement("R55", "R37")
@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name):
    """What the fuzzer begins with, and what it once found, breaks no promise."""
    for seed in TARGETS[name].seeds():
        TARGETS[name].check(seed)


@pytest.mark.requirement("R55", "R37")
@pytest.mark.parametrize("name", TARGETS)
def test_changed_seeds(name):
    """Nor do seeds of which a few bytes were changed, taken away or doubled; the same ones in every run."""
    chance, target = random.Random(name), TARGETS[name]  # noqa: S311  the same changes in every run
    seeds = target.seeds()
    for _ in range(CHANGED):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data) + 1)
            data[at : at + chance.randint(0, 2)] = chance.choice(
                (b"", chance.randbytes(1), bytes(data[at : at + 8]) * 2)
            )
        target.check(bytes(data))


@pytest.mark.parametrize("name", ["record", "activity", "dictionary"])
def test_seeds_are_not_nearly_genuine(name):
    """No byte behind a seed, or in the place of its last one, makes of it what was really sealed."""
    target = TARGETS[name]
    for seed in target.seeds()[-16:]:
        for byte in range(256):
            target.check(seed + bytes((byte,)))
            target.check(seed[:-1] + bytes((byte,)))


@pytest.mark.requirement("R56")
@pytest.mark.parametrize("says_its_size", [True, False])
def test_decompression_bomb(says_its_size):
    """A small record that would unpack to 1 GiB is refused, and takes no more memory than the largest payload does."""
    writer = zstandard.ZstdCompressor(write_content_size=says_its_size).compressobj(size=2**30 if says_its_size else -1)
    bomb = b"".join([writer.compress(bytes(2**24)) for _ in range(64)]) + writer.flush()
    record = seal_body(bomb, compressed=True)
    assert len(record) < 100_000
    tracemalloc.start()
    with pytest.raises(RecordCorrupted):
        RECORDS.open(HANDLE, record)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 2 * LARGEST_PAYLOAD


def test_repeat(tmp_path):
    """A target is called again with an input that was saved by one command."""
    saved = tmp_path / "saved"
    saved.write_bytes(b"x")
    command = [sys.executable, "-m", "fuzz", "--repeat", saved, "ticket"]

    assert subprocess.run(command, check=False).returncode == 0
