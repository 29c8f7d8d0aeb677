"""Ready policies, and the report of a policy against NIST SP 800-63B-4."""

import json
import re
from dataclasses import fields, replace
from datetime import timedelta

import pytest

from coatcheck import AtLimit, ConfigurationError, SessionPolicy, profiles

SETTINGS = {
    "idle_timeout": "2 hours",
    "absolute_timeout": "26 hours",
    "rotation_grace": "10 seconds",
    "rotate_every": "15 minutes",
    "rotating": "roles",
    "carried": "not set",
    "persistent": "no",
    "subject_attribute": "user_id",
    "limit": "3",
    "at_limit": "refuse",
    "listed": "none",
    "max_bytes": "262,144",
    "max_attributes": "1,000",
}
TEXT = """
Measured against NIST SP 800-63B-4, assurance level 2
  - absolute_timeout is 26 hours; NIST SP 800-63B-4 section 2.2.3: SHOULD be 24 hours or less. Reason: night shifts.
  - idle_timeout is 2 hours; NIST SP 800-63B-4 section 2.2.3: SHOULD be 1 hour or less. Reason: none is given.

A session that sets timeouts of its own (Session.set_timeouts) departs from this policy.
"""

HOSPITAL = SessionPolicy(
    idle_timeout=timedelta(hours=2),
    absolute_timeout=timedelta(hours=26),
    rotate_every=timedelta(minutes=15),
    rotating=("roles",),
    persistent=False,
    subject_attribute="user_id",
    limit=3,
    at_limit=AtLimit.REFUSE,
)


@pytest.mark.requirement("R11")
@pytest.mark.parametrize(
    ("profile", "absolute", "idle"),
    [
        (profiles.AAL1, timedelta(days=30), timedelta(days=30)),
        (profiles.AAL2, timedelta(hours=24), timedelta(hours=1)),
        (profiles.AAL3, timedelta(hours=12), timedelta(minutes=15)),
    ],
    ids=["AAL1", "AAL2", "AAL3"],
)
def test_timeouts(profile, absolute, idle):
    """The profiles have the timeouts of their assurance levels."""
    assert (profile.absolute_timeout, profile.idle_timeout) == (absolute, idle)


@pytest.mark.requirement("R18")
@pytest.mark.parametrize(
    ("profile", "level", "deviating"),
    [
        ("AAL1", 1, set()),
        ("AAL1", 2, {"absolute_timeout", "idle_timeout"}),
        ("AAL2", 2, set()),
        ("AAL2", 3, {"absolute_timeout", "idle_timeout"}),
        ("AAL3", 3, set()),
        ("SHOP", 1, set()),
        ("SHOP", 2, {"absolute_timeout", "idle_timeout"}),
        ("BANK", 1, set()),
        ("BANK", 2, set()),
        ("BANK", 3, set()),
    ],
)
def test_deviations(profile, level, deviating):
    """Each profile keeps within its own level; against a higher one the report names what does not."""
    report = profiles.report(getattr(profiles, profile), level)

    assert {deviation.setting for deviation in report.deviations} == deviating


@pytest.mark.requirement("R18")
def test_text():
    """The report shows every setting, where the policy deviates, from what, how much that matters, and why."""
    text = str(profiles.report(HOSPITAL, 2, reasons={"absolute_timeout": "night shifts"}))

    settings, _, measured = text.partition("\n\n")
    shown = dict(line.split(maxsplit=1) for line in settings.splitlines()[1:])
    assert SETTINGS.items() <= shown.items()
    assert shown.keys() == {field.name for field in fields(HOSPITAL)}
    assert "\n" + measured == TEXT


@pytest.mark.requirement("R18")
def test_dict():
    """The same as JSON can carry it, durations in seconds."""
    report = profiles.report(HOSPITAL, 3, reasons={"idle_timeout": "shared ward terminals lock by themselves"})

    shown = json.loads(json.dumps(report.as_dict()))

    assert shown["level"] == 3
    assert shown["settings"].keys() == {field.name for field in fields(HOSPITAL)}
    assert {name: shown["settings"][name] for name in SETTINGS} == {
        "idle_timeout": 7200,
        "absolute_timeout": 93600,
        "rotation_grace": 10,
        "rotate_every": 900,
        "rotating": ["roles"],
        "carried": None,
        "persistent": False,
        "subject_attribute": "user_id",
        "limit": 3,
        "at_limit": "refuse",
        "listed": [],
        "max_bytes": 262144,
        "max_attributes": 1000,
    }
    assert shown["deviations"] == [
        {
            "setting": "absolute_timeout",
            "value": 93600,
            "recommended": 43200,
            "strength": "SHALL",
            "section": "2.3.3",
            "reason": None,
        },
        {
            "setting": "idle_timeout",
            "value": 7200,
            "recommended": 900,
            "strength": "SHOULD",
            "section": "2.3.3",
            "reason": "shared ward terminals lock by themselves",
        },
    ]


def test_no_deviation():
    """A policy that keeps within the level is said to."""
    assert "assurance level 3\n  no deviation\n" in str(profiles.report(profiles.AAL3, 3))


def test_odd_durations():
    """A duration is shown in the largest unit that divides it."""
    policy = replace(profiles.AAL2, idle_timeout=timedelta(minutes=1), rotation_grace=timedelta(milliseconds=1500))
    text = str(profiles.report(policy, 2))

    assert re.search(r"idle_timeout +1 minute\n", text)
    assert re.search(r"rotation_grace +1.5 seconds\n", text)
    assert re.search(r"absolute_timeout +24 hours\n", text)


def test_pairs():
    """Named parts and classes are shown with their values."""
    policy = replace(
        profiles.AAL2, compartments={"cart": timedelta(minutes=10)}, device_limits={"phone": 1, "desktop": 3}
    )
    report = profiles.report(policy, 2)

    assert re.search(r"device_limits +phone 1, desktop 3\n", str(report))
    assert re.search(r"compartments +cart 10 minutes\n", str(report))
    assert report.as_dict()["settings"]["device_limits"] == [["phone", 1], ["desktop", 3]]


@pytest.mark.parametrize(("level", "reasons"), [(0, {}), (4, {}), (2, {"limit": "why"}), (2, {"idle_timeout": "why"})])
def test_what_cannot_be_meant(level, reasons):
    """An unknown level is refused, and a reason for what does not deviate: it would be out of date."""
    with pytest.raises(ConfigurationError):
        profiles.report(profiles.AAL2, level, reasons=reasons)
