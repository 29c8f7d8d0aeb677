"""Where the store is: how addresses are read, refused and shown."""

import pytest

import coatcheck
from coatcheck import ConfigurationError
from coatcheck.runtime.address import Address, prefix_or_default

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """Let no setting of the machine into the tests."""
    for name in ("COATCHECK_URL", "COATCHECK_KEYS", "COATCHECK_PREFIX"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("redis://h:1/2", "redis://h:1/2"),
        ("valkey://h:1/2", "redis://h:1/2"),
        ("valkeys://h", "rediss://h"),
        ("rediss://h", "rediss://h"),
        ("unix:///run/s.sock?db=3", "unix:///run/s.sock?db=3"),
    ],
)
def test_urls(given, used):
    """The valkey schemes are twins of the redis ones; the rest of a URL is redis-py's."""
    assert Address(given).url() == used


def test_url_from_the_environment(monkeypatch):
    """COATCHECK_URL stands in for a URL that was not given, and only then."""
    monkeypatch.setenv("COATCHECK_URL", "redis://there")

    assert Address().url() == "redis://there"
    assert Address("redis://here").url() == "redis://here"


def test_prefix_from_the_environment(monkeypatch):
    """COATCHECK_PREFIX stands in for a prefix that was not given; without both it is cc."""
    assert prefix_or_default(None) == "cc"
    monkeypatch.setenv("COATCHECK_PREFIX", "shop")

    assert prefix_or_default(None) == "shop"
    assert prefix_or_default("other") == "other"


def test_embedded_is_the_default(tmp_path, monkeypatch):
    """Without any setting the store is the embedded one."""
    monkeypatch.setenv("HOME", str(tmp_path))

    assert str(Address()).startswith("embedded:///")


@pytest.mark.parametrize("url", ["memcached://h", "http://h", "rdis://h", "cluster://h", "sentinel://h/m"])
def test_unknown_kind_of_store(url):
    """A scheme that is none of ours is refused, with the list of those that are."""
    scheme = url.partition(":")[0]
    expected = (
        f"{scheme}: no such kind of store{' yet' if scheme in {'cluster', 'sentinel'} else ''}; use one of "
        "redis://, rediss://, unix://, valkey://, valkeys://, embedded://"
    )
    with pytest.raises(ConfigurationError) as refused:
        Address(url)

    assert str(refused.value) == expected


@pytest.mark.parametrize("url", ["localhost", "localhost:6379", f"user:{SECRET}@host", "redis:/h"])
def test_no_url_at_all(url):
    """What has no scheme is refused without repeating it: it may hold a password."""
    with pytest.raises(
        ConfigurationError, match=r"^the address has no scheme: write redis://host:port, or another of redis://"
    ):
        Address(url)


def test_embedded_with_two_slashes():
    """A folder written with two slashes is refused, with how to write it."""
    with pytest.raises(ConfigurationError) as refused:
        Address("embedded://var/lib/x")

    assert "embedded:///var" in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}@h:1/0",
        f"redis://user:{SECRET}@h:1/0",
        f"redis://h:1/0?password={SECRET}",
        f"rediss://h:1/0?username=u&password={SECRET}",
        f"valkey://user:{SECRET}@h:1/0",
        f"unix://user:{SECRET}@/run/s.sock",
        f"unix:///run/s.sock?password={SECRET}",
        f"redis://user:p@{SECRET}@h:1",
    ],
)
def test_password_is_not_shown(url):
    """An address is shown without user, password and options."""
    shown = str(Address(url))

    assert SECRET not in shown
    assert "user" not in shown
    assert "?" not in shown


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}/slash@h:1/0",
        f"redis://:{SECRET}?mark@h:1/0",
        f"redis://:{SECRET}#hash@h:1/0",
        f"redis://user:{SECRET}/slash@h:1/0",
        f"redis://h:{SECRET}/0",
        f"redis://[{SECRET}/0",
        f"user:{SECRET}@redis://h",
    ],
)
def test_broken_url(url):
    """A URL that does not parse, as with a password that is not percent-encoded, is refused and not repeated."""
    with pytest.raises(ConfigurationError) as refused:
        Address(url)

    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize("option", ["max_connections=many", "socket_timeout=soon", "db=first"])
def test_bad_option(option):
    """An option in a URL that cannot be read is refused at once."""
    with pytest.raises(ConfigurationError, match="the redis:// address cannot be read: see that its port and options"):
        Address(f"redis://h?{option}")


def test_store_that_is_not_ours_needs_keys():
    """A server without a sealing key is refused before anything is sent; the text says how to make one."""
    with pytest.raises(ConfigurationError) as refused:
        coatcheck.Sessions("redis://127.0.0.1:1")

    assert str(refused.value) == (
        "sessions are stored sealed, and there is no key to seal them with: set COATCHECK_KEYS, or pass keys=... "
        "Make a key with: python -c 'import coatcheck; print(coatcheck.new_key())'"
    )


def test_keys_from_the_environment(monkeypatch, key):
    """COATCHECK_KEYS stands in for keys that were not given."""
    monkeypatch.setenv("COATCHECK_KEYS", f"{coatcheck.new_key()}, {key}")

    assert len(Address("redis://h").keyring(None).keys) == 2


@pytest.mark.parametrize("keys", ["secret", "cck_short", ["cck_" + "A" * 42], "cck_" + "!" * 43])
def test_malformed_keys(keys):
    """A key that is none is refused without repeating it, with how to make one."""
    with pytest.raises(ConfigurationError) as refused:
        coatcheck.AsyncSessions("redis://h", keys=keys)

    assert str(refused.value) == (
        "a sealing key is 'cck_' and 43 characters; make one with: "
        "python -c 'import coatcheck; print(coatcheck.new_key())'"
    )


@pytest.mark.parametrize("keys", [[], ",", ()])
def test_no_keys(keys):
    """An empty list of keys is no way around the need for one."""
    with pytest.raises(ConfigurationError):
        coatcheck.Sessions("redis://h", keys=keys)
