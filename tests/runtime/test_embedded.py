import os
import shutil
import signal
import stat
import threading
from pathlib import Path

import pytest

from coatcheck.runtime.embedded import Embedded
from tests.waiting import wait_until

pytest_plugins = ["tests.fix_embedded"]


def test_many_start_at_once(folder, start_user):
    """Eight processes that start at once on a new folder share one server and one sealing key."""
    users = [start_user(folder, wait=False) for _ in range(8)]
    answers = [user.hello() for user in users]

    assert len({answer["server"] for answer in answers}) == 1
    assert len({answer["keys"] for answer in answers}) == 1
    assert [path.name for path in folder.glob("keys*")] == ["keys"]


def test_last_leaves(folder, start_user, processes, redis):
    """The server stays while anyone uses it, stops when the last leaves, and its data are kept."""
    first, second = start_user(folder), start_user(folder)
    redis.set("coat", "red")
    first.end()
    assert redis.get("coat") == b"red"
    second.end()
    processes.become_none(folder)
    assert not (folder / "socket").exists()

    third = start_user(folder)

    assert redis.get("coat") == b"red"
    assert third.server != second.server


def test_join_is_idempotent(folder, store_in):
    """Calls from many threads at once, and again, give the same path of one server."""
    store = store_in(folder)
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(store.socket())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {*paths, store.socket(), store.revive()} == {str(folder / "socket")}
    assert len(paths) == 8


def test_leave_again(folder, store_in, processes):
    """Leaving twice does no harm, and one may come back."""
    store = store_in(folder)
    store.socket()
    store.leave()
    store.leave()
    processes.become_none(folder)

    assert Path(store.socket()).is_socket()


def test_two_in_one_process(folder, store_in):
    """Two stores of one process on one folder are two users: one leaves, the other goes on."""
    one, other = store_in(folder), store_in(folder)
    one.socket()
    other.socket()
    one.leave()

    assert other.revive() == str(folder / "socket")


def test_a_forgotten_store_leaves(folder, store_in, processes):
    """A store that nothing refers to any more counts as gone."""
    Embedded(folder).socket()

    processes.become_none(folder)


def test_private_and_durable(folder, start_user, processes, redis):
    """The server has no TCP port, never evicts, syncs every second; nobody else can read its folder."""
    start_user(folder)
    config = redis.config_get("port", "appendonly", "appendfsync", "maxmemory-policy", "unixsocketperm")

    assert config == {
        "port": "0",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "unixsocketperm": "700",
    }
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((folder / "socket").stat().st_mode) == 0o700


def test_guard_knows_no_secrets(folder, start_user, processes, monkeypatch):
    """The environment of the application, which may hold secrets, does not reach guard and server."""
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    start_user(folder)

    environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in processes.pids(folder)]

    assert len(environments) == 2
    assert not any(b"hunter2" in environment for environment in environments)


def test_terminal_interrupt(folder, start_user, processes):
    """Guard and server are in a session of their own, so Ctrl-C reaches the application alone."""
    user = start_user(folder)

    sessions = {os.getsid(pid) for pid in processes.pids(folder)}

    assert len(sessions) == 1
    assert sessions != {os.getsid(user.pid)}


def test_killed_user(folder, start_user, redis):
    """Killing the process that started the server disturbs nobody."""
    first = start_user(folder)
    start_user(folder)
    first.kill(signal.SIGKILL)

    assert redis.info()["process_id"] == first.server


def test_killed_last_user(folder, start_user, processes):
    """When the last user is killed, the server stops all the same."""
    start_user(folder).kill(signal.SIGKILL)

    processes.become_none(folder)


def test_killed_server(folder, start_user, processes, redis):
    """When the server is killed, reviving gives all the same new one, with the data."""
    users = [start_user(folder) for _ in range(3)]
    redis.set("coat", "red")
    os.kill(users[0].server, signal.SIGKILL)

    servers = {user.say("revive")["server"] for user in users}

    assert len(servers) == 1
    assert servers != {users[0].server}
    assert redis.get("coat") == b"red"


def test_killed_server_returns(folder, start_user, processes, redis):
    """A server that was up for a while and is killed comes back though nobody asks."""
    user = start_user(folder)
    wait_until(lambda: redis.info()["uptime_in_seconds"] >= 2, "it has been up for a while")
    os.kill(user.server, signal.SIGKILL)

    wait_until(lambda: processes.server(folder) not in {None, user.server}, "another server runs")


def test_killed_guard(folder, start_user, processes):
    """When the guard is killed, the next to join brings a new one for the same server."""
    first = start_user(folder)
    os.kill(processes.guard(folder), signal.SIGKILL)
    second = start_user(folder)
    assert second.server == first.server
    assert processes.guard(folder)

    first.end()
    second.kill(signal.SIGKILL)

    processes.become_none(folder)


def test_killed_guard_nobody_joins(folder, start_user, processes):
    """When the guard is killed and nobody joins, the last to leave still sees the server stopped."""
    user = start_user(folder)
    os.kill(processes.guard(folder), signal.SIGKILL)
    wait_until(lambda: processes.guard(folder) is None, "the guard has ended")

    user.end()

    processes.become_none(folder)


def test_killed_guard_and_server(folder, start_user, processes, redis):
    """When guard and server are killed together, reviving starts both."""
    user = start_user(folder)
    redis.set("coat", "red")
    for pid in processes.pids(folder):
        os.kill(pid, signal.SIGKILL)

    assert user.say("revive")["server"] != user.server
    assert redis.get("coat") == b"red"


def test_everything_killed(folder, start_user, processes, redis):
    """What a crash of everything leaves (socket file, locks, files) does not hinder the next start."""
    user = start_user(folder)
    redis.set("coat", "red")
    for pid in (*processes.pids(folder), user.pid):
        os.kill(pid, signal.SIGKILL)
    processes.become_none(folder)
    assert (folder / "socket").is_socket()

    start_user(folder)

    assert redis.get("coat") == b"red"


def test_stale_socket_file(folder, start_user, redis):
    """A file in the place of the socket is replaced."""
    folder.mkdir(mode=0o700)
    (folder / "socket").write_text("stale")

    start_user(folder)

    assert redis.ping()


def test_fork_after_joining(folder, start_user, processes):
    """A child forked after joining keeps the server when its parent ends, and not its parent's share."""
    user = start_user(folder)
    child = user.say("fork")["child"]
    assert child["server"] == user.server
    user.kill(signal.SIGKILL)
    assert processes.server(folder) == user.server

    os.kill(child["pid"], signal.SIGKILL)

    processes.become_none(folder)


def test_forked_child_leaves(folder, start_user):
    """A forked child that leaves, or ends as Python does, leaves for itself alone."""
    user = start_user(folder)
    assert user.say("fork and leave")["status"] == 0

    assert user.say("revive")["server"] == user.server


def test_fork_while_starting(tmp_path, start_user, processes):
    """Children forked while another thread starts the server hold nothing up, for all their life."""
    user = start_user(tmp_path / "first")
    children = user.say(f"fork while starting {tmp_path / 'second'}")["children"]
    try:
        processes.become_none(tmp_path / "second")
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def test_long_path(tmp_path, start_user):
    """A folder whose path is too long for a unix socket works like any other, in forked children too."""
    folder = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 8)
    first, second = start_user(folder), start_user(folder)

    assert first.server == second.server
    child = first.say("fork")["child"]
    os.kill(child["pid"], signal.SIGKILL)
    assert child["server"] == first.server


def test_folder_removed_meanwhile(folder, start_user, processes):
    """When somebody removes the folder, its server stops at once, and reviving makes a new one."""
    user = start_user(folder)
    shutil.rmtree(folder)
    processes.become_none(folder)

    assert user.say("revive")["server"] != user.server


def test_folder_removed_and_made_again(folder, start_user, processes):
    """Reviving right after the folder was removed leaves one server: the one in the new folder."""
    user = start_user(folder)
    shutil.rmtree(folder)
    server = user.say("revive")["server"]

    wait_until(lambda: len(processes.pids(folder)) == 2, "one guard and one server run")
    assert processes.server(folder) == server != user.server


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"COATCHECK_HOME": "/srv/coats", "XDG_STATE_HOME": "/state"}, "/srv/coats"),
        ({"XDG_STATE_HOME": "/state"}, "/state/coatcheck"),
        ({}, "/home/ann/.local/state/coatcheck"),
    ],
)
def test_default_folder(environment, expected, monkeypatch):
    """Without a folder, the environment names one for this user; nothing is touched."""
    for name in ("COATCHECK_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/ann", **environment}.items():
        monkeypatch.setenv(name, value)

    assert Embedded().folder == Path(expected)
