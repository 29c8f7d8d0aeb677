"""Policies are checked when they are written down."""

from dataclasses import FrozenInstanceError
from datetime import timedelta

import pytest

from coatcheck import AtLimit, ConfigurationError, SessionPolicy
from coatcheck.model.policy import check_timeouts, milliseconds

TIMEOUTS = "need 1 ms <= idle_timeout <= absolute_timeout <= 3650 days, not "


def test_defaults():
    """Without a word a session lives half an hour unused and twelve hours at most, for any number of devices."""
    policy = SessionPolicy()

    assert (policy.idle_timeout, policy.absolute_timeout) == (timedelta(minutes=30), timedelta(hours=12))
    assert policy.rotation_grace == timedelta(seconds=10)
    assert (policy.limit, policy.at_limit, policy.persistent) == (None, AtLimit.EVICT_OLDEST, True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"idle_timeout": timedelta(0)}, TIMEOUTS + "0:00:00 and 12:00:00"),
        ({"idle_timeout": timedelta(microseconds=999)}, TIMEOUTS + "0:00:00.000999 and 12:00:00"),
        ({"idle_timeout": timedelta(seconds=-1)}, TIMEOUTS + "-1 day, 23:59:59 and 12:00:00"),
        ({"idle_timeout": timedelta(hours=13)}, TIMEOUTS + "13:00:00 and 12:00:00"),
        ({"absolute_timeout": timedelta(days=3651)}, TIMEOUTS + "0:30:00 and 3651 days, 0:00:00"),
        ({"rotation_grace": timedelta(seconds=-1)}, "rotation_grace must lie between 0 and 5 minutes"),
        ({"rotation_grace": timedelta(minutes=5, microseconds=1)}, "rotation_grace must lie between 0 and 5 minutes"),
        ({"idle_timeout": 1800}, "idle_timeout is a timedelta, not 1800"),
        ({"rotation_grace": None}, "rotation_grace is a timedelta, not None"),
        ({"limit": "2"}, "limit is a whole number, or None for no limit, not '2'"),
        ({"limit": True}, "limit is a whole number, or None for no limit, not True"),
        ({"subject_attribute": 5}, "subject_attribute is the name of an attribute, not 5"),
        ({"limit": 0}, "limit must be at least 1, or None for no limit"),
        ({"limit": -1}, "limit must be at least 1, or None for no limit"),
        ({"listed": "device"}, "listed is a tuple of attribute names, not 'device'"),
        ({"listed": ["device"]}, "listed is a tuple of attribute names, not ['device']"),
        ({"at_limit": "refuse"}, "at_limit is a member of AtLimit, not 'refuse'"),
        ({"at_limit": None}, "at_limit is a member of AtLimit, not None"),
    ],
)
def test_contradictions_are_refused(options, text):
    """What cannot be meant raises ConfigurationError, with a text that says what is allowed."""
    with pytest.raises(ConfigurationError) as caught:
        SessionPolicy(**options)

    assert str(caught.value) == text


@pytest.mark.parametrize(
    "options",
    [
        {"idle_timeout": timedelta(milliseconds=1)},
        {"idle_timeout": timedelta(hours=12)},
        {"absolute_timeout": timedelta(days=3650)},
        {"rotation_grace": timedelta(0)},
        {"rotation_grace": timedelta(minutes=5)},
        {"limit": 1},
        {"listed": ()},
    ],
)
def test_bounds_are_allowed(options):
    """The bounds themselves are allowed."""
    policy = SessionPolicy(**options)

    assert {name: getattr(policy, name) for name in options} == options


def test_policy_is_frozen():
    """A policy cannot be changed after its checks."""
    with pytest.raises(FrozenInstanceError):
        SessionPolicy().limit = 3


def test_milliseconds_are_whole():
    """Durations go over the wire in whole milliseconds, rounded down."""
    assert milliseconds(timedelta(seconds=1, microseconds=1999)) == 1001
    check_timeouts(timedelta(milliseconds=1), timedelta(milliseconds=1))
