"""What the settings of a Flask app make of its cookie, its keys and its store."""

import pytest
from flask import Flask

import coatcheck
from coatcheck import ConfigurationError, CookiePolicy, Sessions
from coatcheck.flask import SessionInterface, sessions_of
from coatcheck.runtime.key_files import create_key_file
from tests.frameworks.fix_flask import cookie_of

# The cookie


def test_cookie_default(client):
    """The cookie is Secure, HttpOnly, SameSite=Lax, and this host's alone, whatever Flask's defaults are."""
    name, *attributes = cookie_of(client.get("/set/1"))

    assert name.startswith("__Host-session=")
    assert attributes == ["Path=/", "HttpOnly", "SameSite=Lax", "Secure"]


def test_cookie_in_debug(flask_app):
    """A development server on http://localhost needs no https, also where debug is switched on late."""
    flask_app.debug = True

    name, *attributes = cookie_of(flask_app.test_client().get("/set/1"))

    assert name.startswith("session=")
    assert "Secure" not in attributes


@pytest.mark.parametrize(
    ("config", "name", "attribute"),
    [
        ({"SESSION_COOKIE_NAME": "shop"}, "__Host-shop", "Path=/"),
        ({"SESSION_COOKIE_DOMAIN": "example.org"}, "session", "Domain=example.org"),
        ({"SESSION_COOKIE_PATH": "/shop"}, "session", "Path=/shop"),
        ({"APPLICATION_ROOT": "/shop"}, "session", "Path=/shop"),
        ({"SESSION_COOKIE_SAMESITE": "Strict"}, "__Host-session", "SameSite=Strict"),
        ({"SESSION_COOKIE_SAMESITE": "none"}, "__Host-session", "SameSite=None"),
        ({"SESSION_COOKIE_SECURE": True}, "__Host-session", "Secure"),
    ],
)
def test_cookie_settings(make_flask, config, name, attribute):
    """Flask's settings shape the cookie, which stays Secure."""
    app = make_flask(**config)

    pair, *attributes = cookie_of(app.test_client().get("/set/1"))

    assert pair.partition("=")[0] == name
    assert {attribute, "Secure", "HttpOnly"} <= set(attributes)


@pytest.mark.requirement("R3")
@pytest.mark.parametrize(
    "config",
    [
        {"SESSION_COOKIE_HTTPONLY": False},
        {"SESSION_COOKIE_PARTITIONED": True},
        {"SESSION_COOKIE_NAME": "__Host-session"},
        {"SESSION_COOKIE_NAME": "a session"},
        {"SESSION_COOKIE_NAME": "shop", "cookie": CookiePolicy()},
    ],
    ids=["not HttpOnly", "partitioned", "prefixed", "no name", "said twice"],
)
def test_refused_settings(make_flask, config):
    """Settings that cannot be had, or contradict each other, are refused when the app is set up."""
    with pytest.raises(ConfigurationError):
        make_flask(**config)


def test_given_cookie(make_flask):
    """A cookie policy that the app gives is used as it is, also in debug mode."""
    app = make_flask(cookie=CookiePolicy(name="shop"), DEBUG=True)

    assert cookie_of(app.test_client().get("/set/1"))[0].startswith("__Host-shop=")


def test_sessions_and_url(server, key):
    """Sessions, and what to make others of, are not given together."""
    text = "^give SessionInterface either sessions, or url, keys, policy and prefix$"
    with Sessions(server.url, keys=key) as sessions, pytest.raises(ConfigurationError, match=text):
        SessionInterface(Flask(__name__), sessions=sessions, url=server.url)


# Keys


@pytest.fixture
def make_keyed(server, monkeypatch):
    """Give a function that makes an app on the server, with keys only from what the test gives it."""
    monkeypatch.delenv("COATCHECK_KEYS", raising=False)
    opened = []

    def make(secret_key, fallbacks=None, **options):
        app = Flask(__name__)
        app.config.update(SECRET_KEY=secret_key, SECRET_KEY_FALLBACKS=fallbacks)
        opened.append(SessionInterface(app, url=server.url, **options).sessions)
        return opened[-1]

    yield make
    for sessions in opened:
        sessions.close()


def test_secret_key(make_keyed):
    """Apps with the same SECRET_KEY share sessions."""
    identifier = make_keyed("secret").create({"a": 1}).identifier

    assert dict(make_keyed("secret").load(identifier)) == {"a": 1}


@pytest.mark.requirement("R36")
def test_secret_key_rotation(make_keyed):
    """A new SECRET_KEY logs nobody out while the former one is among SECRET_KEY_FALLBACKS."""
    identifier = make_keyed("former").create({"a": 1}).identifier

    assert dict(make_keyed("secret", ["former"]).load(identifier)) == {"a": 1}
    assert make_keyed("secret").load(identifier) is None


def test_given_keys(make_keyed, monkeypatch):
    """Keys that are given, as an argument or by COATCHECK_KEYS, come before SECRET_KEY."""
    key = coatcheck.new_key()
    identifier = make_keyed("one", keys=key).create({"a": 1}).identifier
    monkeypatch.setenv("COATCHECK_KEYS", key)

    assert dict(make_keyed("two").load(identifier)) == {"a": 1}


def test_key_file(make_keyed, monkeypatch, tmp_path):
    """Keys of a file, given by COATCHECK_KEYS_FILE or as a path, come before SECRET_KEY."""
    path = tmp_path / "keys"
    create_key_file(path)
    identifier = make_keyed("one", keys=path).create({"a": 1}).identifier
    monkeypatch.setenv("COATCHECK_KEYS_FILE", str(path))

    assert dict(make_keyed("two").load(identifier)) == {"a": 1}


def test_no_key(make_keyed):
    """Without any key, and a store that has none of its own, the app is refused when it is set up."""
    with pytest.raises(ConfigurationError, match="COATCHECK_KEYS"):
        make_keyed(None)


# Several apps in a process


def test_two_apps(make_flask, server):
    """Two apps of a factory share a process and a server, and nothing else."""
    shop, forum = (make_flask(prefix=name, SESSION_COOKIE_NAME=name) for name in ("shop", "forum"))
    cookies = [cookie_of(app.test_client().get("/set/1"))[0] for app in (shop, forum)]

    assert [cookie.partition("=")[0] for cookie in cookies] == ["__Host-shop", "__Host-forum"]
    assert {key.partition(":")[0] for key in map(bytes.decode, server.client.keys())} == {"forum", "shop"}
    assert sessions_of(shop) is not sessions_of(forum)


def test_two_apps_share(make_flask):
    """Two apps with the same key and prefix share their sessions."""
    first, second = make_flask(), make_flask()
    cookie = cookie_of(first.test_client().get("/set/1"))[0]

    assert second.test_client(use_cookies=False).get("/get", headers={"Cookie": cookie}).json == {"a": "1"}


@pytest.mark.parametrize(
    ("secret", "fallbacks", "said"),
    [("short", None, 5), ("s" * 16, [b"old"], 3), ("ä" * 8, None, None), (b"s" * 16, ["o" * 16], None)],
)
def test_short_secret_key(make_keyed, caplog, secret, fallbacks, said):
    """A SECRET_KEY that is too short to make a sealing key from is told once, in the log, and not shown."""
    make_keyed(secret, fallbacks)

    told = [record.getMessage() for record in caplog.records if "session_secret_key_short" in record.getMessage()]
    assert [f"one of these has {said} bytes" in text for text in told] == [True] * (said is not None)
    assert "old" not in "".join(told)
    assert "'short'" not in "".join(told)


def test_short_secret_key_beside_keys(make_keyed, caplog, monkeypatch, key):
    """Where the keys come from elsewhere, SECRET_KEY may be what it is."""
    monkeypatch.setenv("COATCHECK_KEYS", key)
    make_keyed("short")

    assert not caplog.records
