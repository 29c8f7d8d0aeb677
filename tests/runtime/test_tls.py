"""rediss:// against a server that speaks TLS: Debian's Redis."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
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
