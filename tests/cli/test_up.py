"""`coatcheck up`: the command that owns a topology, and those that reach it from another terminal."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from coatcheck.cli import main
from tests.fix_topology import is_gone
from tests.waiting import PATIENCE_SECONDS, wait_until

# As a terminal starts it: under nohup, or in the background of a script, the tests themselves may ignore Ctrl-C, and
# whom they start would inherit that.
PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from coatcheck.cli import main
main()
"""
COMMAND = [sys.executable, "-c", PROGRAM, "up"]


class Terminals:
    """A user's terminals: one that runs a topology, and others, with a temporary folder of the test's own."""

    def __init__(self, folder, monkeypatch, capsys):
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.use(folder)
        self._out = folder / "out"
        self.owners = []

    def start(self, *arguments):
        """Run a topology in the foreground; give the process once it says how to stop it."""
        with self._out.open("wb") as out:
            self.owners.append(subprocess.Popen([*COMMAND, *arguments], stdout=out, stderr=out))
        wait_until(lambda: "Ctrl-C stops it" in self.shown(), "the topology runs")
        return self.owners[-1]

    def shown(self):
        """Give what the newest topology has printed."""
        return self._out.read_text()

    def printed(self, action):
        """Give the words of the example for *action* that the newest topology has printed, as one would copy them."""
        return re.search(rf"^  coatcheck up (\S+ {action}.*?)(  .*)?$", self.shown(), re.MULTILINE)[1].split()

    def use(self, folder):
        """Make *folder* the temporary one."""
        self._monkeypatch.setenv("TMPDIR", str(folder))
        self._monkeypatch.setattr(tempfile, "tempdir", str(folder))

    def run(self, *arguments):
        """Run a command: exit code, output, errors."""
        self._monkeypatch.setattr(sys, "argv", ["coatcheck", "up", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code, *self._capsys.readouterr()

    def status(self):
        """Give what --status --json says, by name."""
        return {line["name"]: line for line in json.loads(self.run("--status", "--json")[1])}


@pytest.fixture
def terminals(tmp_path, monkeypatch, capsys):
    """Give terminals, closed in the end."""
    monkeypatch.setenv("COLUMNS", "200")
    opened = Terminals(tmp_path, monkeypatch, capsys)
    yield opened
    for owner in opened.owners:
        owner.kill()
        owner.wait()
    wait_until(lambda: not list(tmp_path.glob("coatcheck-up-*")), "nothing is left")


def folder_of(shown):
    """Give the folder that the command names."""
    return Path(re.search(r" in (\S+);", shown)[1])


def test_up_sentinel(terminals):
    """A developer kills the primary in a second terminal; the first tells who took over, and Ctrl-C leaves nothing."""
    owner = terminals.start("sentinel")
    first = terminals.shown()
    assert re.search(r"export COATCHECK_URL=sentinel://(127\.0\.0\.1:\d+,?){3}/coatcheck\n", first)

    assert terminals.run(*terminals.printed("--kill")) == (0, "node1 is killed\n", "")
    wait_until(lambda: re.search(r"node[23] is now a primary", terminals.shown()), "another primary")
    found = terminals.status()
    assert found["node1"] == dict.fromkeys(found["node1"]) | {
        "name": "node1",
        "address": found["node1"]["address"],
        "state": "ended",
    }
    assert [line["role"] for line in found.values()].count("primary") == 1
    assert "  node1 is killed\n" in terminals.shown()
    assert terminals.run("sentinel", "--start", "node1") == (0, "node1 runs again\n", "")

    owner.send_signal(signal.SIGINT)
    assert owner.wait(PATIENCE_SECONDS) == 0
    assert terminals.shown().endswith("stopped; nothing is left\n")
    assert is_gone(folder_of(first))


def test_up_cluster(terminals):
    """A planned failover is told in both terminals; SIGTERM, too, leaves nothing."""
    owner = terminals.start("cluster")
    code, out, _ = terminals.run("--failover")
    assert (code, out) == (0, "planned failover: the new primary is node4\n")
    wait_until(lambda: "node4 is now a primary" in terminals.shown(), "the owner tells it")
    code, out, _ = terminals.run("--status")
    lines = [line.split("\t") for line in out.splitlines()]
    assert [line[:2] for line in lines[:4]] == [
        ["node1", "replica"],
        ["node2", "primary"],
        ["node3", "primary"],
        ["node4", "primary"],
    ]
    assert (lines[0][5], lines[3][-1]) == ("node4", "0-5460")

    owner.terminate()
    assert owner.wait(PATIENCE_SECONDS) == 0
    assert is_gone(folder_of(terminals.shown()))


def test_up_single(terminals):
    """A single server can be paused and resumed, is shown as a table on a terminal, and has nobody to fail over to."""
    owner = terminals.start("single")
    folder = folder_of(terminals.shown())
    assert terminals.run("--pause", "primary") == (0, "node1 is paused\n", "")
    assert terminals.status()["node1"]["state"] == "paused"
    assert terminals.run("--resume") == (0, "resumed: node1\n", "")
    assert terminals.run("--resume") == (0, "resumed: nothing, for nothing was paused\n", "")
    assert "--failover" not in terminals.shown()
    code, _, err = terminals.run("--failover")
    assert (code, err) == (2, "coatcheck: node1 has no replica to hand over to\n")
    code, _, err = terminals.run(str(folder), "--kill", "node7")
    assert (code, err) == (2, "coatcheck: no node is called node7: choose from node1, primary, replica\n")
    assert terminals.run("--kill", "replica")[0] == 3

    ours, theirs = pty.openpty()
    subprocess.run([*COMMAND, "--status"], stdout=theirs, env={**os.environ, "TERM": "dumb"}, check=True)
    assert re.match(rb"name +role +address +pid +state .*\r\nnode1 +primary ", os.read(ours, 4096))
    os.close(ours)
    os.close(theirs)

    owner.kill()
    wait_until(lambda: is_gone(folder), "nothing is left")


def test_several(terminals):
    """Where several run, one has to be named; its kind or its folder does. What is printed names it."""
    terminals.start("single")
    first = folder_of(terminals.shown())
    assert terminals.printed("--status") == ["single", "--status"]
    terminals.start("single")
    second = folder_of(terminals.shown())
    assert terminals.printed("--status") == [str(second), "--status"]
    assert terminals.run(*terminals.printed("--pause")) == (0, "node1 is paused\n", "")
    assert f"  then: coatcheck up {second} --start node1\n" in terminals.shown()

    code, _, err = terminals.run("--status")
    assert (code, err) == (2, f"coatcheck: several run, name one of: {', '.join(sorted(map(str, (first, second))))}\n")
    assert terminals.run(str(first), "--status")[0] == 0
    code, _, err = terminals.run("sentinel", "--status")
    assert (code, err) == (2, "coatcheck: no local topology runs: start one with coatcheck up sentinel\n")


def test_port(terminals):
    """The port can be chosen; one that is taken is named."""
    terminals.start("single")
    port = re.search(r"127\.0\.0\.1:(\d+)", terminals.shown())[1]

    code, _, err = terminals.run("single", "--port", port)

    text = f"coatcheck: port {port} is taken: choose another first port, or let free ones be found\n"
    assert (code, err) == (2, text)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "say what to start: single, sentinel, cluster"),
        (("quorum",), "quorum is no topology: choose from single, sentinel, cluster"),
        (("--status",), "no local topology runs: start one with coatcheck up sentinel"),
        (("/nowhere", "--status"), "no local topology runs in /nowhere"),
        (("--failover", "--kill", "primary"), "one at a time: --kill or --failover"),
        (("single", "--server", "no-such-server"), "no-such-server is not a program that can be run here"),
    ],
)
def test_usage_of_up(terminals, arguments, text):
    """Wrong usage is exit code 2, with what would be right."""
    code, _, err = terminals.run(*arguments)

    assert code == 2
    assert text in err


def test_a_temporary_folder_with_a_long_path(terminals, tmp_path):
    """Where no socket can be made the error says what to change, and nothing is left."""
    long = tmp_path / ("x" * 100)
    long.mkdir()

    terminals.use(long)
    code, _, err = terminals.run("single")

    assert code == 2
    assert "name a folder with a short path in TMPDIR" in err
    assert not list(long.iterdir())
