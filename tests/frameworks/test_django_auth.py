"""django.contrib.auth over coatcheck: signing in and out, changing the password, keys that are rotated."""

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.backends.base import UpdateError
from django.test import override_settings

from coatcheck import SessionPolicy
from coatcheck.django import SessionStore, sessions
from coatcheck.model.ticket import Handle, Ticket

pytestmark = pytest.mark.django


def handles(user):
    """List the handles of the user's sessions."""
    return {str(info.handle) for info in sessions().list_for(str(user.pk))}


def test_login(open_visitor, ada):
    """A sign-in makes the session the user's, and lists it."""
    visitor = open_visitor().sign_in()

    assert visitor.user == "ada"
    assert handles(ada) == {visitor.handle}


@pytest.mark.requirement("R28")
def test_fixation(open_visitor, server):
    """A sign-in gives a new identifier and a new handle; the ones from before are dead, what was put in stays."""
    visitor, attacker = open_visitor(), open_visitor()
    visitor.post("put", a="1")
    attacker.cookie, before = visitor.cookie, visitor.handle

    visitor.sign_in()

    assert (attacker.user, attacker.attributes) == ("", {})
    assert visitor.attributes == {"a": "1"}
    stored = server.left()
    assert not [key for key in stored if before[3:] in key]


@pytest.mark.requirement("R2")
def test_planted_key(open_visitor):
    """A key that an attacker made up is not the key of the session that signs in with it."""
    visitor = open_visitor()
    visitor.cookie = planted = Ticket.new(Handle.new()).identifier

    visitor.sign_in()

    assert visitor.cookie != planted
    assert not SessionStore().exists(planted)


@pytest.mark.requirement("R12", "R28")
def test_login_again(open_visitor, ada, clock):
    """Who signs in again gets a new identifier, dead is the old one, and both deadlines begin anew."""
    visitor, thief = open_visitor().sign_in(), open_visitor()
    thief.cookie = visitor.cookie
    clock.advance(timedelta(days=13))

    visitor.sign_in()

    assert (thief.user, handles(ada)) == ("", {visitor.handle})
    clock.advance(timedelta(days=13))
    assert visitor.user == "ada"


def test_login_as_another(open_visitor, ada):
    """Who signs in as somebody else gets a session of their own: the former user's ends, with what it held."""
    get_user_model().objects.create_user("bob", password="second")
    visitor = open_visitor().sign_in()
    visitor.post("put", secret="ada's")

    visitor.sign_in("bob", "second")

    assert (visitor.user, visitor.attributes) == ("bob", {})
    assert handles(ada) == set()


@pytest.mark.parametrize("status", [200, 500])
def test_logout(open_visitor, server, status):
    """A sign-out ends the session and removes the cookie, even if the view fails afterwards."""
    visitor, copy = open_visitor().sign_in(), open_visitor()
    copy.cookie = visitor.cookie

    response = visitor.post("sign-out", status=str(status))

    assert response.status_code == status
    assert response.cookies["sessionid"]["max-age"] in {0, "0"}
    assert copy.user == ""
    assert server.left() == []


@pytest.mark.requirement("R55")
def test_logout_of_nobody(open_visitor, server):
    """A sign-out without a session stores nothing and sets no cookie."""
    response = open_visitor().post("sign-out")

    assert "sessionid" not in response.cookies
    assert server.left() == []


@pytest.mark.requirement("R17")
def test_limit(project, open_visitor, ada):
    """A limit counts sign-ins: the third of a user who may have two sessions ends the oldest."""
    with override_settings(COATCHECK={**project, "POLICY": SessionPolicy(limit=2)}):
        first, second, third = (open_visitor().sign_in() for _ in range(3))

        assert first.user == ""
        assert handles(ada) == {second.handle, third.handle}


@pytest.mark.requirement("R17")
def test_limit_of_devices(project, open_visitor, ada):
    """A class of device that is set before login() counts, also where that first empties another user's session."""
    get_user_model().objects.create_user("bob", password="second")
    with override_settings(COATCHECK={**project, "POLICY": SessionPolicy(device_limits={"phone": 1})}):
        desktop, phone, other = (open_visitor() for _ in range(3))
        desktop.post("sign-in", user="ada", password="first", device="desktop")
        phone.post("sign-in", user="ada", password="first", device="phone")
        other.post("sign-in", user="bob", password="second", device="phone")
        other.post("sign-in", user="ada", password="first", device="phone")

        assert (desktop.user, phone.user, other.user) == ("ada", "", "ada")
        assert {info.device for info in sessions().list_for(str(ada.pk))} == {"desktop", "phone"}


@pytest.mark.requirement("R22")
def test_revoke_others(open_visitor, ada):
    """A view that has changed a factor keeps its own browser signed in, with a new cookie, and signs out all others."""
    others, visitor, copy = [open_visitor().sign_in() for _ in range(2)], open_visitor().sign_in(), open_visitor()
    copy.cookie = visitor.cookie

    assert visitor.post("change-factor").json() == {"ended": 2}

    assert [known.user for known in (visitor, copy, *others)] == ["ada", "", "", ""]
    assert handles(ada) == {visitor.handle}


@pytest.mark.requirement("R19")
def test_revoke_all(open_visitor, ada):
    """Ending all of a user's sessions signs the user out everywhere."""
    visitors = [open_visitor().sign_in() for _ in range(3)]

    assert sessions().revoke_all(str(ada.pk)) == 3

    assert [visitor.user for visitor in visitors] == ["", "", ""]


# The password


@pytest.mark.requirement("R22")
def test_password_change(open_visitor, ada):
    """Who changes the password stays signed in; the user's other sessions end at once."""
    here, there = open_visitor().sign_in(), open_visitor().sign_in()

    here.post("change-password", password="second")

    assert handles(ada) == {here.handle}
    assert (here.user, there.user) == ("ada", "")


@pytest.mark.requirement("R28")
def test_password_change_against_thief(open_visitor):
    """A copy of the cookie of the session that changes the password is dead at once."""
    visitor, thief = open_visitor().sign_in(), open_visitor()
    thief.cookie = visitor.cookie

    visitor.post("change-password", password="second")

    assert (visitor.user, thief.user) == ("ada", "")


def test_password_change_elsewhere(open_visitor, ada, server):
    """A session from before a change of password that nobody told us of ends when it is used next."""
    visitor = open_visitor().sign_in()
    ada.set_password("second")
    ada.save()

    assert visitor.user == ""

    assert visitor.cookie is None
    assert server.left() == []


@pytest.mark.requirement("R20")
def test_password_change_after_logout(open_visitor, ada, server, project):
    """A change of password in a session that has ended meanwhile revives nothing."""
    visitor = open_visitor().sign_in()
    store = SessionStore(visitor.cookie)
    store["_auth_user_hash"] = "another"
    sessions().revoke_all(str(ada.pk))

    with pytest.raises(UpdateError):
        store.save()

    assert server.left() == []


# SECRET_KEY


@pytest.mark.requirement("R36")
def test_secret_key_rotation(open_visitor, ada):
    """A new SECRET_KEY with the former one among its fallbacks signs nobody out, on none of their devices."""
    with override_settings(SECRET_KEY="the former key, which is long enough for Django"):
        here, there = open_visitor().sign_in(), open_visitor().sign_in()
    new = {
        "SECRET_KEY": "the new key, which is long enough for Django too",
        "SECRET_KEY_FALLBACKS": ["the former key, which is long enough for Django"],
    }

    with override_settings(**new):
        assert [here.user, there.user, here.user, there.user] == ["ada"] * 4
        assert handles(ada) == {here.handle, there.handle}
    with override_settings(SECRET_KEY=new["SECRET_KEY"]):
        assert [here.user, there.user] == ["ada", "ada"]


@pytest.mark.requirement("R22")
def test_password_change_during_key_rotation(open_visitor, ada):
    """A change of password ends the other sessions also while SECRET_KEY_FALLBACKS are in use."""
    with override_settings(SECRET_KEY="the former key, which is long enough for Django"):
        here, there = open_visitor().sign_in(), open_visitor().sign_in()

    with override_settings(SECRET_KEY_FALLBACKS=["the former key, which is long enough for Django"]):
        here.post("change-password", password="second")

        assert (here.user, there.user) == ("ada", "")
        assert handles(ada) == {here.handle}


def test_remember_me(open_store, clock):
    """An expiry that is set at sign-in holds for the session that the sign-in makes."""
    store = open_store()
    store.set("a", 1)
    store.save()
    clock.advance(timedelta(hours=1))
    store.set("_auth_user_id", "7")
    store.set_expiry(timedelta(days=60))
    store.save()

    lifetime = store.load().absolute_deadline - store.load().created_at
    assert timedelta(days=60) - lifetime < timedelta(minutes=1)
    assert store.load().subject == "7"
