"""Where the store is: how addresses are read, refused and shown."""

from datetime import timedelta

import pytest

import coatcheck
from coatcheck import ConfigurationError
from coatcheck.runtime.address import Address, Kind, prefix_or_default
from coatcheck.runtime.settings import Settings

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """Let no setting of the machine into the tests."""
    for name in ("COATCHECK_URL", "COATCHECK_KEYS", "COATCHECK_PREFIX"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "shown", "seeds", "has_tls", "options"),
    [
        ("redis://h:1/2", "redis://h:1/2", [("h", 1)], False, {"db": 2}),
        ("valkey://h:1/2", "redis://h:1/2", [("h", 1)], False, {"db": 2}),
        ("valkeys://h", "rediss://h", [("h", 6379)], True, {}),
        ("rediss://[::1]:7", "rediss://[::1]:7", [("::1", 7)], True, {}),
        ("unix:///run/s.sock?db=3", "unix:///run/s.sock", [("/run/s.sock", 0)], False, {"db": 3}),
    ],
)
def test_urls(given, shown, seeds, has_tls, options):
    """The valkey schemes are twins of the redis ones; the rest of a URL is redis-py's."""
    address = Address(given)

    assert (str(address), list(address.seeds), address.has_tls) == (shown, seeds, has_tls)
    assert address.options == options
    assert address.kind is Kind.SINGLE


SEVERAL = [
    ("sentinel://h1/main", Kind.SENTINEL, False, [("h1", 26379)], {}),
    ("sentinel://h1:1,h2:2,h3/main/4", Kind.SENTINEL, False, [("h1", 1), ("h2", 2), ("h3", 26379)], {"db": 4}),
    ("sentinels://[::1]:1,[2001:db8::2]/main/", Kind.SENTINEL, True, [("::1", 1), ("2001:db8::2", 26379)], {}),
    ("valkeys+sentinel://h1/main", Kind.SENTINEL, True, [("h1", 26379)], {}),
    ("redis+sentinel://h1/main", Kind.SENTINEL, False, [("h1", 26379)], {}),
    ("cluster://h1:1,h2", Kind.CLUSTER, False, [("h1", 1), ("h2", 6379)], {}),
    ("clusters://h1/", Kind.CLUSTER, True, [("h1", 6379)], {}),
    ("cluster://[::1]:7?deadline=1", Kind.CLUSTER, False, [("::1", 7)], {"deadline": "1"}),
    ("valkey+cluster://h1", Kind.CLUSTER, False, [("h1", 6379)], {}),
    ("rediss+cluster://h1/0", Kind.CLUSTER, True, [("h1", 6379)], {}),
]


@pytest.mark.parametrize(("given", "kind", "has_tls", "seeds", "options"), SEVERAL)
def test_several_hosts(given, kind, has_tls, seeds, options):
    """Sentinels and nodes are named with commas between, each with its port or the usual one."""
    address = Address(given)

    assert (address.kind, address.has_tls, list(address.seeds)) == (kind, has_tls, seeds)
    assert address.options == options
    assert address.service == ("main" if kind is Kind.SENTINEL else "")


def test_login_of_several_hosts():
    """User and password stand once, before all hosts; Sentinel's own are options."""
    settings = Settings.read(
        Address("sentinels://ada:p%2Fw@h1,h2/main/3?sentinel_username=s&sentinel_password=sp&ssl_ca_certs=ca"), {}
    )

    assert {"username": "ada", "password": "p/w", "db": 3}.items() <= settings.connection.items()
    assert {"username": "s", "password": "sp", "ssl_ca_certs": "ca"}.items() <= settings.sentinel.items()
    assert "db" not in settings.sentinel
    assert "p/w" not in repr(settings)


def test_sentinel_gets_no_login_of_the_servers():
    """Sentinel is not told the password of the servers."""
    settings = Settings.read(Address("sentinel://ada:pw@h1/main"), {})

    assert not {"username", "password"} & settings.sentinel.keys()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (
            "sentinel://h1,h2",
            (
                "sentinel://: say which primary is meant, by the name that Sentinel has for it: "
                "sentinel://host1:26379,host2:26379/name"
            ),
        ),
        (
            "sentinel://h1/main/first",
            (
                "sentinel://: after the primary's name there is place for the number of a database only: "
                "sentinel://host1:26379,host2:26379/name/0"
            ),
        ),
        (
            "sentinels://h1,,h2/main",
            "sentinels://: write the hosts with commas between: sentinels://host1:26379,host2:26379",
        ),
        ("cluster://", "cluster://: write the hosts with commas between: cluster://host1:6379,host2:6379"),
        (
            "clusters://::1/",
            "clusters://: an IPv6 address is written in brackets: clusters://[2001:db8::1]:6379,[2001:db8::2]:6379",
        ),
        (
            "cluster://h1/3",
            "cluster://: a Cluster has no services and no databases by number: nothing follows the hosts but ?options",
        ),
        (
            "redis://h/abc",
            "redis://: after the host there is place for the number of a database only: redis://host:6379/0",
        ),
        (
            "valkeys://h:1/0/1?db=2",
            "valkeys://: after the host there is place for the number of a database only: valkeys://host:6379/0",
        ),
        (
            "unix://",
            "unix://: write the path of the socket after three slashes: unix:///run/redis.sock",
        ),
    ],
)
def test_wrong_form(url, text):
    """A URL that lacks something, or has too much, is refused with how to write it."""
    with pytest.raises(ConfigurationError) as refused:
        Address(url)

    assert str(refused.value) == text


@pytest.mark.parametrize("url", ["cluster://h1:port", "sentinel://h1:0/main", "cluster://h1:65536", "cluster://[::1/"])
def test_wrong_port(url):
    """A port that is none is refused."""
    with pytest.raises(
        ConfigurationError, match=r"^the (cluster|sentinel):// address cannot be read: see that its port"
    ):
        Address(url)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"deadline": 0}, "deadline must be longer than nothing: a timedelta, or a number of seconds"),
        ({"deadline": "soon"}, "deadline must be longer than nothing: a timedelta, or a number of seconds"),
        ({"socket_timeout": timedelta(0) - timedelta(1)}, "socket_timeout must be longer than nothing: "),
        ({"max_connections": -1}, "max_connections must be a number of connections, at least 1"),
        ({"timeout": 2}, "timeout cannot be set: the deadline covers waiting for a connection. Leave it out"),
        ({"retry": None}, "retry cannot be set: what is sent again, and when, is decided within the deadline."),
        ({"decode_responses": True}, "decode_responses cannot be set: replies are read as bytes. Leave it out"),
        ({"sentinel_password": "x"}, "sentinel_password is for a sentinel:// address; leave it out"),
        ({"ssl_ca": "ca.pem"}, "there is no option ssl_ca for redis://h"),
        (
            {"ssl_ca_certs": "ca.pem"},
            "ssl_ca_certs is for TLS, and redis://h is without: write rediss://, or leave it out",
        ),
        ({"sentinel_lease": 3}, "sentinel_lease is for a sentinel:// address; leave it out"),
    ],
)
def test_wrong_settings(options, text):
    """A setting that cannot be is refused with the reason."""
    with pytest.raises(ConfigurationError) as refused:
        Settings.read(Address("redis://h"), options)

    assert str(refused.value).startswith(text)


@pytest.mark.parametrize(
    ("url", "option", "remedy"),
    [
        ("sentinel://h/main", "sentinel_ssl_ca_certs", "sentinels://"),
        ("cluster://h", "ssl_keyfile", "clusters://"),
    ],
)
def test_tls_options_without_tls(url, option, remedy):
    """What is for TLS is refused where there is none, with the scheme that has it."""
    with pytest.raises(ConfigurationError, match=f"^{option} is for TLS, and .* is without: write {remedy}, or leave"):
        Settings.read(Address(url), {option: "file.pem"})


def test_tls_options_of_a_socket():
    """A unix socket has no TLS, however it is written."""
    with pytest.raises(ConfigurationError, match=r"^there is no option ssl_ca_certs for unix:///s: see the list"):
        Settings.read(Address("unix:///s"), {"ssl_ca_certs": "ca.pem"})


def test_lease_of_a_primary():
    """A primary is relied on for three seconds, or as long as the argument or the URL says; 0 is for ever."""
    there = Address("sentinel://h/name")

    assert Settings.read(there, {}).lease == 3
    assert Settings.read(there, {"sentinel_lease": timedelta(seconds=5)}).lease == 5
    assert Settings.read(Address("sentinel://h/name?sentinel_lease=0"), {"sentinel_lease": 5}).lease == 0
    with pytest.raises(
        ConfigurationError,
        match=r"^there is no option sentinel_leese for sentinel://h:26379/name: see the list in docs/settings",
    ):
        Settings.read(there, {"sentinel_leese": 5})
    for wrong in (0.4, 61, -1, "x", "nan"):
        with pytest.raises(
            ConfigurationError, match=r"^sentinel_lease must be 0\.5 to 60 seconds, or 0: then a primary"
        ):
            Settings.read(there, {"sentinel_lease": wrong})


def test_deadline(monkeypatch):
    """The deadline is 250 ms, or the environment's, or the argument's, or the URL's; an attempt may take half of it."""
    monkeypatch.delenv("COATCHECK_DEADLINE", raising=False)
    here = Address("redis://h")

    assert (Settings.read(here, {}).deadline, Settings.read(here, {}).attempt) == (0.25, 0.125)
    monkeypatch.setenv("COATCHECK_DEADLINE", "3")
    assert Settings.read(here, {}).deadline == 3
    assert Settings.read(here, {"deadline": timedelta(seconds=2), "socket_timeout": 0.5}).attempt == 0.5
    assert Settings.read(Address("redis://h?deadline=0.1"), {"deadline": timedelta(seconds=2)}).deadline == 0.1


def test_wrong_deadline_in_the_environment(monkeypatch):
    """What the environment says wrongly is told by the name that it has there."""
    monkeypatch.setenv("COATCHECK_DEADLINE", "abc")

    with pytest.raises(ConfigurationError, match=r"^COATCHECK_DEADLINE must be longer than nothing: "):
        Settings.read(Address("redis://h"), {})


def test_url_from_the_environment(monkeypatch):
    """COATCHECK_URL stands in for a URL that was not given, and only then."""
    monkeypatch.setenv("COATCHECK_URL", "redis://there")

    assert str(Address()) == "redis://there"
    assert str(Address("redis://here")) == "redis://here"


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


@pytest.mark.parametrize("url", ["memcached://h", "http://h", "rdis://h", "clustre://h"])
def test_unknown_kind_of_store(url):
    """A scheme that is none of ours is refused, with the list of those that are."""
    scheme = url.partition(":")[0]
    expected = (
        f"{scheme}: no such kind of store; use one of redis://, rediss://, valkey://, valkeys://, unix://, "
        "sentinel://, sentinels://, cluster://, clusters://, embedded://"
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


@pytest.mark.parametrize("folder", ["var/lib/x", "[var]/lib", "var]"])
def test_embedded_with_two_slashes(folder):
    """A folder written with two slashes is refused, with how to write it, whatever its name."""
    with pytest.raises(ConfigurationError, match="write three slashes before a folder: embedded:///") as refused:
        Address(f"embedded://{folder}")

    assert f"embedded:///{folder.partition('/')[0]}" in str(refused.value)


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
        f"sentinel://user:{SECRET}@h1,h2:1/main?sentinel_password={SECRET}",
        f"cluster://user:{SECRET}@h1,h2:1?client_name={SECRET}",
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
        f"cluster://:{SECRET}/slash@h:1",
        f"sentinel://user:{SECRET}/slash@h:1/main",
        f"sentinel://user:{SECRET}#hash@h:1/main",
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


@pytest.mark.parametrize("keys", ["secret", "cck_short", ["cck_" + "A" * 42], "cck_" + "!" * 43, b"0" * 32, [b"0"]])
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
