"""The scripts that write to the store, one operation each.

A script's header states its KEYS, ARGV and REPLY; ``-- USES: events index`` puts lua/events.lua and
lua/index.lua in front. A script takes the time from its caller, touches one partition and may be sent twice
without harm.
"""

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from coatcheck.engine.transport import Argument, Command

_USES: Final = re.compile(r"^-- USES: ([a-z_ ]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the SHA-1 by which servers know it."""

    name: str
    source: str
    sha: str

    def command(self, keys: tuple[str, ...], *arguments: Argument) -> Command:
        """Make the command that runs it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)


def _load(name: str) -> Script:
    folder = files("coatcheck.engine") / "lua"
    source = (folder / f"{name}.lua").read_text()
    uses = _USES.search(source)
    shared = "".join((folder / f"{part}.lua").read_text() for part in (uses[1].split() if uses else ()))
    source = shared + source
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


CREATE: Final = _load("create")
SAVE: Final = _load("save")
TOUCH: Final = _load("touch")
BIND: Final = _load("bind")
TRIM: Final = _load("trim")
REVOKE: Final = _load("revoke")
REVOKE_ALL: Final = _load("revoke_all")
REVOKE_EVERYONE: Final = _load("revoke_everyone")
LIST: Final = _load("list")
SWEEP: Final = _load("sweep")
READ_EVENTS: Final = _load("read_events")
COMPARTMENT: Final = _load("compartment")
ACTIVITY: Final = _load("activity")
READ_ACTIVITY: Final = _load("read_activity")
RESEAL: Final = _load("reseal")
ISSUED: Final = _load("issued")
DICTIONARY_ADD: Final = _load("dictionary_add")
DICTIONARY_KEEP: Final = _load("dictionary_keep")
DICTIONARY_DROP: Final = _load("dictionary_drop")
MARK: Final = _load("mark")

_ALL: Final = (
    CREATE,
    SAVE,
    TOUCH,
    BIND,
    TRIM,
    REVOKE,
    REVOKE_ALL,
    REVOKE_EVERYONE,
    LIST,
    SWEEP,
    READ_EVENTS,
    COMPARTMENT,
    ACTIVITY,
    READ_ACTIVITY,
    RESEAL,
    ISSUED,
    DICTIONARY_ADD,
    DICTIONARY_KEEP,
    DICTIONARY_DROP,
    MARK,
)
BY_SHA: Final = {script.sha: script for script in _ALL}
