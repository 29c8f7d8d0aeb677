"""Django's session as SessionBase documents it, by its methods and by its a-methods."""

import logging
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.core.exceptions import SynchronousOnlyOperation
from django.core.management import call_command
from django.test import override_settings

from coatcheck import SessionPolicy
from coatcheck.django import SessionStore, sessions
from coatcheck.model.ticket import Handle, Ticket

pytestmark = pytest.mark.django

DAY = 24 * 3600


@pytest.fixture
def store(open_store):
    """Give a new session."""
    return open_store()


@pytest.fixture
def saved(open_store):
    """Give a session that holds a=1 and was saved."""
    store = open_store()
    store.set("a", 1)
    store.save()
    return store


# The mapping


def test_new(store):
    """A new session has no key, is empty, and was neither accessed nor modified."""
    assert store.session_key is None
    assert store.is_empty()
    assert (store.accessed, store.modified) == (False, False)


@pytest.mark.parametrize(
    ("method", "arguments", "result"),
    [
        ("get", ("a",), 1),
        ("get", ("b", "default"), "default"),
        ("has_key", ("a",), True),
        ("has_key", ("b",), False),
        ("setdefault", ("a", 2), 1),
        ("test_cookie_worked", (), False),
        ("get_expiry_age", (), 14 * DAY),
        ("get_expire_at_browser_close", (), False),
    ],
)
def test_reading(open_store, saved, method, arguments, result):
    """What reads gives what is stored, and marks the session as accessed, not as modified."""
    store = open_store(saved.session_key)

    assert getattr(store, method)(*arguments) == result
    assert (store.accessed, store.modified) == (True, False)


@pytest.mark.parametrize(("method", "result"), [("keys", ["a"]), ("values", [1]), ("items", [("a", 1)])])
def test_views(open_store, saved, method, result):
    """Keys, values and items are those that are stored."""
    assert list(getattr(open_store(saved.session_key), method)()) == result


@pytest.mark.parametrize(
    ("method", "arguments", "after"),
    [
        ("set", ("b", 2), {"a": 1, "b": 2}),
        ("setdefault", ("b", 2), {"a": 1, "b": 2}),
        ("update", ({"a": 2, "b": 3},), {"a": 2, "b": 3}),
        ("set_test_cookie", (), {"a": 1, "testcookie": "worked"}),
        ("set", ("c", {"d": [1, (2,)]}), {"a": 1, "c": {"d": [1, (2,)]}}),
    ],
)
def test_writing(open_store, saved, method, arguments, after):
    """What writes marks the session as modified, and once it is saved every process finds it."""
    store = open_store(saved.session_key)

    getattr(store, method)(*arguments)
    assert (store.accessed, store.modified) == (True, True)
    store.save()

    assert dict(open_store(saved.session_key).items()) == after


def test_pop(open_store, saved):
    """Pop gives the value and takes the attribute out; a missing one gives the default, or a KeyError."""
    store = open_store(saved.session_key)

    assert store.pop("b", "default") == "default"
    assert not store.modified
    with pytest.raises(KeyError):
        store.pop("b")
    assert store.pop("a") == 1
    assert store.modified
    assert not store.has_key("a")


def test_test_cookie(store):
    """The test cookie has worked while it is there."""
    store.set_test_cookie()
    assert store.test_cookie_worked()

    store.delete_test_cookie()

    assert not store.test_cookie_worked()


def test_what_the_base_gives(project):
    """A session has whatever SessionBase gives each of its own, and encodes and decodes with the same serializer."""
    store = SessionStore()

    assert all(hasattr(store, name) for name in vars(SessionBase()) if not name.startswith("_SessionBase__"))
    assert store.decode(store.encode({"a": 1})) == {"a": 1}


def test_subscript(project):
    """The synchronous session reads, writes and deletes by subscript, and knows what is in it."""
    store = SessionStore()
    store["a"] = 1

    assert store["a"] == 1
    assert "a" in store
    del store["a"]
    assert "a" not in store
    with pytest.raises(KeyError):
        store["a"]


# Better than Django: changes in parallel and inside values


@pytest.mark.requirement("R38")
def test_changes_in_parallel(open_store, saved):
    """Two requests that change different attributes both win."""
    one, other = open_store(saved.session_key), open_store(saved.session_key)
    one.set("b", 2)
    other.set("c", 3)

    one.save()
    other.save()

    assert dict(open_store(saved.session_key).items()) == {"a": 1, "b": 2, "c": 3}


def test_nested_change(open_store, store):
    """A change inside a value marks the session as modified and is saved."""
    store.set("cart", {"items": []})
    store.save()
    later = open_store(store.session_key)

    later.get("cart")["items"].append("book")
    assert later.modified
    later.save()

    assert open_store(store.session_key).get("cart") == {"items": ["book"]}


def test_full_session(saved, open_store):
    """What load gives is the full session: increments, handle."""
    store = open_store(saved.session_key)

    store.load().increment("a", 2)
    store.save()

    assert open_store(saved.session_key).get("a") == 3
    assert str(store.load().handle) not in saved.session_key


# Keys


def test_save_makes_key(saved, open_store):
    """A saved session has a key, and the key opens it."""
    assert saved.exists(saved.session_key)
    assert open_store(saved.session_key).get("a") == 1


def test_save_empty(store, server):
    """A session that the application saves is stored, even if it is empty."""
    store.save()

    assert store.exists(store.session_key)
    assert len(server.left()) == 1


@pytest.mark.requirement("R13")
def test_save_with_ttl(saved, server):
    """What is stored goes by itself one day."""
    assert server.left()
    assert server.keys_without_ttl() == []


def test_create(store):
    """A created session is stored under a new key, and what it held is in it."""
    store.set("a", 1)
    store.create()
    first = store.session_key
    store.create()

    assert store.session_key != first
    assert store.exists(first)
    assert store.get("a") == 1


def test_must_create(saved):
    """Save(must_create=True) refuses a session that is stored already."""
    with pytest.raises(CreateError):
        saved.save(must_create=True)


def test_must_create_new(store):
    """Save(must_create=True) stores a new one."""
    store.save(must_create=True)

    assert store.exists(store.session_key)


@pytest.mark.requirement("R2")
def test_unknown_key(open_store, server):
    """A well-formed key that nobody was given is not adopted: reading drops it, writing makes another."""
    chosen = Ticket.new(Handle.new())
    store = open_store(chosen.identifier)
    store.load()
    assert store.session_key is None

    store.set("a", 1)
    store.save()

    assert store.session_key != chosen.identifier
    stored = server.left()
    assert not [key for key in stored if chosen.handle.name in key]


@pytest.mark.requirement("R55")
@pytest.mark.parametrize("key", ["", "1", "a" * 32, "ü" * 51, "../../etc/passwd", "A" * 51, "x" * 5000])
def test_malformed_key(open_store, server, key):
    """A malformed key counts as none, and the store hears nothing of it."""
    with server.commands() as commands:
        store = open_store(key)
        assert (store.session_key, dict(store.items()), store.exists(key)) == (None, {}, False)
        store.delete(key)

    assert commands == []


def test_cycle_key(open_store, saved, clock):
    """A cycled session keeps what it holds under a new key; the former one dies with the grace."""
    former = saved.session_key
    saved.cycle_key()
    saved.save()

    assert saved.session_key != former
    assert dict(open_store(saved.session_key).items()) == {"a": 1}
    clock.advance(timedelta(seconds=11))
    assert not saved.exists(former)


def test_cycle_key_without_grace(project, open_store):
    """With a policy without grace the former key dies at once."""
    with override_settings(COATCHECK={**project, "POLICY": SessionPolicy(rotation_grace=timedelta(0))}):
        store = open_store()
        store.set("a", 1)
        store.save()
        former = store.session_key

        store.cycle_key()
        store.save()

        assert store.exists(store.session_key)
        assert not store.exists(former)


# The end


def test_delete(saved, server):
    """A deleted session is gone; saving it raises and does not bring it back."""
    key = saved.session_key
    saved.delete()

    assert not saved.exists(key)
    with pytest.raises(UpdateError):
        saved.save()
    assert server.left() == []


def test_delete_by_key(store, saved):
    """A session can be deleted by its key."""
    store.delete(saved.session_key)

    assert not store.exists(saved.session_key)


@pytest.mark.requirement("R20")
@pytest.mark.parametrize("change", [lambda store: store.set("b", 2), lambda store: store.cycle_key()])
def test_save_after_end(open_store, saved, server, change):
    """Saving a session that another request has ended raises UpdateError and does not revive it."""
    store = open_store(saved.session_key)
    change(store)
    saved.flush()

    with pytest.raises(UpdateError):
        store.save()

    assert server.left() == []


def test_flush(open_store, saved, server):
    """A flushed session has ended at once; what comes after belongs to a new one."""
    former = saved.session_key
    saved.flush()
    assert (saved.session_key, saved.is_empty(), server.left()) == (None, True, [])

    saved.set("b", 2)
    saved.save()

    assert saved.session_key != former
    assert dict(open_store(saved.session_key).items()) == {"b": 2}


@pytest.mark.requirement("R23")
def test_flush_with_forged_key(open_store, saved):
    """A key with the right handle and another secret ends nobody's session."""
    forged = Ticket.new(saved.load().handle).identifier
    forger = open_store(forged)

    forger.flush()
    forger.delete(forged)

    assert saved.exists(saved.session_key)


def test_clear(open_store, saved, server):
    """Clear needs no loading, even in asynchronous code; a session that is left with nothing ends when it is saved."""
    store = open_store(saved.session_key)
    with server.commands() as commands:
        store.clear()
    assert commands == []
    assert store.modified

    store.save()

    assert not store.exists(saved.session_key)


def test_clear_then_write(open_store, saved):
    """What is written after a clear is all that is left."""
    store = open_store(saved.session_key)
    store.clear()
    store.set("b", 2)
    store.save()

    assert dict(open_store(saved.session_key).items()) == {"b": 2}


# Expiry


def test_expiry_in_seconds(open_store, store, clock):
    """An expiry in seconds ends the session after so much inactivity, and no sooner."""
    store.set_expiry(300)
    store.set("a", 1)
    store.save()
    assert store.get_expiry_age() == 300

    for _ in range(3):
        clock.advance(timedelta(seconds=200))
        later = open_store(store.session_key)
        assert later.get("a") == 1
        later.set("n", clock.moved)
        later.save()
    clock.advance(timedelta(seconds=301))

    assert not store.exists(store.session_key)


def test_long_expiry(store, clock):
    """An expiry beyond the absolute timeout raises that ("remember me")."""
    store.set_expiry(90 * DAY)
    store.set("a", 1)
    store.save()

    clock.advance(timedelta(days=89))

    assert store.exists(store.session_key)


@pytest.mark.requirement("R11")
@pytest.mark.parametrize("at", [lambda: timedelta(hours=1), lambda: datetime.now(UTC) + timedelta(hours=1)])
def test_expiry_at_date(open_store, store, clock, at):
    """A date, or a timedelta, ends the session then, used or not."""
    store.set_expiry(at())
    store.set("a", 1)
    store.save()
    assert 3590 <= store.get_expiry_age() <= 3600
    assert abs(store.get_expiry_date() - datetime.now(UTC) - timedelta(hours=1)) < timedelta(seconds=10)

    clock.advance(timedelta(minutes=50))
    later = open_store(store.session_key)
    later.set("b", 2)
    later.save()
    assert later.exists(store.session_key)
    clock.advance(timedelta(minutes=11))

    assert not store.exists(store.session_key)


def test_expiry_at_naive_date(store):
    """Without USE_TZ, dates are naive and in the project's time zone."""
    with override_settings(USE_TZ=False, TIME_ZONE="America/Chicago"):
        store.set_expiry(timedelta(hours=1))
        store.set("a", 1)
        store.save()

        left = store.load().absolute_deadline - datetime.now(UTC)
        assert timedelta(minutes=59) < left <= timedelta(hours=1, seconds=1)


def test_expiry_of_stored(store):
    """An expiry that is set later counts from when the session was created."""
    store.set("a", 1)
    store.save()
    store.set_expiry(timedelta(hours=1))
    store.save()

    left = store.load().absolute_deadline - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1, seconds=1)


@pytest.mark.requirement("R39")
@pytest.mark.parametrize("expiry", [0, 300, timedelta(hours=1)])
def test_expiry_written_once(open_store, store, server, expiry):
    """A session with an expiry of its own is not written again by who only reads it."""
    store.set_expiry(expiry)
    store.set("a", 1)
    store.save()
    later = open_store(store.session_key)

    with server.commands() as commands:
        later.get("a")
        later.save()

    assert [command.partition(" ")[0] for command in commands if command != "TIME"] == ["MGET"]


def test_expiry_and_timeouts(open_store, store):
    """Timeouts that are set by hand after an expiry stand."""
    store.set_expiry(300)
    store.set("a", 1)
    store.save()
    store.load().set_timeouts(idle=timedelta(minutes=20))
    store.save()

    later = open_store(store.session_key)
    later.set("b", 2)
    later.save()

    assert later.load().idle_timeout == timedelta(minutes=20)


@pytest.mark.parametrize("expiry", [-1, timedelta(seconds=-1), datetime(2020, 1, 1, tzinfo=UTC)])
def test_expiry_in_the_past(saved, server, expiry):
    """An expiry that has passed ends the session."""
    saved.set_expiry(expiry)
    saved.save()

    assert server.left() == []


def test_expiry_at_browser_close(open_store, store):
    """An expiry of 0 lets the cookie go with the browser; the server's timeouts stay."""
    store.set_expiry(0)
    store.set("a", 1)
    store.save()

    later = open_store(store.session_key)
    assert later.get_expire_at_browser_close()
    assert not later.load().persistent
    assert later.get_expiry_age() == 14 * DAY


def test_expiry_taken_back(open_store, store):
    """An expiry of None gives the timeouts of the project back."""
    store.set_expiry(0)
    store.set("a", 1)
    store.save()
    later = open_store(store.session_key)
    later.set_expiry(60)
    later.save()

    last = open_store(store.session_key)
    last.set_expiry(None)
    last.save()

    assert (last.load().idle_timeout, last.load().persistent) == (timedelta(days=14), True)
    assert (last.get_expiry_age(), last.get_expire_at_browser_close()) == (14 * DAY, False)


def test_expiry_without_loading(store, server):
    """Asked about a given expiry, the session is not loaded."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)

    assert store.get_expiry_age(expiry=10, modification=moment) == 10
    assert store.get_expiry_age(expiry=moment + timedelta(hours=1), modification=moment) == 3600
    assert store.get_expiry_date(expiry=10, modification=moment) == moment + timedelta(seconds=10)
    assert not store.accessed


# Settings


@pytest.mark.parametrize(
    ("settings", "idle", "absolute", "persistent"),
    [
        ({}, 14, 14, True),
        ({"SESSION_COOKIE_AGE": DAY}, 1, 1, True),
        ({"SESSION_COOKIE_AGE": DAY, "SESSION_SAVE_EVERY_REQUEST": True}, 1, 30, True),
        ({"SESSION_COOKIE_AGE": 60 * DAY, "SESSION_SAVE_EVERY_REQUEST": True}, 60, 60, True),
        ({"SESSION_EXPIRE_AT_BROWSER_CLOSE": True}, 14, 14, False),
    ],
)
def test_django_settings(project, settings, idle, absolute, persistent):
    """Without a policy, Django's settings say how long a session lasts."""
    with override_settings(**settings):
        store = SessionStore()
        store["a"] = 1
        store.save()

    session = store.session
    assert (session.idle_timeout.days, session.absolute_timeout.days) == (idle, absolute)
    assert session.persistent is persistent


def test_policy(project):
    """A policy wins over Django's settings."""
    policy = SessionPolicy(idle_timeout=timedelta(minutes=5), persistent=False)
    with override_settings(COATCHECK={**project, "POLICY": policy}):
        store = SessionStore()

        assert store.get_expiry_age() == 300
        assert store.get_expire_at_browser_close()
        assert sessions().policy.subject_attribute == "_auth_user_id"


@pytest.mark.requirement("R36")
def test_secret_key_rotation(project):
    """A session of a former SECRET_KEY opens while that is a fallback, and is sealed anew when it changes."""
    with override_settings(SECRET_KEY="the former key"):
        store = SessionStore()
        store["a"] = 1
        store.save()
    with override_settings(SECRET_KEY="the new key", SECRET_KEY_FALLBACKS=["the former key"]):
        later = SessionStore(store.session_key)
        later["b"] = 2
        later.save()

    with override_settings(SECRET_KEY="the new key"):
        assert dict(SessionStore(store.session_key).items()) == {"a": 1, "b": 2}


# Both kinds of code in one process


def test_blocking_refused(saved, project, loop):
    """In a coroutine, what would block the event loop to load the session is refused; what needs no loading is not."""

    async def view():
        store = SessionStore(saved.session_key)
        with pytest.raises(SynchronousOnlyOperation, match="asession"):
            store.get("a")
        await store.asession()
        return store.get("a")

    assert loop.run_until_complete(view()) == 1


@pytest.fixture
def expired(open_store, clock, server):
    """Give a session that has expired while its user's index still lists it."""
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        store = open_store()
        store.set("_auth_user_id", "7")
        store.save()
        clock.advance(timedelta(days=15))
        stored = server.left()
        assert [key for key in stored if ":u:" in key]
        yield store


def test_clear_expired(expired, server):
    """Clearing what has expired leaves nothing of it in the user's index."""
    expired.clear_expired()

    assert server.left() == []


def test_clearsessions(expired, server):
    """`manage.py clearsessions` does so."""
    call_command("clearsessions")

    assert server.left() == []


@pytest.mark.requirement("R60")
def test_nothing_secret_logged(open_store, caplog):
    """Nothing of the key is logged, and the repr does not show it."""
    with caplog.at_level(logging.DEBUG):
        store = open_store()
        store.set("_auth_user_id", "7")
        store.save()
        keys = [store.session_key]
        store.cycle_key()
        store.save()
        keys.append(store.session_key)
        text = repr(store.load())
        store.flush()

    shown = text + caplog.text + "".join(repr(vars(record)) for record in caplog.records)
    assert not [key for key in keys if key[-32:] in shown]
    assert "session_revoked" in shown
