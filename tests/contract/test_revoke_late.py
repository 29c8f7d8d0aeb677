"""An end of all that is held back on its way, and arrives when it has been given up."""

from datetime import timedelta

import pytest

from coatcheck import RevocationPending
from coatcheck.engine import subjects
from coatcheck.engine.scripts import REVOKE_ALL
from faults.proxy import Proxy
from tests.waiting import wait_until

TOGETHER = 2
ENDS = {
    "revoke_all": lambda sessions, own: sessions.revoke_all("ada"),
    "revoke_others": lambda sessions, own: sessions.revoke_others(own),
}


class Line:
    """A way to a server that falls silent at some end, and counts those that get through."""

    def __init__(self, topology, way):
        self.url = f"redis://127.0.0.1:{way.port}"
        self._topology = topology
        self._way = way

    def fall_silent(self, *, after):
        """Hold back what comes once so many steps of an end have passed, and the reply to the last of those."""
        passed = 0

        def look(piece):
            nonlocal passed
            passed += REVOKE_ALL.sha.encode() in piece
            self._way.is_silent |= passed >= after
            return False

        self._way.sees = look
        self._way.is_silent = after == 0

    def deliver(self):
        """Let through what was held back, and wait until the server has carried it out."""
        before = self._scripts()
        self._way.sees = None
        self._way.is_silent = False
        wait_until(lambda: self._scripts() > before, "nothing that was held back has arrived")

    def _scripts(self):
        with self._topology.client("node1") as client:
            return client.info("commandstats")["cmdstat_evalsha"]["calls"]


@pytest.fixture
def topology(start_topology):
    """Give a server that is reached by TCP."""
    return start_topology("single")


@pytest.fixture
def line(topology):
    """Give the line to it."""
    with Proxy() as proxy:
        yield Line(topology, proxy.lay(int(topology.url.rpartition(":")[2])))


def signed_in(sessions):
    """Make a session of ada's."""
    session = sessions.create({"a": 1})
    sessions.bind(session, "ada")
    return session


@pytest.mark.requirement("R25")
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_arrives_late(open_at, topology, line, end):
    """What began after an end was asked for lives, though its packets arrive later; what was there before ends."""
    elsewhere, held = open_at(topology.url), open_at(line.url, deadline=timedelta(seconds=1))
    before, own = signed_in(elsewhere), signed_in(elsewhere)
    mine = held.load(own.identifier)
    elsewhere.revoke_all("nobody")
    line.fall_silent(after=0)
    with pytest.raises(RevocationPending):
        end(held, mine)
    later = signed_in(elsewhere)
    line.deliver()

    assert elsewhere.load(later.identifier) is not None
    assert held.load(before.identifier) is None
    held.sweep()
    assert held.pending_revocations() == 0
    assert elsewhere.load(before.identifier) is None
    assert elsewhere.load(later.identifier) is not None


@pytest.mark.requirement("R25")
def test_breaks_off_between_its_steps(open_at, topology, line, monkeypatch):
    """Steps that arrive late end nothing; those that were in time have, and the rest of what was there ends later."""
    monkeypatch.setattr(subjects, "_REVOKED_TOGETHER", TOGETHER)
    elsewhere, held = open_at(topology.url), open_at(line.url, deadline=timedelta(seconds=1))
    before = [signed_in(elsewhere) for _ in range(4 * TOGETHER)]
    held.revoke_all("nobody")
    line.fall_silent(after=2)
    with pytest.raises(RevocationPending):
        held.revoke_all("ada")
    assert len(elsewhere.list_for("ada")) == 2 * TOGETHER
    later = signed_in(elsewhere)
    line.deliver()

    assert elsewhere.load(later.identifier) is not None
    assert len(elsewhere.list_for("ada")) == 2 * TOGETHER + 1
    held.sweep()
    assert [elsewhere.load(session.identifier) for session in before] == [None] * len(before)
    assert elsewhere.load(later.identifier) is not None


@pytest.mark.requirement("R25", "R15")
@pytest.mark.parametrize("behind", [-3_600_000, -1000, 1000, 3_600_000])
def test_clocks_that_differ(open_sessions, sessions, clock, server, behind):
    """An end that is in time ends all, whatever this process takes for the server's time; a wrong one costs a call."""
    before = signed_in(open_sessions(clock=None))
    sessions.revoke_all("nobody")
    clock.moved -= behind

    with server.commands() as commands:
        assert sessions.revoke_all("ada") == 1

    assert 1 <= sum(command == f"EVALSHA {REVOKE_ALL.sha}" for command in commands) <= 2
    assert open_sessions(clock=None).load(before.identifier) is None
