"""The near cache in every framework: the policy turns it on, and requests that read ask the store no more."""

from time import monotonic

import pytest

import coatcheck
from tests.waiting import wait_until

pytestmark = pytest.mark.access(near_cache=True)

STALENESS = 0.5


@pytest.fixture
def near_app(framework, running, server, shared_key):
    """Give the framework's app with a near cache, in one process."""
    app = running.start(framework, server, shared_key, workers=1, near=f"{STALENESS * 1000:.0f}")
    yield app
    app.close_browsers()
    running.end_one(app.url)  # it would go on asking the store whether it is up to date


@pytest.mark.requirement("R26")
def test_requests_that_read(near_app, server, shared_key):
    """Requests that read their session send the store nothing; one that ended elsewhere is over within the bound."""
    browser = near_app.signed_in()

    def commands():
        with server.commands() as sent:
            assert browser.attributes["user_id"] == "ada"
        return sent

    wait_until(lambda: commands() == [], "the store is asked each time")
    browser.post("/step-up")
    assert browser.get("/strong").json() == {"ok": True}
    wait_until(lambda: commands() == [], "the store is asked each time")

    with coatcheck.Sessions(server.url, keys=shared_key) as sessions:
        sessions.revoke_all("ada")
    done = last = began = monotonic()
    while browser.attributes:
        last, began = began, monotonic()
    assert last - done <= STALENESS
