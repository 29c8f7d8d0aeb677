"""Whom the sentinels' answers make the primary, and for how long that is relied on, on a clock that is moved."""

import logging

import pytest
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import TimeoutError as NoAnswer

from coatcheck.runtime.address import Node
from coatcheck.runtime.batch import Batch
from coatcheck.runtime.sentinel import Sentinel, Unconfirmed
from coatcheck.runtime.sync import run

ONE, TWO, THREE = SEEDS = tuple(Node("sentinel", port) for port in (1, 2, 3))
OLD, NEW = Node("server", 1), Node("server", 2)
SILENT = NoAnswer("no answer in time")
LEASE = 3.0


class Scene:
    """Sentinels that answer as they are told, and a topology that asks them."""

    def __init__(self, monkeypatch, lease=LEASE):
        self.now = 100.0
        self.answers = {}
        self.asked = []
        self.topology = Sentinel(SEEDS, "shop", lease)
        for module in ("sentinel", "topology"):
            monkeypatch.setattr(f"coatcheck.runtime.{module}.monotonic", lambda: self.now)

    async def ask_all(self, nodes, commands, ends_at):
        """Give what each of *nodes* answers: an error, None, or a primary with an epoch or an error in its place.

        After these, flags and the node that they are said of may follow.
        """
        assert ends_at > self.now
        self.asked = list(nodes)
        batches = [Batch(node, list(commands), [0, 1], is_sentinel=True) for node in nodes]
        for batch in batches:
            answer = self.answers[batch.node]
            if isinstance(answer, Exception):
                batch.error = answer
            elif answer is None:
                batch.replies = [None, ResponseError("No such master with that name")]
            else:
                node, epoch, flags, flagged = answer if len(answer) == 4 else (*answer, b"master", answer[0])
                detail = [b"ip", flagged.host.encode(), b"port", b"%d" % flagged.port, b"flags", flags]
                detail = epoch if isinstance(epoch, Exception) else [*detail, b"config-epoch", b"%d" % epoch]
                batch.replies = [[node.host.encode(), b"%d" % node.port], detail]
        return batches

    def look(self, *answers):
        """Let the sentinels answer so; say what was raised."""
        self.answers = dict(zip(SEEDS, answers, strict=True))
        try:
            run(self.topology.refresh(self, self.now + 0.1))
        except (LostConnection, ResponseError, NoAnswer) as error:
            return error
        return None

    @property
    def state(self):
        """Who is the primary, and whether that may be relied on."""
        return self.topology.sole, self.topology.is_usable(self.now)


@pytest.fixture
def scene(monkeypatch):
    """Give the sentinels, and a topology with a lease of three seconds."""
    return Scene(monkeypatch)


def refused():
    """Make the error of redis-py for a port where nobody listens."""
    error = LostConnection("Error 111 connecting to sentinel:1. Connection refused.")
    error.__context__ = ConnectionRefusedError(111, "Connection refused")
    return error


@pytest.mark.requirement("R48")
def test_lease(scene):
    """A primary that a majority has named is relied on for the lease; it is asked for again after a third of it."""
    assert scene.look((OLD, 1), (OLD, 1), SILENT) is None

    assert scene.state == (OLD, True)
    assert scene.topology.renew_at == scene.now + LEASE / 3
    scene.now += LEASE - 0.01
    assert scene.state == (OLD, True)
    scene.now += 0.01
    assert scene.state == (OLD, False)


@pytest.mark.requirement("R48")
def test_minority(scene, caplog):
    """One sentinel of three extends no lease, were it asked ever so often: it may be cut off too. It is said once."""
    scene.look((OLD, 1), (OLD, 1), (OLD, 1))
    for _ in range(12):
        scene.now += LEASE / 12
        error = scene.look((OLD, 1), SILENT, SILENT)
        assert isinstance(error, Unconfirmed)
        assert "of 3 sentinels 1 say who is the primary, and no majority: another may have taken over" in str(error)
        assert "See that the sentinels run and can be reached from here; sentinel_lease says for how" in str(error)

    assert scene.state == (OLD, False)
    scene.look((OLD, 1), SILENT, SILENT)
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == [
        "session_primary_unconfirmed"
    ]
    assert scene.look((OLD, 1), SILENT, (OLD, 1)) is None
    assert scene.state == (OLD, True)


def test_first_answer_of_a_minority(scene):
    """A new process that one sentinel of three answers knows of a primary, and does not use it."""
    scene.look((OLD, 1), SILENT, SILENT)

    assert scene.state == (OLD, False)


@pytest.mark.parametrize("gone", [None, "refused"])
def test_sentinels_that_do_not_run(scene, caplog, gone):
    """Who does not run, or does not know the service, elects nobody: the primary is used on, and each is told once."""
    for answers in ([(OLD, 1), *[refused() if gone else None] * 2], [refused() if gone else None] * 3):
        assert scene.look((OLD, 1), (OLD, 1), (OLD, 1)) is None
        caplog.clear()
        for _ in range(5):
            scene.now += LEASE / 2
            assert scene.look(*answers) is None
            assert scene.state == (OLD, True)
        told = [record.message for record in caplog.records]
        assert told == ["session_sentinel_missing"] * (len(answers) - answers.count((OLD, 1)))


@pytest.mark.requirement("R25")
def test_first_primary_takes_nobodys_place(scene):
    """What is done before anybody was known is done once: only a successor is a reason to do it again."""
    began = scene.now
    scene.look((OLD, 1), (OLD, 1), (OLD, 1))
    assert scene.topology.changed_at < began

    scene.now += 1
    scene.look((NEW, 2), (NEW, 2), (NEW, 2))
    assert scene.topology.changed_at == scene.now


def test_unknown_service(scene):
    """A service that no sentinel knows is said to be that."""
    error = scene.look(None, None, None)

    assert "no sentinel knows a primary called 'shop': sentinel:1: knows no primary called 'shop'; " in str(error)
    assert scene.state == (None, False)


def test_newer_configuration(scene):
    """What one sentinel knows of a later failover counts, and nobody who is behind takes that back."""
    scene.look((OLD, 1), (OLD, 1), (OLD, 1))
    scene.look((OLD, 1), (NEW, 2), (OLD, 1))

    assert scene.state == (NEW, True)
    scene.now += 1
    assert isinstance(scene.look((OLD, 1), SILENT, (OLD, 1)), Unconfirmed)
    assert scene.state == (NEW, True)
    scene.now += 1
    scene.look((NEW, 2), (OLD, 1), (OLD, 1))
    assert scene.state == (NEW, True)


def test_configuration_that_was_lost(scene):
    """When nobody has confirmed the primary for a lease, what a majority says counts, older or not."""
    scene.look((NEW, 2), (NEW, 2), (NEW, 2))
    scene.now += LEASE - 0.1
    scene.look((OLD, 0), (OLD, 0), (OLD, 0))
    assert scene.state == (NEW, True)
    scene.now += 0.1
    scene.look((OLD, 0), (OLD, 0), (OLD, 0))

    assert scene.state == (OLD, True)


def test_epoch_that_must_not_be_asked(scene):
    """Where the user may not ask for the epoch, a majority decides; a tie leaves things as they are."""
    hidden = NoPermissionError("this user has no permissions to run the 'sentinel|master' command")
    scene.look((OLD, hidden), (OLD, hidden), (OLD, hidden))
    scene.look((NEW, hidden), (OLD, hidden), SILENT)
    assert scene.state == (OLD, True)
    scene.look((NEW, hidden), (NEW, hidden), (OLD, hidden))

    assert scene.state == (NEW, True)


def test_silent_sentinel_rests(scene):
    """One that gave no answer is not asked for five seconds, as long as the others are enough."""
    scene.look((OLD, 1), SILENT, (OLD, 1))
    scene.now += 1
    scene.look((OLD, 1), (OLD, 1), (OLD, 1))
    assert scene.asked == [ONE, THREE]
    scene.now += 1
    scene.look((OLD, 1), (OLD, 1), SILENT)
    scene.look((OLD, 1), (OLD, 1), (OLD, 1))
    assert scene.asked == [ONE, TWO, THREE]
    scene.look((OLD, 1), SILENT, (OLD, 1))
    scene.now += 5
    scene.look((OLD, 1), (OLD, 1), (OLD, 1))

    assert scene.asked == [ONE, THREE, TWO]


def test_wrong_password(scene):
    """Where no sentinel accepts the password, that is the reason."""
    wrong = AuthenticationError("invalid password")

    assert scene.look(SILENT, wrong, SILENT) is wrong
    assert scene.look((OLD, 1), (OLD, 1), wrong) is None


def test_without_a_lease(monkeypatch):
    """Without a lease any sentinel will do, and the primary is used until it is in doubt."""
    scene = Scene(monkeypatch, lease=0)
    assert scene.look(SILENT, SILENT, SILENT) is SILENT
    assert scene.look(SILENT, (OLD, 1), SILENT) is None
    scene.now += 1_000
    assert scene.state == (OLD, True)
    assert scene.topology.renew_at == float("inf")
    scene.topology.doubt(OLD)
    assert scene.topology.is_stale
    assert scene.look((NEW, 0), SILENT, SILENT) is None

    assert (scene.state, scene.topology.is_stale) == ((NEW, True), False)


@pytest.mark.parametrize("flags", [b"master,failover_in_progress", b"s_down,o_down,master"])
@pytest.mark.requirement("R45")
def test_about_to_be_replaced(scene, flags):
    """Where a sentinel replaces it, or has a quorum for that, it is used on, but what it denies is not confirmed."""
    scene.look((OLD, 1), (OLD, 1), (OLD, 1))
    scene.now += 1
    error = scene.look((OLD, 1, flags, OLD), (OLD, 1), (OLD, 1))

    assert isinstance(error, Unconfirmed)
    assert "the sentinels are about to replace server:1: its successor may have what it lacks" in str(error)
    assert not scene.topology.is_confirmed(scene.now)
    scene.now += LEASE - 0.01
    assert scene.state == (OLD, True)
    assert scene.look((OLD, 1), (OLD, 1), (OLD, 1)) is None
    assert scene.topology.is_confirmed(scene.now)


@pytest.mark.parametrize(
    ("flags", "flagged"),
    [(b"s_down,master", NEW), (b"master,failover_in_progress,force_failover", OLD), (b"master,disconnected", NEW)],
)
def test_not_about_to_be_replaced(scene, flags, flagged):
    """A sentinel that hears nothing of the primary by itself replaces nobody; nor is the successor to be replaced."""
    assert scene.look((NEW, 2, flags, flagged), (NEW, 2), (NEW, 2)) is None

    assert scene.topology.is_confirmed(scene.now)


def test_about_to_be_replaced_without_a_lease(monkeypatch):
    """Who wants no lease takes the primary's word for everything."""
    scene = Scene(monkeypatch, lease=0.0)

    assert scene.look((OLD, 1, b"master,o_down", OLD), (OLD, 1), (OLD, 1)) is None
    assert scene.topology.is_confirmed(scene.now)
