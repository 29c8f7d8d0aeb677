"""The session identifier and the handle: one spelling each, and no secret that shows."""

import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.model.ticket import TICKET_LENGTH, Handle, Ticket

ALPHABET = string.ascii_letters + string.digits + "-_"
SECRET = bytes(range(100, 124))

handles = st.builds(Handle, st.integers(0, 255), st.binary(min_size=12, max_size=12))
tickets = st.builds(Ticket, handles, st.binary(min_size=24, max_size=24))


@pytest.mark.requirement("R1")
@given(ticket=tickets)
def test_identifier_round_trip(ticket):
    """An identifier is 51 characters of base64url, and parses to the ticket that wrote it."""
    identifier = ticket.identifier

    assert len(identifier) == TICKET_LENGTH == 51
    assert set(identifier) <= set(ALPHABET)
    assert Ticket.parse(identifier) == ticket


@given(ticket=tickets)
def test_every_changed_character_is_another_ticket_or_none(ticket):
    """No other spelling opens a session: each single-character change gives None or a different ticket."""
    identifier = ticket.identifier
    for place in range(0, TICKET_LENGTH, 5):
        for other in ALPHABET:
            if other != identifier[place]:
                assert Ticket.parse(identifier[:place] + other + identifier[place + 1 :]) != ticket


def test_every_single_character_change_is_seen():
    """At every place, every other character gives None or a ticket whose identifier is the changed text."""
    identifier = Ticket(Handle(0xA7, b"h" * 12), SECRET).identifier
    for place in range(TICKET_LENGTH):
        for other in set(map(chr, range(256))) - {identifier[place]}:
            changed = identifier[:place] + other + identifier[place + 1 :]
            parsed = Ticket.parse(changed)
            assert parsed is None or parsed.identifier == changed


@pytest.mark.parametrize("last", range(4))
def test_unused_low_bits_must_be_zero(last):
    """The last character carries two unused bits: only the spelling with zeros there is an identifier."""
    identifier = Ticket(Handle(0, bytes(12)), bytes(24)).identifier
    assert identifier[-1] == "A"

    parsed = Ticket.parse(identifier[:-1] + ALPHABET_OF_BASE64[last])

    assert (parsed is not None) == (last == 0)


ALPHABET_OF_BASE64 = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


def test_every_other_length_is_refused():
    """Text of any length but 51 is no identifier, whether cut short, padded or doubled."""
    identifier = Ticket(Handle(3, b"h" * 12), SECRET).identifier
    long = identifier + identifier + "A" * 4096
    for length in (*range(51), *range(52, 300), len(long)):
        assert Ticket.parse(long[:length]) is None


@pytest.mark.parametrize("padding", ["=", "==", " ", "\n", "\r\n", "\0", "A", "\t", ";"])
def test_nothing_may_stand_around_an_identifier(padding):
    """Padding, white space and line ends before or after an identifier are refused."""
    identifier = Ticket(Handle(3, b"h" * 12), SECRET).identifier

    assert Ticket.parse(identifier + padding) is None
    assert Ticket.parse(padding + identifier) is None
    assert Ticket.parse(padding + identifier[len(padding) :]) is None or padding == "A"


@pytest.mark.parametrize("digit", ["٣", "\uff13", "߃", "é", "\uff41", "İ", "\u212a", "+", "/", "\udc80"])
def test_characters_outside_the_alphabet_are_refused(digit):
    """Digits and letters of other scripts, the other base64 alphabet and lone surrogates are refused."""
    identifier = Ticket(Handle(3, b"h" * 12), SECRET).identifier
    for place in (0, 25, 50):
        assert Ticket.parse(identifier[:place] + digit + identifier[place + 1 :]) is None


@given(text=st.text(max_size=60))
def test_parse_never_raises(text):
    """Any text is an identifier or None; it never is an error."""
    parsed = Ticket.parse(text)

    assert parsed is None or parsed.identifier == text


@pytest.mark.parametrize("form", [0, 2, 3, 255])
def test_unknown_format_is_refused(form):
    """An identifier of another format than 1 is none to this version."""
    identifier = Ticket(Handle(3, b"h" * 12), SECRET).identifier
    first_two = ALPHABET_OF_BASE64[form >> 2] + ALPHABET_OF_BASE64[(form & 3) << 4]

    assert Ticket.parse(first_two + identifier[2:]) is None


@pytest.mark.requirement("R1")
def test_a_million_tickets_differ():
    """In a million new tickets no handle and no secret occurs twice, and every partition does."""
    handles, secrets, partitions = set(), set(), set()
    for _ in range(1_000_000):
        ticket = Ticket.new(Handle.new())
        handles.add(ticket.handle.value)
        secrets.add(ticket.secret)
        partitions.add(ticket.handle.partition)

    assert len(handles) == len(secrets) == 1_000_000
    assert {len(value) for value in handles} == {12}
    assert {len(secret) for secret in secrets} == {24}
    assert partitions == set(range(256))


@pytest.mark.requirement("R1")
def test_every_bit_of_a_new_ticket_varies():
    """All 96 bits of a handle and all 192 of a secret take both values: none is fixed, as a UUID's version is."""
    ones, zeros = 0, 0
    for _ in range(200):
        ticket = Ticket.new(Handle.new(0))
        bits = int.from_bytes(ticket.handle.value + ticket.secret)
        ones, zeros = ones | bits, zeros | ~bits

    assert ones & (2**288 - 1) == zeros & (2**288 - 1) == 2**288 - 1


def test_secret_never_shows():
    """repr, str and format of a ticket show its handle and nothing of its secret."""
    ticket = Ticket(Handle(0xA7, b"h" * 12), SECRET)

    for text in (repr(ticket), str(ticket), f"{ticket}", repr([ticket]), repr({"t": ticket})):
        assert repr(SECRET)[2:-1] not in text
        assert SECRET.hex() not in text
        assert ticket.identifier not in text
        assert ticket.identifier[-32:] not in text
    assert str(ticket.handle) in repr(ticket)


def test_digest_is_sha_256_of_the_secret():
    """What the store learns of a secret is its SHA-256."""
    assert Ticket(Handle(0, bytes(12)), SECRET).digest == hashlib.sha256(SECRET).digest()


@given(handle=handles)
def test_handle_round_trip(handle):
    """A handle's text is two hexadecimal digits, a dot and 16 characters, and parses to the same handle."""
    text = str(handle)

    assert len(text) == 19
    assert (text[:2], text[2], text[3:]) == (f"{handle.partition:02x}", ".", handle.name)
    assert Handle.parse(text) == handle


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a7",
        "a7.",
        "A7.AAAAAAAAAAAAAAAA",
        "a7.AAAAAAAAAAAAAAA",
        "a7.AAAAAAAAAAAAAAAAA",
        "a7.AAAAAAAAAAAAAAA=",
        "a7.AAAAAAAAAAAAAAA+",
        "a7:AAAAAAAAAAAAAAAA",
        " a7.AAAAAAAAAAAAAAAA",
        "a7.AAAAAAAAAAAAAAAA\n",
        "٣7.AAAAAAAAAAAAAAAA",
        "a7.AAAAAAAAAAAAAAA٣",
        "1a7.AAAAAAAAAAAAAAAA",
    ],
)
def test_handle_refuses_other_text(text):
    """A handle has one spelling; everything else raises ValueError."""
    with pytest.raises(ValueError, match="not a session handle"):
        Handle.parse(text)


@pytest.mark.parametrize(("partition", "value"), [(-1, bytes(12)), (256, bytes(12)), (0, bytes(11)), (0, bytes(13))])
def test_handle_out_of_bounds(partition, value):
    """A handle is a partition of 0-255 and 12 bytes."""
    with pytest.raises(ValueError, match="a handle is a partition of 0-255 and 12 bytes"):
        Handle(partition, value)
