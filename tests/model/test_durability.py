"""What a policy may ask of durability, and what counts as reached."""

from datetime import timedelta

import pytest

from coatcheck import ConfigurationError, Durability, Level, Reached, SessionPolicy

WRONG = [
    (lambda: Durability(save="disk"), "save is a Level, not 'disk'"),
    (lambda: Durability(replicas=0), "at least 1, not 0"),
    (lambda: Durability(replicas=True), "at least 1, not True"),
    (lambda: Durability(timeout=0.1), "timeout is a timedelta of at least 1 ms, or None, not 0.1"),
    (lambda: Durability(timeout=timedelta(0)), "timeout is a timedelta of at least 1 ms"),
    (lambda: SessionPolicy(durability=Level.DISK), "durability is a Durability, or None"),
]


@pytest.mark.parametrize(("make", "text"), WRONG, ids=[text for _, text in WRONG])
def test_refused(make, text):
    """What cannot be meant is refused, with words that say what would be right."""
    with pytest.raises(ConfigurationError, match=text):
        make()


@pytest.mark.parametrize(
    ("wanted", "replicas", "is_on_disk", "reached", "is_short"),
    [
        (Level.REPLICAS, 2, False, Level.REPLICAS, False),
        (Level.REPLICAS, 1, False, Level.MEMORY, True),
        (Level.DISK, 0, True, Level.DISK, False),
        (Level.DISK, 2, False, Level.MEMORY, True),
        (Level.DISK_AND_REPLICAS, 2, True, Level.DISK_AND_REPLICAS, False),
        (Level.DISK_AND_REPLICAS, 1, True, Level.DISK, True),
        (Level.DISK_AND_REPLICAS, 2, False, Level.REPLICAS, True),
        (Level.MEMORY, 0, False, Level.MEMORY, False),
    ],
)
def test_reached(wanted, replicas, is_on_disk, reached, is_short):
    """Disk and replicas are judged each for itself: the one does not make up for the other. Two replicas are needed."""
    judged = Reached.judge(wanted, 2, replicas, is_on_disk=is_on_disk)

    assert (judged.level, judged.is_short) == (reached, is_short)
