"""What a policy for outages may say, and which pages it means."""

from datetime import timedelta

import pytest

from coatcheck import ConfigurationError, OutagePolicy, SessionPolicy


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: OutagePolicy(anonymous=["/"]), "anonymous is a tuple of paths"),
        (lambda: OutagePolicy(anonymous=("about",)), "anonymous is a tuple of paths"),
        (lambda: OutagePolicy(read_lease=30), "read_lease is a timedelta of at most 60 seconds, or None, not 30"),
        (lambda: OutagePolicy(read_lease=timedelta(seconds=61)), "read_lease is a timedelta of at most 60 seconds"),
        (lambda: OutagePolicy(read_lease=timedelta(0)), "read_lease is a timedelta of at most 60 seconds"),
        (lambda: SessionPolicy(outage="503"), "outage is a OutagePolicy, or None"),
    ],
)
def test_refused(make, text):
    """What cannot be meant is refused, with words that say what would be right."""
    with pytest.raises(ConfigurationError, match=text):
        make()


@pytest.mark.parametrize(
    ("method", "path", "may_be"),
    [
        ("GET", "/", True),
        ("HEAD", "/about", True),
        ("GET", "/about/us", False),
        ("GET", "/products/7", True),
        ("GET", "/products", False),
        ("POST", "/about", False),
        (None, "/about", False),
        ("GET", None, False),
    ],
)
def test_pages(method, path, may_be):
    """A path means itself, a star all below; what is to change something is never served without its session."""
    policy = OutagePolicy(anonymous=("/", "/about", "/products/*"))

    assert policy.may_be_anonymous(method, path) is may_be
