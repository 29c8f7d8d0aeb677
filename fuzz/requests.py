"""Fuzz targets: what a request brings, what a configuration says, and what a stream of events holds."""

from collections.abc import Iterator
from contextlib import suppress

from coatcheck.engine.exchange import Exchange
from coatcheck.engine.operations import Operations
from coatcheck.engine.store import _event as stored_event
from coatcheck.model.client import Client, ClientPolicy
from coatcheck.model.cookie import CookiePolicy, merge_cache_control, merge_vary
from coatcheck.model.csrf import CsrfPolicy, is_token_of, make_token, token_in_form
from coatcheck.model.errors import ConfigurationError, CsrfRefused
from coatcheck.model.events import Event
from coatcheck.model.keyring import Keyring, new_key
from coatcheck.model.partition import TAGS
from coatcheck.model.sources import source_of
from coatcheck.model.ticket import Handle, Ticket
from coatcheck.runtime.address import Address
from coatcheck.runtime.blocking import BlockingTransport
from coatcheck.runtime.channel import _event as heard_event
from fuzz.values import HANDLE, KEY

DIGEST = bytes(range(32))
CSRF = CsrfPolicy()
CLIENT = ClientPolicy(user_agent=None)
BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW0"  # long, as browsers make them: no token begins like it
COOKIES = (CookiePolicy(), CookiePolicy(name="s", host_prefix=False, development=True))

_OPERATIONS = Operations(BlockingTransport(Address("redis://127.0.0.1:1"), {}), keyring=Keyring([KEY]))  # sends nothing
_EXCHANGES = [Exchange(_OPERATIONS, policy) for policy in COOKIES]
_TICKET = Ticket(HANDLE, b"secret of 24 characters.")
_TICKET_BYTES = 37  # partition, handle, secret


def _text(data: bytes) -> str:
    """Read bytes as servers do that keep what is not UTF-8."""
    return data.decode("utf-8", "surrogateescape")


def check_ticket(data: bytes) -> None:
    """An identifier and a handle have one spelling; everything else is none."""
    text = _text(data)
    ticket = Ticket.parse(text)
    assert ticket is None or ticket.identifier == text, "an identifier has two spellings"
    with suppress(ValueError):
        assert str(Handle.parse(text)) == text, "a handle has two spellings"
    if len(data) >= _TICKET_BYTES:
        made = Ticket(Handle(data[0], data[1:13]), data[13:_TICKET_BYTES])
        assert Ticket.parse(made.identifier) == made
        assert Handle.parse(str(made.handle)) == made.handle
        assert text not in repr(made)


def check_cookie(data: bytes) -> None:
    """A Cookie header gives the values of one name as they stand in it; of several, none is used."""
    text = _text(data)
    for policy, exchange in zip(COOKIES, _EXCHANGES, strict=True):
        for secure in (True, False):
            name, values = policy.full_name(secure=secure), policy.read(text, secure=secure)
            assert all(f"{name}={value}" in text and ";" not in value for value in values if value)
            assert len(values) <= text.count(name)
            assert policy.read(f"{text};{name}={_TICKET.identifier}", secure=secure) == (*values, _TICKET.identifier)
        host, _, cookies = text.partition("\n")
        visit = exchange.begin(cookies, https=bool(len(data) % 2), host=host)
        assert visit.ticket is None or visit.ticket.identifier in cookies
    assert "cookie" in merge_vary(text).lower() or "*" in merge_vary(text)
    merge_cache_control(text, sets_cookie=False)


def check_csrf(data: bytes) -> None:
    """A token is only what was made as one; a form gives text or nothing; origins are believed or refused."""
    text = _text(data)
    assert not is_token_of(text, [KEY], [DIGEST]), "a token was forged"
    kind, _, body = data.partition(b"\n")
    found = token_in_form(_text(kind), body, CSRF.field)
    assert found is None or isinstance(found, str)
    site, origin, host = (*text.split("\n", 2), "", "")[:3]
    headers = {"Sec-Fetch-Site": site or None, "Origin": origin, "Host": host}
    with suppress(CsrfRefused):
        CSRF.is_own(headers.get)
    CSRF.applies_to(site, origin)


def check_form(data: bytes) -> None:
    """A token that a form holds is found in it, whatever stands beside it."""
    token = make_token(KEY, DIGEST)
    assert is_token_of(token, [KEY], [DIGEST])
    plain = data.replace(b"\r\n", b"").replace(b"csrf_token", b"").replace(b"%", b"").replace(b"+", b"")
    form = b"csrf_token=" + token.encode() + b"&" + plain
    assert token_in_form("application/x-www-form-urlencoded", form, CSRF.field) == token
    line = b"--" + BOUNDARY.encode()
    part = line + b'\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\n' + token.encode()
    other = b'\r\n%b\r\nContent-Disposition: form-data; name="a"\r\n\r\n%b\r\n%b--\r\n' % (line, plain, line)
    assert token_in_form(f"multipart/form-data; boundary={BOUNDARY}", part + other, CSRF.field) == token


def check_client(data: bytes) -> None:
    """An address is that of a network or unknown; what is kept of a client is read as it was written."""
    address = _text(data)
    source_of(address)
    client = CLIENT.look(None, address)
    assert Client.parse(client.text) == client
    assert CLIENT.compare(client, client).reaction is None
    CLIENT.compare(CLIENT.look(None, "192.0.2.1"), client)


def check_event(data: bytes) -> None:
    """An entry of a stream of events, or what is heard on its channel, is an event, or is not understood: None."""
    partition = data[0] if data else 0
    name, *flat = data[1:].split(b"\0")
    flat = flat[: len(flat) // 2 * 2]
    channel = b"cc:{" + TAGS[partition].encode() + b"}:e"
    for event in (
        stored_event(partition, (name, flat)),
        heard_event({"channel": channel, "data": data[1:]}),
        heard_event({"channel": data[1:], "data": data}),
    ):
        assert event is None or isinstance(event, Event)


def check_address(data: bytes) -> None:
    """An address or a list of keys is taken or refused with ConfigurationError; a password is never shown."""
    text = _text(data)
    with suppress(ConfigurationError):
        str(Address(text or "x"))
    with suppress(ConfigurationError):
        Keyring.parse(text)
    try:
        shown = str(Address(f"redis://user:hunter2@{text}"))
    except ConfigurationError as error:
        shown = str(error)
    assert "hunter2" not in shown or "hunter2" in text, "an address shows its password"


def ticket_seeds() -> Iterator[bytes]:
    """Give identifiers, handles, and what is almost one."""
    for text in (_TICKET.identifier, str(HANDLE)):
        yield from (text.encode(), text[:-1].encode(), f"{text}=".encode(), f"{text[:-1]}é".encode())
    yield bytes(_TICKET_BYTES)


def cookie_seeds() -> Iterator[bytes]:
    """Give Cookie headers behind a host."""
    pair = f"session={_TICKET.identifier}"
    headers = ("", pair, f"__Host-{pair}", f"a=b; {pair}; {pair}", f"{pair}; s={_TICKET.identifier}", "=;;=", "session")
    hosts = ("localhost", "[::1]:80", "example.org:443", "[", "")
    yield from (f"{host}\n{header}".encode() for host in hosts for header in headers)
    yield b"Accept, Cookie"


def csrf_seeds() -> Iterator[bytes]:
    """Give tokens of another session, forms behind their type, and headers about where a request comes from."""
    token = make_token(KEY, bytes(32))
    part = f'--x\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\n{token}\r\n--x--\r\n'
    yield token.encode()
    yield f"application/x-www-form-urlencoded\na=1&csrf_token={token}&%ff=%00".encode()
    yield f"multipart/form-data; boundary=x\n{part}".encode()
    yield f'multipart/form-data; boundary="x"\n{part}'.encode()
    for site in ("same-origin", "same-site", "none", ""):
        for origin in ("https://example.org", "null", "http://[::1]", ""):
            yield f"{site}\n{origin}\nexample.org".encode()


def form_seeds() -> Iterator[bytes]:
    """Give what may stand beside a token in a form."""
    yield from (b"", b"a=1&b=2", b"\r\n--x", b"--x--", b"&&;=", b"\xff\xfe", b"Content-Disposition: form-data; name=x")


def client_seeds() -> Iterator[bytes]:
    """Give addresses."""
    for address in (
        "192.0.2.1",
        "2001:db8::1",
        "::ffff:192.0.2.1",
        "fe80::1%eth0",
        "192.0.2.1:80",
        "[::1]",
        "1.2.3",
        "",
    ):
        yield address.encode()


def event_seeds() -> Iterator[bytes]:
    """Give entries of the stream, and what the channel tells."""
    fields = {"t": "bound", "h": HANDLE.name, "s": "digest", "at": "1767225600123", "by": "", "why": ""}
    flat = "\0".join(word for pair in fields.items() for word in pair)
    for changed in (flat, flat.replace("bound", "later"), flat.replace("\0why\0", ""), flat.replace("17672", "9" * 20)):
        yield b"\xa7" + f"1767225600123-0\0{changed}".encode()
    yield b"\xa7" + "\n".join(fields.values()).encode()
    yield b"\xa7" + b"1-1\0t\0revoked\0h\0\0s\0\0at\x001\0by\0\0why\0\0"


def address_seeds() -> Iterator[bytes]:
    """Give addresses and keys."""
    for url in ("redis://h:6379/0?timeout=1", "embedded:///f", "rediss://[::1]:1/2", "unix:///s?db=1", "valkeys://h"):
        yield url.encode()
    yield from (b"redis://[", b"cluster://h", b"h:6379/0", b"embedded://h", b"h/%2F?db=x", b"[::1", b"h:99999999")
    yield new_key().encode()
    yield f"{new_key()},{new_key()}".encode()
