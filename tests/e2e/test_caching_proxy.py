"""A shared cache in front of the application: nginx, told to keep whatever it is allowed to."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.frameworks.fix_apps import App, Browser, wait_until

# It listens on a socket that this process has opened, which nginx inherits through the variable NGINX.
_CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  proxy_cache_path {folder}/cache keys_zone=shared:1m;
  proxy_temp_path {folder}/proxy;
  client_body_temp_path {folder}/body;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass {upstream};
      proxy_set_header Host $http_host;
      proxy_cache shared;
      proxy_cache_key $request_uri;
      proxy_cache_valid any 10m;
      add_header X-Cache $upstream_cache_status always;
    }}
  }}
}}
"""


@pytest.fixture
def cached(app: App, tmp_path: Path) -> Iterator[str]:
    """Give the address of a caching proxy in front of the app."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(folder=tmp_path, port=port, upstream=app.url))
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
    assert nginx, "nginx is missing: tools/debian installs it"
    process = subprocess.Popen([nginx, "-c", str(configuration), "-e", str(tmp_path / "error.log")])

    def answers() -> bool:
        assert process.poll() is None, (tmp_path / "error.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(answers, "nginx does not answer")
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait()


@pytest.mark.requirement("R8")
def test_a_shared_cache_never_hands_one_user_the_page_of_another(app: App, cached: str) -> None:
    """Pages that read or write the session are not cached; a page that does not touch it is."""
    ada, grace = Browser(cached), Browser(cached)
    ada.post("/set", name="a", value="ada")
    grace.post("/set", name="a", value="grace")

    seen = [(browser.attributes, browser.get("/peek").json()) for browser in (ada, grace, ada, grace)]
    statuses = {ada.get("/read").headers["X-Cache"] for _ in range(3)}
    plain = [httpx.get(f"{cached}/untouched", trust_env=False).headers["X-Cache"] for _ in range(2)]
    ada.close()
    grace.close()

    assert seen == [({"a": name}, {"value": name}) for name in ("ada", "grace", "ada", "grace")]
    assert statuses == {"MISS"}
    assert plain == ["MISS", "HIT"]
