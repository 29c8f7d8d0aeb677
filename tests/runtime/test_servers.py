"""Every server release and topology that is promised, briefly; `make matrix` runs the contract suite on each."""

import pytest

import coatcheck
from coatcheck import AtLimit, ConfigurationError, SessionPolicy
from coatcheck.runtime.sync import run
from tests.fix_access import crossing, guarded_topology, live
from tests.fix_servers import KINDS

RELEASES = {
    "redis6": ("redis", (6, 2)),
    "redis7": ("redis", (7, 0)),
    "redis7-tls": ("redis", (7, 0)),
    "valkey8": ("valkey", (8, 1)),
    "valkey9": ("valkey", (9, 1)),
    "sentinel": ("valkey", (9, 1)),
    "cluster": ("valkey", (9, 1)),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    """Give the name of each in turn."""
    return request.param


@pytest.fixture(scope="module")
def guarded(kind):
    """Start it."""
    with guarded_topology(kind) as guarded:
        yield guarded


@pytest.mark.requirement("R53")
def test_all_that_is_done_with_sessions(guarded, open_at, kind):
    """Every operation works as a user with minimal rights, scripts loaded or not; nothing is refused to that user."""
    for at_limit in (AtLimit.EVICT_OLDEST, AtLimit.EVICT_IDLEST):
        for node in guarded.nodes:
            node.script_flush()
        sessions = open_at(guarded.user("shop"), prefix="shop", policy=SessionPolicy(limit=2, at_limit=at_limit))
        live(sessions)
        for node in guarded.nodes:
            node.flushall()

    server = sessions.server()
    assert (server.kind, server.version[:2]) == RELEASES[kind]
    assert guarded.refused() == []


@pytest.mark.requirement("R52")
def test_what_a_script_is_refused(guarded, key):
    """What the user may not do is told as a mistake in the configuration, also where it is a script that meets it."""
    with coatcheck.Sessions(guarded.user("bank"), prefix="bank", keys=key) as sessions:
        command = crossing(guarded.client, "bank", "shop", sessions.create({"a": 1}).handle)

        with pytest.raises(ConfigurationError, match="does not let this user do what sessions need"):
            run(sessions.core._store.transport.call(command))
