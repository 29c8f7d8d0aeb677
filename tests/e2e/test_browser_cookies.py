"""What a real browser makes of our cookie, over https: Chromium."""

import datetime as dt
import html
import ipaddress
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from coatcheck import CookiePolicy

_PLANTED = (
    CookiePolicy(name="ours").set("kept", secure=True, max_age=600),
    "__Host-with-domain=planted; Secure; Path=/; Domain=localhost",
    "__Host-with-path=planted; Secure; Path=/plant",
    "__Host-not-secure=planted; Path=/",
)
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update"),
    *("--disable-background-networking", "--disable-sync", "--ignore-certificate-errors", "--dump-dom"),
)


class Site(BaseHTTPRequestHandler):
    """A site that plants cookies, and then shows which came back, to the server and to a script."""

    def do_GET(self) -> None:
        """Answer."""
        if self.path == "/plant":
            self.send_response(302)
            for cookie in _PLANTED:
                self.send_header("Set-Cookie", cookie)
            self.send_header("Location", "/show")
            self.end_headers()
            return
        page = (
            f"<p id=sent>{html.escape(self.headers.get('Cookie', ''))}</p><p id=script></p>"
            "<script>document.getElementById('script').textContent = '[' + document.cookie + ']'</script>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + dt.timedelta(1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """Serve the site over https."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*_certificate(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"https://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.requirement("R3", "R4")
def test_a_browser_keeps_our_cookie_and_drops_those_that_break_its_prefix(site: str, tmp_path: Path) -> None:
    """Chromium sends our cookie back, hides it from scripts, and drops __Host- cookies of the wrong form."""
    chromium = shutil.which("chromium")
    assert chromium, "chromium is missing: tools/debian installs it"

    command = [chromium, *_FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"{site}/plant"]
    page = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    assert re.search(r"<p id=\"?sent\"?>(.*?)</p>", page)[1] == "__Host-ours=kept"
    assert re.search(r"<p id=\"?script\"?>(.*?)</p>", page)[1] == "[]"
