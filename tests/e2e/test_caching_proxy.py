"""A shared cache in front of the application: nginx, told to keep whatever it is allowed to."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fix_nginx import nginx
from tests.frameworks.fix_apps import App, Browser

_CACHE = "proxy_cache_path {folder}/cache keys_zone=shared:1m;"
_LOCATION = """
proxy_pass {upstream};
proxy_cache shared;
proxy_cache_key $request_uri;
proxy_cache_valid any 10m;
add_header X-Cache $upstream_cache_status always;
"""


@pytest.fixture
def cached(app: App, tmp_path: Path) -> Iterator[str]:
    """Give the address of a caching proxy in front of the app."""
    with nginx(tmp_path, http=_CACHE.format(folder=tmp_path), location=_LOCATION.format(upstream=app.url)) as url:
        yield url


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
