"""The near cache's settings."""

from datetime import timedelta

import pytest

from coatcheck import ConfigurationError, NearCache, SessionPolicy

HALF = timedelta(milliseconds=500)


def test_defaults():
    """Without settings a near cache lags at most half a second behind, and is bounded."""
    near = NearCache()

    assert (near.staleness, near.max_age, near.ends_wait) == (HALF, timedelta(minutes=1), False)
    assert near.max_sessions * near.max_bytes > 0
    assert SessionPolicy().near_cache is None
    assert SessionPolicy(near_cache=near).near_cache == near


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"staleness": timedelta(milliseconds=9)}, "staleness is a timedelta from 0:00:00.010000 to 0:00:10"),
        ({"staleness": timedelta(seconds=11)}, "staleness is a timedelta from"),
        ({"staleness": 0.5}, "staleness is a timedelta from"),
        ({"max_age": timedelta(milliseconds=400)}, "max_age is a timedelta from 0:00:00.500000 to 1:00:00"),
        ({"max_age": timedelta(hours=2)}, "max_age is a timedelta from"),
        ({"max_age": None}, "max_age is a timedelta from"),
        ({"max_sessions": 0}, "max_sessions is a whole number, at least 1, not 0"),
        ({"max_sessions": True}, "max_sessions is a whole number"),
        ({"max_bytes": 1.5}, "max_bytes is a whole number, at least 1, not 1.5"),
    ],
)
def test_what_cannot_be_meant(settings, text):
    """Bounds that make no sense are refused with words that say what to write."""
    with pytest.raises(ConfigurationError, match=text):
        NearCache(**settings)


def test_policy_takes_no_other():
    """A policy refuses what is no NearCache."""
    with pytest.raises(ConfigurationError, match="near_cache is a NearCache, or None, not True"):
        SessionPolicy(near_cache=True)
