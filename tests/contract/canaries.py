"""Canaries: random things to plant where secrets are, and the places where none of them may be found again."""

import gc
import json
import logging
import re
import secrets
import traceback
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from tests.waiting import wait_until

_SHORTEST = 8  # bytes: a shorter one may be found by chance
_ENOUGH = 12
_ESCAPED = re.compile(rb"\\(?:x([0-9a-f]{2})|(.))", re.DOTALL)
_CONTROLS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}

# All that a server writes down or shows is to be in the clear here: RDB would compress a long value.
_SETTINGS = {
    "slowlog-log-slower-than": "0",
    "slowlog-max-len": "100000",
    "rdbcompression": "no",
    "appendfsync": "always",
    "appendonly": "yes",
}


def _forms(canary: bytes) -> Iterator[bytes]:
    """Give what each form begins or ends with in which *canary*, or half of it, could be seen.

    That is: raw, escaped, hexadecimal, and base64 wherever it begins.
    """
    for end in (canary[:_ENOUGH], canary[-_ENOUGH:]):
        yield end
        yield repr(end)[2:-1].encode()
        yield end.hex().encode()
        yield end.hex().upper().encode()
        for encode in (b64encode, urlsafe_b64encode):
            for before in range(3):
                whole = (before + len(end)) * 8 // 6
                yield encode(bytes(before) + end)[-(-before * 8 // 6) : whole]


class Canaries:
    """What is secret in a test, each under a name that says what it is."""

    def __init__(self) -> None:
        """Begin with none."""
        self._forms: dict[bytes, str] = {}

    def text(self, what: str) -> str:
        """Make a canary that is a text."""
        return self.plant(what, secrets.token_hex(16))

    def number(self, what: str) -> int:
        """Make a canary that is a number."""
        number = 10**17 + secrets.randbelow(10**17)
        self.plant(what, str(number))
        self.plant(what, number.to_bytes(8))
        return number

    def plant(self, what: str, canary: str | bytes) -> str:
        """Remember a secret that is there already; give it back as a text."""
        raw = canary.encode() if isinstance(canary, str) else canary
        assert len(raw) >= _SHORTEST
        self._forms.update(dict.fromkeys(_forms(raw), what))
        return canary if isinstance(canary, str) else ""

    def found_in(self, places: dict[str, bytes]) -> set[tuple[str, str]]:
        """Give where which canaries are, as (place, what)."""
        return {
            (place, what) for place, content in places.items() for form, what in self._forms.items() if form in content
        }


@contextmanager
def watched(nodes) -> Iterator[dict[str, bytes]]:
    """Watch servers meanwhile, by *nodes*, clients that may do everything; fill the places when the block ends."""
    places: dict[str, bytes] = {}
    with ExitStack() as stack:
        watches = [stack.enter_context(_watched(node)) for node in nodes]
        yield places
        for finish in watches:
            for place, content in finish().items():
                places[place] = places.get(place, b"") + content


@contextmanager
def _watched(client) -> Iterator[Callable[[], dict[str, bytes]]]:
    """Watch one server; give a function that gives all that was seen of it."""
    former = {name: client.config_get(name)[name] for name in _SETTINGS}
    for name, value in _SETTINGS.items():
        client.config_set(name, value)
    wait_until(lambda: _is_persistent(client.info("persistence")), "the server has begun its AOF")
    client.slowlog_reset()
    client.execute_command("ACL LOG", "RESET")
    with client.monitor() as monitor:
        try:
            yield lambda: _seen(client, monitor)
        finally:
            for name, value in former.items():
                client.config_set(name, value)


def _seen(client, monitor) -> dict[str, bytes]:
    token = secrets.token_hex(8)
    client.echo(token)
    seen = []
    while token not in (command := monitor.next_command()["command"]):
        seen.append(command.encode())
    slow = client.slowlog_get(100_000)
    places = {
        "MONITOR": b"\n".join([*seen, *map(_plain, seen)]),
        "SLOWLOG": b"\n".join(entry["command"] for entry in slow),
        "ACL LOG": repr(client.acl_log()).encode(),
        "INFO": repr(client.info("everything")).encode(),
    }
    client.save()
    for path in Path(client.config_get("dir")["dir"]).rglob("*"):
        if path.is_file() and path.name != "keys":  # the embedded server's owner keeps the sealing keys there
            kind = "AOF" if "aof" in path.name else "RDB" if path.suffix == ".rdb" else "server's file"
            places[kind] = places.get(kind, b"") + path.read_bytes()
    assert places.keys() >= {"AOF", "RDB"}
    return places


def clients(nodes) -> bytes:
    """Give what servers show of those who are connected."""
    return b"".join(repr(node.client_list()).encode() for node in nodes)


def logged(records: list[logging.LogRecord]) -> bytes:
    """Give all that is in log records, what is attached to them and their tracebacks included."""
    formatter = logging.Formatter("%(name)s %(message)s")
    lines = [formatter.format(record) + json.dumps(record.__dict__, default=repr) for record in records]
    return "\n".join(lines).encode()


def shown(error: BaseException) -> bytes:
    """Give all that an exception shows: text, traceback, and how our objects show among the locals of its frames."""
    lines = [str(error), repr(error), *traceback.format_exception(error)]
    chain: BaseException | None = error
    while chain is not None:
        lines += _locals(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__
    return "\n".join(lines).encode(errors="backslashreplace")


def objects() -> bytes:
    """Give how every object of ours that is alive shows."""
    return "\n".join(repr(thing) for thing in gc.get_objects() if _is_ours(thing)).encode()


def _locals(frames: TracebackType | None) -> Iterator[str]:
    while frames is not None:
        for value in frames.tb_frame.f_locals.values():
            members = value if isinstance(value, list | tuple | set) else (value,)
            yield from (repr(member) for member in members if _is_ours(member))
        frames = frames.tb_next


def _is_ours(thing: object) -> bool:
    module = type(thing).__module__  # of some classes of others it is no text
    return isinstance(module, str) and module.partition(".")[0] == "coatcheck"


def _is_persistent(info: dict[str, object]) -> bool:
    return info["aof_enabled"] == 1 and not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]


def _plain(command: bytes) -> bytes:
    """Take back the escapes in which a server shows bytes."""

    def byte(found: re.Match[bytes]) -> bytes:
        return bytes.fromhex(found[1].decode()) if found[1] else _CONTROLS.get(found[2], found[2])

    return _ESCAPED.sub(byte, command)
