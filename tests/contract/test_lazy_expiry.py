"""A server that never removes an expired key by itself, as one that is busy or a replica that lags."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

import coatcheck
from coatcheck.runtime._embedded_host import find_server
from tests.waiting import wait_until


@pytest.fixture
def lazy(tmp_path: Path) -> Iterator[redis.Redis]:
    """Start a server of its own, with active expiry switched off."""
    path = str(tmp_path / "socket")
    command = [find_server(), "--port", "0", "--unixsocket", path, "--save", "", "--enable-debug-command", "yes"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
    wait_until((tmp_path / "socket").exists, "the server starts")
    with redis.Redis(unix_socket_path=path) as client:
        client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        yield client
    process.kill()
    process.wait()


@pytest.mark.requirement("R15")
def test_a_deadline_counts_while_the_key_is_still_there(lazy: redis.Redis, key: str, tmp_path: Path) -> None:
    """A session past its idle deadline is neither loaded, nor saved, nor listed, though its record is still stored."""
    with coatcheck.Sessions(f"unix://{tmp_path / 'socket'}", keys=key) as sessions:
        session = sessions.create({"a": 1})
        sessions.bind(session, "ada")
        (record,) = [name for name in lazy.scan_iter() if b":s:" in name]
        size = lazy.dbsize()
        seconds, microseconds = lazy.time()
        deadline = seconds * 1_000_000 + microseconds + 2_000
        lazy.pexpire(record, 1)
        wait_until(lambda: lazy.time() > divmod(deadline, 1_000_000), "its time has passed on the server")
        assert lazy.dbsize() == size  # the key is past its deadline and has not been removed

        listed, loaded = sessions.list_for("ada"), sessions.load(session.identifier)
        session["a"] = 2
        with pytest.raises(coatcheck.SessionRevoked):
            sessions.save(session)

        assert (listed, loaded) == ([], None)
