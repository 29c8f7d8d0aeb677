"""A server whose memory is full, under noeviction."""

import pytest

from coatcheck import Durability, Level, SessionPolicy, StoreUnavailable


@pytest.mark.requirement("R57")
def test_memory_full(start_topology, open_at):
    """Live sessions are kept and read, ends work and stay, sign-ins fail clearly; with room again all goes on."""
    topology = start_topology("single", config=("maxmemory-policy noeviction",))
    sessions = open_at(topology.url, policy=SessionPolicy(subject_attribute="user"))
    durable = open_at(topology.url, policy=SessionPolicy(durability=Durability(revocation=Level.DISK)))
    stored = [sessions.create({"user": f"user {number % 50}"}) for number in range(200)]
    with topology.client("primary") as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] // 2)

        assert all(sessions.load(session.identifier) is not None for session in stored)
        with pytest.raises(StoreUnavailable, match="has no memory left for writes: raise its maxmemory"):
            sessions.create({"user": "new"})
        assert sessions.revoke(stored[0]) is True
        assert sessions.revoke_all("user 1") == 4
        assert durable.revoke_all("user 2") == 4
        assert sessions.load(stored[0].identifier) is None
        assert sessions.load(stored[1].identifier) is None
        assert sessions.pending_revocations() == 0
        assert client.info("stats")["evicted_keys"] == 0
        client.config_set("maxmemory", 0)

    assert sessions.create({"user": "new"}).subject == "new"
    assert sum(sessions.load(session.identifier) is not None for session in stored) == 191
    with topology.client("primary") as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] // 2)
        sessions.revoke_everyone()
        client.config_set("maxmemory", 0)
    assert not any(sessions.load(session.identifier) for session in stored)
