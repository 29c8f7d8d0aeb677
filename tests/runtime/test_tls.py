"""rediss:// against a server that speaks TLS: Debian's Redis."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import coatcheck
from tests.fix_certificate import write_certificate
from tests.waiting import wait_until


@pytest.fixture
def tls_port(tmp_path: Path) -> Iterator[int]:
    """Start a Redis that takes TLS connections only; its certificate is tmp_path/certificate.pem."""
    certificate, key = write_certificate(tmp_path)
    binary = shutil.which("redis-server")
    assert binary, "redis-server is missing: tools/debian installs it"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    options = {
        "port": 0,
        "tls-port": port,
        "tls-cert-file": certificate,
        "tls-key-file": key,
        "tls-ca-cert-file": certificate,
        "tls-auth-clients": "no",
        "bind": "127.0.0.1 127.0.0.2",
        "save": "",
        "dir": tmp_path,
    }
    command = [binary, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)

    def answers() -> bool:
        assert process.poll() is None, (tmp_path / "log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(answers, "Redis answers")
    yield port
    process.terminate()
    process.wait()


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_a_verified_connection(tls_port: int, tmp_path: Path, open_sessions, scheme: str) -> None:
    """A server whose certificate is signed by a trusted authority is used, whichever way the scheme is spelled."""
    sessions = open_sessions(url=f"{scheme}://localhost:{tls_port}", ssl_ca_certs=str(tmp_path / "certificate.pem"))

    session = sessions.create({"a": 1})

    assert dict(sessions.load(session.identifier)) == {"a": 1}


def test_many_new_connections(tls_port: int, tmp_path: Path, open_sessions) -> None:
    """No connection is given up for what TLS 1.3 sends after its handshake."""
    for _ in range(40):
        sessions = open_sessions(url=f"rediss://localhost:{tls_port}", ssl_ca_certs=str(tmp_path / "certificate.pem"))
        assert sessions.find("00.AAAAAAAAAAAAAAAA") is None
        sessions.close()


@pytest.mark.requirement("R54")
def test_an_unknown_authority_is_refused(tls_port: int, open_sessions) -> None:
    """A certificate that no trusted authority has signed is refused, and the error says so."""
    sessions = open_sessions(url=f"rediss://localhost:{tls_port}")

    with pytest.raises(coatcheck.StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        sessions.create({"a": 1})


@pytest.mark.requirement("R54")
def test_a_certificate_for_another_host_is_refused(tls_port: int, tmp_path: Path, open_sessions) -> None:
    """A certificate of another name is refused, though its authority is trusted."""
    sessions = open_sessions(url=f"rediss://127.0.0.2:{tls_port}", ssl_ca_certs=str(tmp_path / "certificate.pem"))

    with pytest.raises(coatcheck.StoreUnavailable, match=r"CERTIFICATE_VERIFY_FAILED|cannot be reached"):
        sessions.create({"a": 1})


@pytest.mark.requirement("R54")
@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_a_file_that_is_missing(tmp_path: Path, open_sessions, option: str) -> None:
    """A file that is not there is a wrong setting, told at once, with the option and the file."""
    path = tmp_path / "nope.pem"

    with pytest.raises(coatcheck.ConfigurationError) as refused:
        open_sessions(url="rediss://localhost:1", **{option: str(path)})

    assert str(refused.value) == f"{option}: {path} cannot be read: No such file or directory"


def test_a_file_for_sentinels_that_is_missing(open_sessions) -> None:
    """What is for the sentinels alone is told by the name that it has."""
    text = r"^sentinel_ssl_ca_certs: /nope\.pem cannot be read: No such file or directory$"
    with pytest.raises(coatcheck.ConfigurationError, match=text):
        open_sessions(url="sentinels://localhost:1/main", sentinel_ssl_ca_certs="/nope.pem")


@pytest.mark.requirement("R54")
def test_a_file_that_goes_missing_later(tls_port: int, tmp_path: Path, open_sessions) -> None:
    """While a running process lacks a file, new connections wait for it: an outage that names it, and that passes."""
    authority = tmp_path / "authority.pem"
    shutil.copy(tmp_path / "certificate.pem", authority)
    sessions = open_sessions(url=f"rediss://localhost:{tls_port}", ssl_ca_certs=str(authority))
    authority.rename(tmp_path / "elsewhere")
    with pytest.raises(coatcheck.StoreUnavailable, match=f"ssl_ca_certs: {authority} cannot be read: No such file"):
        sessions.create({"a": 1})

    authority.write_text("no certificate")
    with pytest.raises(coatcheck.StoreUnavailable, match=f"ssl_ca_certs \\({authority}\\) cannot be used: "):
        sessions.create({"a": 1})

    authority.unlink()
    (tmp_path / "elsewhere").rename(authority)
    assert sessions.load(sessions.create({"a": 1}).identifier)["a"] == 1


def test_a_server_without_tls(open_sessions) -> None:
    """A server that takes the connection, and does not go on with TLS, is told apart from one that is slow."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        sessions = open_sessions(url=f"rediss://localhost:{port}", deadline=0.3)

        with pytest.raises(coatcheck.StoreUnavailable) as failed:
            sessions.create({"a": 1})

    said = f"localhost:{port} did not answer in time, and there is no TLS connection: see that it speaks TLS there"
    assert str(failed.value).endswith(said)


def test_a_server_that_answers_without_tls(open_sessions) -> None:
    """A server that answers to the handshake with something else is told as one without TLS."""
    with socket.create_server(("127.0.0.1", 0)) as plain:
        port = plain.getsockname()[1]

        def answer() -> None:
            while True:
                try:
                    connection, _ = plain.accept()
                except OSError:
                    return
                with connection, suppress(OSError):  # it may have been closed there
                    connection.recv(4096)
                    connection.sendall(b"-ERR unknown command\r\n")
                    connection.recv(4096)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with pytest.raises(coatcheck.StoreUnavailable, match=r"See that it speaks TLS there"):
                open_sessions(url=f"rediss://localhost:{port}", deadline=2).create({"a": 1})
        finally:
            plain.shutdown(socket.SHUT_RDWR)
            thread.join()
