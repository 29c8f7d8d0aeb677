"""The scripts that write to the store, one operation each.

A script's header states its KEYS, ARGV and REPLY; ``-- USES: index`` puts lua/index.lua in front. A script
takes the time from its caller, touches one partition and may be sent twice without harm.
"""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from coatcheck.engine.transport import Argument, Command


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
    if "-- USES: index" in source:
        source = (folder / "index.lua").read_text() + source
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


CREATE: Final = _load("create")
SAVE: Final = _load("save")
TOUCH: Final = _load("touch")
BIND: Final = _load("bind")
TRIM: Final = _load("trim")
REVOKE: Final = _load("revoke")
REVOKE_ALL: Final = _load("revoke_all")
LIST: Final = _load("list")
SWEEP: Final = _load("sweep")

BY_SHA: Final = {script.sha: script for script in (CREATE, SAVE, TOUCH, BIND, TRIM, REVOKE, REVOKE_ALL, LIST, SWEEP)}
