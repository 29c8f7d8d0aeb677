"""The demo as a person runs it: its check, its end, and what is left when it is killed."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def demo(tmp_path):
    """The demo, up and with its address printed."""
    command = [sys.executable, "-u", "-m", "demo", "--port", "0", "--folder", tmp_path / "data"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        while "Ctrl-C" not in process.stdout.readline():
            assert process.poll() is None
        yield process
        process.kill()


def run_demo(*arguments):
    """Run the demo with *arguments* until it ends by itself; give its status and what it printed."""
    command = [sys.executable, "-m", "demo", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=100)


def descendants(pid):
    """The processes that *pid* has started, by themselves or not, and how each was called."""
    parents = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            status, parent, *_ = (process / "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if status != "Z":
            parents[int(process.name)] = int(parent)
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def is_alive(pid):
    """Say whether a process runs; one that only waits to be reaped does not."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_check():
    """`python -m demo --check` takes every step of the story, and says that all is well."""
    done = run_demo("--check")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is well" in done.stdout
    assert "FAIL" not in done.stdout


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted(demo, end):
    """Ctrl-C, a request to end and a closed terminal end every process of the demo, and that is success."""
    started = descendants(demo.pid)

    demo.send_signal(end)

    assert demo.wait(timeout=20) == 0
    assert started
    assert not [pid for pid in started if is_alive(pid)]


def test_killed(demo):
    """Even after kill -9 of the demo itself its servers end."""
    started = descendants(demo.pid)

    os.kill(demo.pid, signal.SIGKILL)

    assert started
    wait_until(lambda: not any(map(is_alive, started)), "every process has ended")


def test_port_taken(tmp_path):
    """A port that is asked for and taken is named, with what to do; nothing is left running."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = run_demo("--port", port, "--folder", tmp_path / "data")

    assert done.returncode == 1
    assert f"Port {port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_folder_unusable(tmp_path):
    """A folder that others may write in is refused with the reason."""
    tmp_path.chmod(0o777)
    done = run_demo("--folder", tmp_path)

    assert done.returncode == 1
    assert "other users may write" in done.stderr
    assert "Traceback" not in done.stderr
