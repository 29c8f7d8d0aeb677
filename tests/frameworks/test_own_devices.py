"""The "my devices" page of docs/settings.md, and users who send it the handles of others."""

import re
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.test_own_sessions import variants

SETTINGS = Path(__file__).parents[2] / "docs" / "settings.md"
EXAMPLE = re.compile(r"<!-- example: devices -->\n```python\n(.*?)```", re.DOTALL)
PEOPLE = ("1", "01", "１", "")  # noqa: RUF001  that is what they try

# Who asks, whose session it is and which, how its handle is spelled, whether exactly.
attempts = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 1), st.integers(0, 30), st.booleans()),
    min_size=1,
    max_size=8,
)


@pytest.fixture
def app(server, key, monkeypatch):
    """Give the app of the example."""
    monkeypatch.setenv("COATCHECK_URL", server.url)
    monkeypatch.setenv("COATCHECK_KEYS", key)
    names = {"__name__": "example"}
    exec(EXAMPLE.search(SETTINGS.read_text())[1], names)  # noqa: S102  our own document
    return names["app"]


@pytest.mark.requirement("R23")
def test_a_user_ends_own_devices_only(app, server):
    """Whatever handle a user sends, no session of another user ends, and a visitor ends none."""

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(attempts)
    def story(tries):
        server.client.flushall()
        with ExitStack() as stack:
            browsers = [[_browser(stack, app, user) for _ in range(2)] for user in PEOPLE]
            handles = [_devices(first) for first, _ in browsers[:3]]
            for who, whose, which, how, is_exact in tries:
                if which >= len(handles[whose]):
                    continue
                handle = handles[whose][which]
                sent = handle if is_exact else list(variants(handle))[how % len(list(variants(handle)))]
                asking = browsers[who][0]
                is_own = handle == sent and handle in _devices(asking)

                answer = asking.post("/devices/end", json={"handle": sent})

                assert answer.json() is is_own, (who, whose, sent)
                if is_own:
                    handles[whose].remove(handle)
            for (first, second), own in zip(browsers[:3], handles, strict=True):
                assert {tuple(_devices(browser)) for browser in (first, second)} <= {tuple(own), ()}

    with TestClient(app):
        story()


def _browser(stack, app, user):
    """Open a browser; sign *user* in, if it is anybody."""
    client = TestClient(app, base_url="https://testserver")
    stack.callback(client.close)
    if user:
        assert client.post("/sign-in", json={"user": user}).status_code == 200
    return client


def _devices(browser):
    """Give the handles that the page shows, in the order of their making."""
    return sorted(line["handle"] for line in browser.get("/devices").json())
