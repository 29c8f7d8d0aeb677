"""Classes of devices ("phone", "desktop"): what a policy may limit apart, and how scripts know them.

A class is a name that the application chooses. Its record carries the name sealed, and in the plain header the first
4 bytes of the name's SHA-256: enough for a script to count by, and nothing for it to read.
"""

import hashlib
from typing import Any, Final

from coatcheck.model.errors import ConfigurationError

CLASS_BYTES: Final = 4
_LONGEST_NAME: Final = 64
_MOST_CLASSES: Final = 16


def class_of(device: str | None) -> bytes:
    """Give the 4 bytes by which scripts know the class *device*; b"" for none."""
    return b"" if device is None else hashlib.sha256(device.encode()).digest()[:CLASS_BYTES]


def check_device(device: Any) -> str | None:
    """Give *device* if it can be the name of a class, or None. Raises TypeError or ValueError for anything else."""
    if device is None:
        return None
    if not isinstance(device, str):
        raise TypeError(f"a device's class is a str, or None for none, not {type(device).__name__}")
    if not 0 < len(device) <= _LONGEST_NAME:
        raise ValueError(
            f"the name of a device's class takes 1 to {_LONGEST_NAME} characters, not {len(device)}: "
            'name the class ("phone"), not the device'
        )
    try:
        device.encode()
    except UnicodeEncodeError:
        raise ValueError(
            "the name of a device's class holds half a character (a surrogate), which UTF-8 has not"
        ) from None
    return str.__str__(device)  # a member of an enum is read back as its text


def check_limits(limits: tuple[tuple[str, int], ...]) -> None:
    """Raise ConfigurationError for limits of classes that cannot be meant."""
    if len(limits) > _MOST_CLASSES:
        raise ConfigurationError(f"device_limits names {_MOST_CLASSES} classes of devices at most, not {len(limits)}")
    known: dict[bytes, str] = {}
    for device, limit in limits:
        if device is None:
            raise ConfigurationError("device_limits: a device's class is a str, not None")
        try:
            check_device(device)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"device_limits: {error}") from None
        if type(limit) is not int or limit < 1:
            raise ConfigurationError(f"device_limits: {device} is limited to a whole number, 1 or more, not {limit!r}")
        other = known.setdefault(class_of(device), device)
        if other != device:
            raise ConfigurationError(f"device_limits: {other} and {device} look alike to the store: rename one of them")
