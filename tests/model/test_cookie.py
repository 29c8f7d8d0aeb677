"""The cookie's policy, its strings, and what caches are told."""

import pytest

from coatcheck import ConfigurationError, CookiePolicy, SameSite
from coatcheck.model.cookie import merge_cache_control, merge_vary

IDENTIFIER = "AaUBAg" * 8 + "abc"
MISPLACED = "a __Host- cookie has Path=/ and no Domain; choose host_prefix=False for others"


@pytest.mark.requirement("R3")
def test_defaults():
    """Without a word the cookie is __Host-, Secure, HttpOnly, SameSite=Lax, for the whole host and no other."""
    policy = CookiePolicy()

    assert policy.set(IDENTIFIER, secure=True, max_age=60) == (
        f"__Host-session={IDENTIFIER}; Max-Age=60; Path=/; HttpOnly; SameSite=Lax; Secure"
    )


@pytest.mark.parametrize(
    ("options", "secure", "max_age", "expected"),
    [
        ({}, True, None, "__Host-session=v; Path=/; HttpOnly; SameSite=Lax; Secure"),
        ({"development": True}, False, 5, "session=v; Max-Age=5; Path=/; HttpOnly; SameSite=Lax"),
        ({"secure": False}, False, 0, "session=v; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"),
        (
            {"host_prefix": False, "domain": "example.org", "path": "/app"},
            True,
            None,
            "session=v; Domain=example.org; Path=/app; HttpOnly; SameSite=Lax; Secure",
        ),
        ({"same_site": "Strict"}, True, None, "__Host-session=v; Path=/; HttpOnly; SameSite=Strict; Secure"),
        ({"same_site": SameSite.NONE}, True, None, "__Host-session=v; Path=/; HttpOnly; SameSite=None; Secure"),
        ({"name": "shop.sid"}, True, None, "__Host-shop.sid=v; Path=/; HttpOnly; SameSite=Lax; Secure"),
    ],
)
def test_set_cookie(options, secure, max_age, expected):
    """The Set-Cookie header follows the policy."""
    assert CookiePolicy(**options).set("v", secure=secure, max_age=max_age) == expected


PAST = "; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0"
SITE = {"host_prefix": False, "domain": "example.org", "path": "/app"}


@pytest.mark.parametrize(
    ("options", "secure", "expected"),
    [
        ({}, True, f"__Host-session={PAST}; Path=/; HttpOnly; SameSite=Lax; Secure"),
        ({"secure": False}, False, f"session={PAST}; Path=/; HttpOnly; SameSite=Lax"),
        (SITE, True, f"session={PAST}; Domain=example.org; Path=/app; HttpOnly; SameSite=Lax; Secure"),
    ],
)
def test_removal(options, secure, expected):
    """A cookie is removed under the name, path and domain it was set with, or browsers would keep it."""
    assert CookiePolicy(**options).remove(secure=secure) == expected


@pytest.mark.requirement("R3")
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"path": "/app"}, MISPLACED),
        ({"domain": "example.org"}, MISPLACED),
        ({"secure": False, "same_site": "None"}, "browsers drop a SameSite=None cookie that is not Secure"),
        ({"same_site": "lax"}, "same_site is 'Lax', 'Strict' or 'None', not 'lax'"),
        ({"same_site": None}, "same_site is 'Lax', 'Strict' or 'None', not None"),
        ({"name": ""}, "'' cannot be the name of a cookie"),
        ({"name": "a b"}, "'a b' cannot be the name of a cookie"),
        ({"name": "a=b"}, "'a=b' cannot be the name of a cookie"),
        ({"name": "a;b"}, "'a;b' cannot be the name of a cookie"),
        ({"name": "ä"}, "'ä' cannot be the name of a cookie"),
        ({"name": "a\n"}, "'a\\n' cannot be the name of a cookie"),
        ({"name": "a" * 65}, f"'{'a' * 65}' cannot be the name of a cookie"),
        ({"name": "__Host-s"}, "name the cookie 's': its prefix is set by itself"),
        ({"name": "__Secure-s"}, "name the cookie 's': its prefix is set by itself"),
        ({"name": "__host-s"}, "name the cookie 's': its prefix is set by itself"),
        ({"name": "__Http-s"}, "name the cookie 's': its prefix is set by itself"),
        ({"host_prefix": False, "path": "/;x"}, "'/;x' cannot stand in a cookie"),
        ({"host_prefix": False, "path": "/,"}, "'/,' cannot stand in a cookie"),
        ({"host_prefix": False, "domain": "a\r\nSet-Cookie: x=y"}, "'a\\r\\nSet-Cookie: x=y' cannot stand in a cookie"),
        ({"host_prefix": False, "domain": "exämple.org"}, "'exämple.org' cannot stand in a cookie"),
        ({"secure": False, "path": "/\0"}, "'/\\x00' cannot stand in a cookie"),
    ],
)
def test_contradictions_are_refused(options, text):
    """A policy that browsers would not honour, or that would break the header, is refused and says why."""
    with pytest.raises(ConfigurationError) as caught:
        CookiePolicy(**options)

    assert str(caught.value) == text


LOCAL = ("localhost", "localhost:8000", "LOCALHOST", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:8000")
ELSEWHERE = (
    "example.org",
    "example.org:443",
    "localhost.example.org",
    "127.0.0.1.example.org",
    "evil-localhost",
    "[::2]",
    "",
    "localhost@example.org",
    "10.0.0.1",
)


@pytest.mark.requirement("R3")
@pytest.mark.parametrize("host", LOCAL + ELSEWHERE)
@pytest.mark.parametrize("https", [True, False])
@pytest.mark.parametrize("development", [True, False])
@pytest.mark.parametrize("secure", [True, False])
def test_is_secure(host, https, development, secure):
    """The cookie is the secure one, but for http to this very machine in development, or where the app says so."""
    policy = CookiePolicy(secure=secure, development=development)
    plain = not secure or (development and not https and host in LOCAL)
    if host == "[::1":  # no Host header looks like this; which way it goes does not matter as long as it is not wider
        plain = (policy.is_secure(https=https, host=host) is False and development and not https) or not secure

    assert policy.is_secure(https=https, host=host) is not plain


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("", ()),
        ("__Host-session=v", ("v",)),
        ("a=b; __Host-session=v; c=d", ("v",)),
        ("a=b;__Host-session=v;c", ("v",)),
        ("\t__Host-session=v ", ("v",)),
        ("__Host-session=", ("",)),
        ("__Host-session", ("",)),
        ("__Host-session=a=b", ("a=b",)),
        ("__Host-session=v; __Host-session=v", ("v", "v")),
        ("__Host-session=v; __Host-session=w", ("v", "w")),
        ("session=v", ()),
        ("__host-session=v", ()),
        ("x__Host-session=v", ()),
        ("__Host-session2=v", ()),
        ("=__Host-session=v", ()),
        ("__Host-session =v", ()),
        ("\u00a0__Host-session=v", ()),
        ("\x0b__Host-session=v", ()),
        ('a="; __Host-session=v"', ('v"',)),
        (",__Host-session=v", ()),
        (";;;=;", ()),
    ],
)
def test_read(header, values):
    """Exactly the cookies of this exact name are read; nothing a browser would treat as another name counts."""
    assert CookiePolicy().read(header, secure=True) == values


@pytest.mark.requirement("R6")
def test_the_plain_name_is_not_read_over_https():
    """Over https only the __Host- name counts: a cookie planted under the plain name is not seen."""
    header = "session=planted; __Host-session=mine"

    assert CookiePolicy().read(header, secure=True) == ("mine",)
    assert CookiePolicy().read(header, secure=False) == ("planted",)


@pytest.mark.requirement("R8")
@pytest.mark.parametrize(
    ("vary", "merged"),
    [
        (None, "Cookie"),
        ("", "Cookie"),
        ("Accept", "Accept, Cookie"),
        ("Accept,Accept-Encoding", "Accept, Accept-Encoding, Cookie"),
        ("Cookie", "Cookie"),
        ("cookie, Accept", "cookie, Accept"),
        ("*", "*"),
        (" , Accept , ", "Accept, Cookie"),
        ("X-Cookie", "X-Cookie, Cookie"),
    ],
)
def test_vary(vary, merged):
    """Vary names Cookie exactly once beside what the application varies on."""
    assert merge_vary(vary) == merged


@pytest.mark.requirement("R8")
@pytest.mark.parametrize(
    ("cache_control", "sets_cookie", "merged"),
    [
        (None, False, "private, no-store"),
        ("", False, "private, no-store"),
        (None, True, "private, no-store"),
        ("public, max-age=60", False, "public, max-age=60"),
        ("public, max-age=60", True, "private, no-store"),
        ("no-cache", True, "private, no-store"),
    ],
)
def test_cache_control(cache_control, sets_cookie, merged):
    """Responses are private, unless the application has spoken; one that sets the cookie always is."""
    assert merge_cache_control(cache_control, sets_cookie=sets_cookie) == merged
