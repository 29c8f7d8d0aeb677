"""What only a user who has authenticated recently, or strongly enough, may do: in every framework, over real HTTP."""

import pytest

RECENT = 'Bearer error="insufficient_user_authentication", error_description="Authenticate again", max_age="300"'


def refused(answer):
    """Give the challenge of a refusal."""
    assert answer.status_code == 401, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers
    return answer.headers["www-authenticate"]


@pytest.mark.requirement("R32")
def test_anonymous(app):
    """Somebody who has not signed in is asked to, with the challenge of RFC 9470."""
    assert refused(app.browser().get("/fresh")) == RECENT


@pytest.mark.requirement("R32")
def test_signed_in(app):
    """Who has just signed in may go on."""
    assert app.signed_in().get("/fresh").json() == {"ok": True}


@pytest.mark.requirement("R32")
def test_too_long_ago(app):
    """Who signed in longer ago than is allowed is asked to authenticate again, and stays signed in."""
    browser = app.signed_in()

    assert 'max_age="0"' in refused(browser.get("/this-moment"))

    assert browser.attributes["user_id"] == "ada"


@pytest.mark.requirement("R32")
def test_step_up(app):
    """Who signed in too weakly is asked for more; after the step-up the session has another identifier, and may."""
    browser = app.signed_in()
    assert refused(browser.get("/strong")) == f'{RECENT}, acr_values="aal2 aal3"'
    weak = browser.cookie

    browser.post("/step-up")

    assert browser.get("/strong").json() == {"ok": True}
    assert browser.attributes["device"] == "laptop"
    assert app.browser(weak).attributes == {}
