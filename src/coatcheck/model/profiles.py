"""Ready policies, and the report of a policy: what is in effect, and where it departs from NIST SP 800-63B-4.

    from coatcheck import profiles

    policy = dataclasses.replace(profiles.AAL2, subject_attribute="user_id")
    print(profiles.report(policy, 2, reasons={"absolute_timeout": "night shifts last 26 hours"}))

A profile sets how long sessions last. How somebody signs in, which is the greater part of an assurance level, is the
application's.

Sources: NIST SP 800-63B-4 (July 2025), sections 2.1.3, 2.2.3 and 2.3.3; OWASP Session Management cheat sheet, "Session
Expiration"; Commission Delegated Regulation (EU) 2018/389, article 4 (3) (d).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from enum import Enum
from typing import Any, Final

from coatcheck.model.errors import ConfigurationError
from coatcheck.model.policy import SessionPolicy

AAL1: Final = SessionPolicy(idle_timeout=timedelta(days=30), absolute_timeout=timedelta(days=30))
"""NIST assurance level 1: signed in for 30 days, used or not."""

AAL2: Final = SessionPolicy(idle_timeout=timedelta(hours=1), absolute_timeout=timedelta(hours=24), persistent=False)
"""NIST assurance level 2: 24 hours at most, an hour without use."""

AAL3: Final = SessionPolicy(idle_timeout=timedelta(minutes=15), absolute_timeout=timedelta(hours=12), persistent=False)
"""NIST assurance level 3: 12 hours at most, a quarter of an hour without use."""

SHOP: Final = SessionPolicy(
    idle_timeout=timedelta(days=14), absolute_timeout=timedelta(days=30), rotate_every=timedelta(days=1)
)
"""A shop that knows its customers again for two weeks after a visit, and asks for the password every 30 days (level 1).

Ask for a fresh sign-in before an address or a means of payment changes.
"""

BANK: Final = SessionPolicy(
    idle_timeout=timedelta(minutes=5),
    absolute_timeout=timedelta(hours=4),
    rotate_every=timedelta(minutes=15),
    persistent=False,
    limit=1,
)
"""Online banking: 5 minutes without use (EU 2018/389), 4 hours at most (OWASP), one session for each customer.

The last sign-in stands: the session before it ends. It keeps within all three levels of NIST.
"""


@dataclass(frozen=True, slots=True)
class Deviation:
    """A setting that is not as NIST has it. strength: "SHALL" or "SHOULD". reason: the application's, or None."""

    setting: str
    value: timedelta
    recommended: timedelta
    strength: str
    section: str
    reason: str | None

    def __str__(self) -> str:
        """Give it as a sentence."""
        return (
            f"{self.setting} is {_shown(self.value)}; NIST SP 800-63B-4 section {self.section}: {self.strength} be "
            f"{_shown(self.recommended)} or less. Reason: {self.reason or 'none is given'}."
        )


@dataclass(frozen=True, slots=True)
class Report:
    """The effective policy measured against an assurance level; its text is for people, `as_dict` for machines."""

    policy: SessionPolicy
    level: int
    deviations: tuple[Deviation, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Give it as what JSON can carry; durations in seconds."""
        return {
            "level": self.level,
            "settings": {item.name: _plain(getattr(self.policy, item.name)) for item in fields(self.policy)},
            "deviations": [
                {item.name: _plain(getattr(deviation, item.name)) for item in fields(deviation)}
                for deviation in self.deviations
            ],
        }

    def __str__(self) -> str:
        """Give it as text: the settings, then what departs from the level."""
        width = max(len(item.name) for item in fields(self.policy))
        lines = ["Session policy"]
        lines += [f"  {item.name:{width}}  {_shown(getattr(self.policy, item.name))}" for item in fields(self.policy)]
        lines += ["", f"Measured against NIST SP 800-63B-4, assurance level {self.level}"]
        lines += [f"  - {deviation}" for deviation in self.deviations] or ["  no deviation"]
        lines += ["", "A session that sets timeouts of its own (Session.set_timeouts) departs from this policy."]
        return "\n".join(lines) + "\n"


# Level: setting, the most it may be, how strongly, and where that is said.
_LEVELS: Final[Mapping[int, tuple[tuple[str, timedelta, str, str], ...]]] = {
    1: (("absolute_timeout", timedelta(days=30), "SHOULD", "2.1.3"),),
    2: (
        ("absolute_timeout", timedelta(hours=24), "SHOULD", "2.2.3"),
        ("idle_timeout", timedelta(hours=1), "SHOULD", "2.2.3"),
    ),
    3: (
        ("absolute_timeout", timedelta(hours=12), "SHALL", "2.3.3"),
        ("idle_timeout", timedelta(minutes=15), "SHOULD", "2.3.3"),
    ),
}


def report(policy: SessionPolicy, level: int, *, reasons: Mapping[str, str] | None = None) -> Report:
    """Measure *policy* against assurance *level* 1, 2 or 3.

    reasons: why a setting deviates, by its name; what ASVS 7.1.1 wants to have written down.
    Raises ConfigurationError for another level, and for a reason given for what does not deviate.
    """
    if level not in _LEVELS:
        raise ConfigurationError(f"the assurance level is 1, 2 or 3, not {level!r}")
    given = dict(reasons or {})
    deviations = tuple(
        Deviation(setting, getattr(policy, setting), most, strength, section, given.pop(setting, None))
        for setting, most, strength, section in _LEVELS[level]
        if getattr(policy, setting) > most
    )
    if given:
        raise ConfigurationError(f"a reason is given for what does not deviate: {', '.join(given)}")
    return Report(policy, level, deviations)


def _plain(value: Any) -> Any:
    match value:
        case timedelta():
            return value.total_seconds()
        case Enum():
            return value.value
        case tuple():
            return [_plain(item) for item in value]
        case None | str() | int() | float():
            return value
        case _:
            return str(value)


def _shown(value: Any) -> str:
    match value:
        case timedelta():
            return _duration(value)
        case Enum():
            return str(value.value)
        case tuple():
            return ", ".join(_entry(item) for item in value) or "none"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case _:
            return "not set" if value is None else str(value)


def _entry(item: Any) -> str:
    """Show what stands in a tuple: a name, or a name and its value."""
    return " ".join((item[0], *map(_shown, item[1:]))) if isinstance(item, tuple) else str(item)


def _duration(duration: timedelta) -> str:
    """Give a duration in the largest unit that divides it: 24 hours rather than 1 day, as NIST has it."""
    for unit, length in (("days", timedelta(days=1)), ("hours", timedelta(hours=1)), ("minutes", timedelta(minutes=1))):
        count, rest = divmod(duration, length)
        if count and not rest and (unit, count) != ("days", 1):
            return f"{count} {unit if count > 1 else unit[:-1]}"
    return f"{duration.total_seconds():g} seconds"
