"""The client of a session: how coarsely it is told, and what counts as another one."""

import sys
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import Client, ClientPolicy, ConfigurationError, OnChange, SessionPolicy
from coatcheck.model.client import NO_CLIENT, family_of, network_of

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:{0}.0) Gecko/20100101 Firefox/{0}.0"
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{0}.0.0.0 Safari/537.36"
)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
    "Mobile/15E148 Safari/604.1"
)

HEADERS = (
    st.none() | st.text(max_size=80) | st.sampled_from([FIREFOX.format(140), CHROME.format(126), IPHONE, "curl/8"])
)
ADDRESSES = st.none() | st.text(max_size=40) | st.ip_addresses().map(str)
REACTIONS = st.none() | st.sampled_from(OnChange)
POLICIES = st.builds(
    ClientPolicy,
    user_agent=REACTIONS,
    address=st.sampled_from(OnChange),
    ipv4_prefix=st.integers(1, 24),
    ipv6_prefix=st.integers(1, 64),
)


@pytest.mark.parametrize(
    ("header", "family"),
    [
        (FIREFOX.format(140), "Firefox on Linux"),
        (FIREFOX.format(141), "Firefox on Linux"),
        (CHROME.format(126), "Chrome on Windows"),
        (IPHONE, "Mobile Safari on iOS"),
        ("curl/8.1", "curl"),
        ("", "unknown"),
        ("no browser", "unknown"),
    ],
)
def test_family(header, family):
    """A user agent counts by the families of browser and system: an update is no change."""
    assert family_of(header) == family


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.0/24"),
        ("2001:db8:1:2::7", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("::1", "::/48"),
        ("192.0.2.7:5000", None),
        ("testclient", None),
        ("", None),
        (None, None),
    ],
)
@pytest.mark.requirement("R60")
def test_network(address, network):
    """An address is cut to its network at once; what is none counts as not known."""
    assert network_of(address, 24, 48) == network


@pytest.mark.requirement("R60")
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**128 - 1), st.text(max_size=600))
def test_nothing_more_is_kept(v4, v6, header):
    """Whatever comes, what is kept is one line, short, and of an address no more than the policy's bits."""
    policy = ClientPolicy()
    for address in (str(IPv4Address(v4)), str(IPv6Address(v6))):
        client = policy.look(header, address)
        assert len(client.user_agent) <= 68
        assert client.user_agent.isprintable()
        assert client.address.endswith((".0/24", "/48"))
        assert Client.parse(client.text) == client


@given(POLICIES, HEADERS, ADDRESSES)
def test_same_client(policy, user_agent, address):
    """The same client, however it looks and whatever the policy, is never a change, and nothing is to be written."""
    known = policy.look(user_agent, address)

    found = policy.compare(known, policy.look(user_agent, address))

    assert (found.client, found.reaction, found.why) == (known, None, "")


@given(POLICIES, HEADERS, ADDRESSES)
def test_first_seen(policy, user_agent, address):
    """A client that is seen first is taken on without a word."""
    seen = policy.look(user_agent, address)

    found = policy.compare(NO_CLIENT, seen)

    assert (found.client, found.reaction) == (seen, None)


def test_change():
    """What changed is told, addresses are not, and the stricter reaction counts."""
    policy = ClientPolicy(user_agent=OnChange.STEP_UP, address=OnChange.OBSERVE)
    known = policy.look(FIREFOX.format(140), "192.0.2.7")

    found = policy.compare(known, policy.look(CHROME.format(126), "198.51.100.1"))

    assert found.client == Client("Chrome on Windows", "198.51.100.0/24")
    assert found.reaction is OnChange.STEP_UP
    assert found.why == "user agent: Firefox on Linux -> Chrome on Windows; address"
    assert policy.compare(known, policy.look(FIREFOX.format(141), "198.51.100.1")).reaction is OnChange.OBSERVE


@pytest.mark.parametrize(("user_agent", "address"), [(None, "192.0.2.7"), (FIREFOX.format(1), None), ("", "junk")])
def test_left_out(user_agent, address):
    """To leave out the header, or to have no address, is a change: it must not help a thief."""
    policy = ClientPolicy(user_agent=OnChange.END, address=OnChange.END)
    known = policy.look(FIREFOX.format(140), "192.0.2.7")

    assert policy.compare(known, policy.look(user_agent, address)).reaction is OnChange.END


def test_not_looked_at():
    """A part that the policy does not look at is no change, and stays as another server has written it."""
    known = ClientPolicy().look(FIREFOX.format(140), "192.0.2.7")
    policy = ClientPolicy(address=None, user_agent=OnChange.END)

    found = policy.compare(known, policy.look(FIREFOX.format(140), "198.51.100.1"))

    assert (found.client, found.reaction) == (known, None)


@pytest.mark.parametrize(("former", "now"), [(24, 16), (16, 24)])
def test_another_prefix(former, now):
    """To change the prefix of a policy is no change of anybody's address."""
    known = ClientPolicy(ipv4_prefix=former).look("", "192.0.2.7")
    policy = ClientPolicy(address=OnChange.END, ipv4_prefix=now)

    assert policy.compare(known, policy.look("", "192.0.2.7")).reaction is None
    assert policy.compare(known, policy.look("", "198.51.100.1")).reaction is OnChange.END


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"user_agent": "end"}, "user_agent is a member of OnChange or None, not 'end'"),
        ({"user_agent": None, "address": None}, "a ClientPolicy looks at something"),
        ({"ipv4_prefix": 32}, "ipv4_prefix is a number of bits from 1 to 24, not 32"),
        ({"ipv6_prefix": 0}, "ipv6_prefix is a number of bits from 1 to 64, not 0"),
        ({"ipv6_prefix": True}, "ipv6_prefix is a number of bits from 1 to 64, not True"),
    ],
)
def test_refused(fields, message):
    """A policy that cannot be meant, or would keep whole addresses, is refused."""
    with pytest.raises(ConfigurationError, match=message):
        ClientPolicy(**fields)


def test_policy_of_another_type():
    """A session's policy takes a ClientPolicy and nothing else."""
    with pytest.raises(ConfigurationError, match="client is a ClientPolicy, or None, not 'end'"):
        SessionPolicy(client="end")


def test_without_the_library(monkeypatch):
    """Where ua-parser is missing, a policy that needs it is refused and says what to install; others do without."""
    monkeypatch.setitem(sys.modules, "ua_parser", None)
    family_of.cache_clear()

    with pytest.raises(ConfigurationError, match=r'pip install "coatcheck\[client\]"'):
        ClientPolicy()

    assert ClientPolicy(user_agent=None).look("", "192.0.2.7") == Client(None, "192.0.2.0/24")


def test_shown():
    """A policy is shown in a line, for the report of the session policy."""
    assert str(ClientPolicy(user_agent=OnChange.STEP_UP)) == "user agent: step up, address (/24, /48): observe"
