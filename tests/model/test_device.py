"""Classes of devices: what may be named, what a policy may limit, what a session says."""

import hashlib
from itertools import count

import pytest

from coatcheck import ConfigurationError, Session, SessionPolicy
from coatcheck.model.device import class_of
from coatcheck.model.ticket import Handle, Ticket

LENGTH = """the name of a device's class takes 1 to 64 characters, not {}: name the class ("phone"), not the device"""


def test_limits_are_kept_as_pairs():
    """A policy's limits of classes are given as a mapping, or as the pairs that it is kept as."""
    policy = SessionPolicy(device_limits={"phone": 2, "desktop": 3})

    assert policy.device_limits == (("phone", 2), ("desktop", 3))
    assert SessionPolicy(device_limits=policy.device_limits) == policy
    assert hash(policy)
    assert [policy.limit_of(device) for device in ("phone", "desktop", "watch", None)] == [2, 3, 0, 0]


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"phone": 0}, "device_limits: phone is limited to a whole number, 1 or more, not 0"),
        ({"phone": True}, "device_limits: phone is limited to a whole number, 1 or more, not True"),
        ({"phone": "2"}, "device_limits: phone is limited to a whole number, 1 or more, not '2'"),
        ({"phone": None}, "device_limits: phone is limited to a whole number, 1 or more, not None"),
        ({"": 1}, "device_limits: " + LENGTH.format(0)),
        ({"x" * 65: 1}, "device_limits: " + LENGTH.format(65)),
        ({None: 1}, "device_limits: a device's class is a str, not None"),
        ({7: 1}, "device_limits: a device's class is a str, or None for none, not int"),
        ({str(n): 1 for n in range(17)}, "device_limits names 16 classes of devices at most, not 17"),
    ],
)
def test_limits_that_cannot_be_meant(limits, text):
    """Limits that cannot be meant are refused with the policy, with a text that says what is allowed."""
    with pytest.raises(ConfigurationError) as caught:
        SessionPolicy(device_limits=limits)

    assert str(caught.value) == text


def test_the_most_that_may_be_limited():
    """Sixteen classes with names of 64 characters are allowed."""
    limits = {f"{number:064}": 1 for number in range(16)}

    assert SessionPolicy(device_limits=limits).limit_of("0" * 64) == 1


def test_classes_that_look_alike():
    """Two names that the store could not tell apart are refused."""
    seen = {}
    for number in count():
        digest = hashlib.sha256(b"c%d" % number).digest()[:4]
        if digest in seen:
            break
        seen[digest] = number
    one, other = f"c{seen[digest]}", f"c{number}"

    with pytest.raises(ConfigurationError) as caught:
        SessionPolicy(device_limits={one: 1, other: 2})

    assert str(caught.value) == f"device_limits: {one} and {other} look alike to the store: rename one of them"


@pytest.mark.parametrize("device", ["phone", "x", "Küche", "x" * 64, None])
def test_device_of_a_session(device):
    """A session says the class that it was given, and its first record's header stands for it."""
    session = Session(SessionPolicy())
    assert session.device is None
    session.device = device

    assert session.device == device
    assert session.new_header(0, bytes(32)).device_class == class_of(device)
    assert len(class_of(device)) == (0 if device is None else 4)


@pytest.mark.parametrize(
    ("device", "error", "text"),
    [
        ("", ValueError, LENGTH.format(0)),
        ("x" * 65, ValueError, LENGTH.format(65)),
        (
            "\ud800",
            ValueError,
            "the name of a device's class holds half a character (a surrogate), which UTF-8 has not",
        ),
        (7, TypeError, "a device's class is a str, or None for none, not int"),
        (b"phone", TypeError, "a device's class is a str, or None for none, not bytes"),
    ],
)
def test_what_is_no_class(device, error, text):
    """What cannot be the name of a class is refused, and changes nothing."""
    session = Session(SessionPolicy())
    session.device = "phone"

    with pytest.raises(error) as caught:
        session.device = device

    assert str(caught.value) == text
    assert session.device == "phone"


def test_header_through_rotation_and_the_next_write():
    """The header keeps the class through what follows it."""
    session = Session(SessionPolicy())
    session.device = "phone"
    header = session.new_header(0, bytes(32))
    stored = Session(SessionPolicy(), ticket=Ticket.new(Handle.new()), header=header)

    assert stored.next_header(header, 5).rotate(b"x" * 32, 9).device_class == class_of("phone")
