"""What one address may cause, in every framework, over real HTTP.

`guarded` lets a source create SOURCE_LIMIT sessions a minute in each process, and send as many unknown identifiers.
Every test comes from an address of its own, by one connection, so to one process.
"""

import secrets

import pytest

from tests.frameworks.apps.common import SOURCE_LIMIT
from tests.frameworks.visits import stranger


@pytest.fixture
def source(guarded):
    """Give a function that opens a browser at the address of the test."""
    address = f"127.{secrets.randbelow(200) + 2}.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"
    return lambda cookie="": guarded.browser(cookie, address=address)


def refused(answer):
    """Say whether *answer* asks to wait, and leaves the cookie alone."""
    assert "set-cookie" not in answer.headers or answer.status_code == 200
    if answer.status_code != 429:
        return False
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert answer.headers["cache-control"] == "no-store"
    assert "You have not been signed out" in answer.text
    return True


@pytest.mark.requirement("R56")
def test_creations(source, guarded):
    """After so many new sessions the next one is refused with 429; who signs in, or only reads, is served."""
    browser = source()

    def visit():
        browser.cookie = ""
        return refused(browser.post("/set", name="a", value="1"))

    assert [visit() for _ in range(SOURCE_LIMIT + 2)] == [False] * SOURCE_LIMIT + [True] * 2
    browser.cookie = ""
    assert browser.get("/read").json() == {"attributes": {}, "handle": None}
    assert browser.post("/login", user="ada", device="laptop").status_code == 200
    assert browser.attributes["user_id"] == "ada"
    assert guarded.browser().post("/set", name="a", value="1").status_code == 200


@pytest.mark.requirement("R56")
def test_unknown(source, guarded, frail):
    """After so many unknown identifiers the next is refused with 429, and after that without asking the store."""
    browser = source()
    name = "__Host-sessionid" if guarded.signed_in().cookie.startswith("__Host-sessionid") else "__Host-session"

    def visit():
        browser.cookie = f"{name}={stranger().identifier}"
        return refused(browser.get("/read"))

    assert [visit() for _ in range(SOURCE_LIMIT + 1)] == [False] * SOURCE_LIMIT + [True]
    with frail.server.commands() as asked:
        assert [visit() for _ in range(5)] == [True] * 5
    assert asked == []
    browser.cookie = ""
    assert browser.get("/read").status_code == 200
