"""Fixtures for the embedded store: user processes, and a look at the guard and server that they share."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from coatcheck.runtime.embedded import Embedded
from tests.waiting import PATIENCE_SECONDS, wait_until


class Processes:
    """What runs in a folder: guard and server have it as their working directory."""

    def pids(self, folder):
        """List the living processes in *folder*."""
        names = {str(folder), f"{folder} (deleted)"}
        return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _link(path / "cwd") in names]

    def guard(self, folder):
        """Give the pid of the guard, or None."""
        return self._find(folder, is_server=False)

    def server(self, folder):
        """Give the pid of the server, or None."""
        return self._find(folder, is_server=True)

    def become_none(self, folder):
        """Wait until neither guard nor server is in *folder*."""
        wait_until(lambda: not self.pids(folder), "neither guard nor server is left")

    def _find(self, folder, *, is_server):
        for pid in self.pids(folder):
            program = _link(Path(f"/proc/{pid}/exe"))
            if program is not None and program.endswith("/valkey-server") == is_server:
                return pid
        return None


class User:
    """A process that uses the embedded store of a folder (`tests/runtime/embedded_user.py`)."""

    def __init__(self, folder):
        """Start it."""
        script = Path(__file__).parent / "runtime" / "embedded_user.py"
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", script, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.folder = folder
        self.pid = self._process.pid
        self.server = None

    def hello(self):
        """Wait until it has joined; return what it saw."""
        seen = self._read()
        self.server = seen["server"]
        return seen

    def say(self, order):
        """Give an order; return the answer."""
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        return self._read()

    def kill(self, number):
        """Send the signal *number* and wait for the end."""
        self._process.send_signal(number)
        self._process.wait(PATIENCE_SECONDS)

    def end(self):
        """Let it end as Python does; it must not have complained."""
        self._process.stdin.close()
        self._process.wait(PATIENCE_SECONDS)
        assert self._process.stderr.read() == ""

    def close(self):
        """Kill it if it lives, and close the pipes."""
        self._process.kill()
        self._process.wait(PATIENCE_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            pipe.close()

    def _read(self):
        line = self._process.stdout.readline()
        if not line:
            pytest.fail(f"the user process ended: {self._process.stderr.read()}")
        return json.loads(line)


def _link(path):
    try:
        return str(path.readlink())
    except OSError:
        return None


@pytest.fixture
def folder(tmp_path):
    """A folder that is not there yet."""
    return tmp_path / "coats"


@pytest.fixture
def processes():
    """A look at the processes in a folder."""
    return Processes()


@pytest.fixture
def used_folders(processes):
    """The folders that a test uses; in the end neither guard nor server may be left in them."""
    folders = set()
    yield folders
    for folder in folders:
        processes.become_none(folder)


@pytest.fixture
def start_user(used_folders):
    """Start user processes, ended in the end."""
    users = []

    def start(folder, *, wait=True):
        used_folders.add(folder)
        users.append(User(folder))
        if wait:
            users[-1].hello()
        return users[-1]

    yield start
    for user in users:
        user.close()


@pytest.fixture
def store_in(used_folders):
    """Make embedded stores in this process, left in the end."""
    stores = []

    def make(folder):
        used_folders.add(folder)
        stores.append(Embedded(folder))
        return stores[-1]

    yield make
    for store in stores:
        store.leave()


@pytest.fixture
def redis(folder):
    """Speak to the server in *folder*."""
    with Redis(unix_socket_path=str(folder / "socket")) as client:
        yield client
