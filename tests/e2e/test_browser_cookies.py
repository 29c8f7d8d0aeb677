"""What a real browser makes of our cookie, over https: Chromium."""

import html
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from coatcheck import CookiePolicy
from tests.fix_certificate import write_certificate

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


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """Serve the site over https."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*write_certificate(tmp_path))
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
