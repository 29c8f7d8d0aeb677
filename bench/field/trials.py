"""The trials, and the tables that they make. Each trial's docstring says exactly what is done."""

import asyncio
import os
import pickle  # noqa: TID251 (one is planted to see who loads it)
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from bench.field.peers import PEERS, Peer
from bench.field.stage import ROOT, Browser, Stage, staged, until

N: Final = 50
_DOCUMENT: Final = ROOT / "docs" / "comparison.md"
_NEEDLE: Final = "needle-in-the-store"
_ERRORS: Final = 500


async def parallel(stage: Stage) -> str:
    """Let two requests of one session read it, meet at the gate, set one attribute each; see if both are there."""
    lost = 0
    for _ in range(N):
        browser = await _visitor(stage)
        requests = [browser.copy().get("/set", name=name, value="1", wait="1") for name in ("a", "b")]
        tasks = [asyncio.create_task(request) for request in requests]
        await stage.gate.arrivals(2)
        stage.gate.open()
        await asyncio.gather(*tasks)
        lost += not {"a", "b"} <= (await browser.get("/show")).data.keys()
    return f"{lost} of {N} lost one"


async def late_write(stage: Stage) -> str:
    """Let one request wait at the gate, another log out, the first set an attribute; see what the old cookie finds."""

    async def slowly(browser: Browser) -> asyncio.Task[object]:
        task = asyncio.create_task(browser.get("/set", name="late", value="1", wait="1"))
        await stage.gate.arrivals(1)
        return task

    return await _logout_during(stage, slowly, stage.gate.open)


async def held_write(stage: Stage) -> str:
    """Do the same, but hold the first request's write to the store on the wire while the other logs out."""

    async def slowly(browser: Browser) -> asyncio.Task[object]:
        stage.wire.hold_next_write()
        task = asyncio.create_task(browser.get("/set", name="late", value="1"))
        await stage.wire.caught()
        return task

    return await _logout_during(stage, slowly, stage.wire.release)


async def chosen_id(stage: Stage) -> str:
    """Bring an id of the right shape that nobody made, write; see if a session lives under that id."""
    adopted = 0
    for turn in range(N):
        browser = await _visitor(stage)
        if turn % 2:  # then the store knows no part of the id
            stage.store.client.flushall()
        (name, value), *_ = browser.cookies.items()
        invented = value[:-12] + value[-4:-12:-1] + value[-4:]
        attacker = Browser(stage.client, {name: invented})
        await Browser(stage.client, {name: invented}).get("/set", name="a", value="1")
        adopted += "a" in (await attacker.get("/show")).data
    return f"{adopted} of {N} adopted"


async def outage(stage: Stage) -> str:
    """Kill the store (-9); let a signed-in browser read, its copy write; start the store with its data; read again."""
    reader = await _signed_in(stage)
    writer = reader.copy()
    before = dict(reader.cookies)
    stage.wire.cut()
    await stage.store.kill()
    read = await reader.get("/show")
    write = await writer.get("/set", name="a", value="1")
    cookie = "kept" if reader.cookies == before == writer.cookies else "lost"
    await stage.store.start()
    await stage.wire.connect()

    async def serves() -> bool:
        return (await reader.copy().get("/show")).status < _ERRORS

    await until(serves)
    known = "user_id" in (await reader.get("/show")).data and "user_id" in (await writer.get("/show")).data
    seen = f"{read.status}{' as a stranger' if read.status < _ERRORS else ''}"
    return f"{seen} / {write.status}, cookie {cookie}, then {'known' if known else 'signed out'}"


async def planted_pickle(stage: Stage) -> str:
    """Replace a session in the store by a pickle that makes a folder, read the session; see if the folder is there."""
    stage.store.client.flushall()
    browser = await _visitor(stage)
    marker = stage.folder / "pickle-was-run"
    plant = pickle.dumps(_Plant(marker))
    for key in stage.store.content():
        if stage.store.client.type(key) == b"hash":
            stage.store.client.hset(key, "d", plant)
        else:
            stage.store.client.set(key, plant, keepttl=True)
    await browser.get("/show")
    return "runs it" if marker.exists() else "no"


async def sign_in(stage: Stage) -> str:
    """Sign an anonymous session in, by a bare attribute and by the peer's own means; see if that makes a new id."""
    answers = []
    for query in ({}, {"own": "1"}):
        browser = await _visitor(stage)
        thief = browser.copy()
        await browser.get("/login", **query)
        is_new = browser.cookies != thief.cookies
        is_closed = "user_id" not in (await thief.get("/show")).data
        answers.append("new id" if is_new and is_closed else "new id, old one still works" if is_new else "same id")
    return " / ".join(answers)


async def cookie(stage: Stage) -> str:
    """Read the first Set-Cookie over https."""
    header, *_ = (await stage.browser().get("/set", name="a", value="1")).set_cookies
    name, attributes = header.partition("=")[0], header.partition(";")[2].lower()
    same_site = re.search(r"samesite=(\w+)", attributes)
    flags = [
        next((prefix for prefix in ("__Host-", "__Secure-") if name.startswith(prefix)), "no prefix"),
        "Secure" if re.search(r"\bsecure\b", attributes) else "**not Secure**",
        "HttpOnly" if "httponly" in attributes else "**not HttpOnly**",
        f"SameSite={same_site[1].title()}" if same_site else "no SameSite",
    ]
    return ", ".join(flags)


async def at_rest(stage: Stage) -> str:
    """Read the store: see if the name of a key holds a whole cookie, and if an attribute can be read."""
    stage.store.client.flushall()
    browser = stage.browser()
    await browser.get("/set", name="a", value=_NEEDLE)
    content = stage.store.content()
    (value,) = browser.cookies.values()
    in_keys = any(value.encode() in key for key in content)
    readable = any(_NEEDLE.encode() in stored for stored in content.values())
    return f"{'cookie in the key' if in_keys else 'no cookie'}, data {'readable' if readable else 'sealed'}"


Trial = Callable[[Stage], Awaitable[str]]
TRIALS: Final[dict[str, tuple[Trial, bool]]] = {  # and whether it looks at the store in Redis
    "parallel updates": (parallel, False),
    "write after logout": (late_write, False),
    "write held during logout": (held_write, True),
    "id chosen by the client": (chosen_id, False),
    "sign-in: bare / own": (sign_in, False),
    "store down: read / write": (outage, True),
    "planted pickle": (planted_pickle, True),
    "cookie over https": (cookie, False),
    "the store shows": (at_rest, True),
}


class _Plant:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._marker),)


async def _visitor(stage: Stage) -> Browser:
    browser = stage.browser()
    await browser.get("/set", name="seed", value="1")
    return browser


async def _signed_in(stage: Stage) -> Browser:
    browser = await _visitor(stage)
    await browser.get("/login", own="1")
    if "user_id" not in (await browser.get("/show")).data:
        raise RuntimeError("nobody is signed in: the trial would show nothing")
    return browser


async def _logout_during(
    stage: Stage, slowly: Callable[[Browser], Awaitable[asyncio.Task[object]]], go_on: Callable[[], None]
) -> str:
    """Log out while a request of the same session runs; look what the cookie of before finds."""
    browser = await _signed_in(stage)
    thief = browser.copy()
    await browser.get("/logout")
    if "user_id" in (await thief.get("/show")).data:
        raise RuntimeError("a logout alone ends nothing: the trial would show nothing")
    signed_in = revived = 0
    for _ in range(N):
        browser = await _signed_in(stage)
        thief = browser.copy()
        task = await slowly(browser.copy())
        await browser.get("/logout")
        go_on()
        await task
        found = (await thief.get("/show")).data
        signed_in += "user_id" in found
        revived += bool(found)
    return f"{signed_in} of {N} signed in again" if signed_in == revived else f"{revived} of {N} alive, without ada"


async def measure(peer: Peer) -> list[str]:
    """Run all trials of one peer, in a store and a process of its own; give the cells of its row."""
    cells = []
    with tempfile.TemporaryDirectory(prefix="field-") as folder:
        async with staged(Path(folder), peer.venv, peer.command, peer.variant) as stage:
            for title, (trial, needs_store) in TRIALS.items():
                cells.append(await trial(stage) if peer.in_redis or not needs_store else "-")
                sys.stdout.write(f"{peer.title():36} {title:26} {cells[-1]}\n")
                sys.stdout.flush()
    return cells


def tables(rows: dict[str, list[str]]) -> str:
    """Draw tables of three trials each: wider ones cannot be read."""
    lines = []
    titles = list(TRIALS)
    for first in range(0, len(titles), 3):
        part = slice(first, first + 3)
        lines += [f"| | {' | '.join(titles[part])} |", "| --- | --- | --- | --- |"]
        lines += [f"| {name} | {' | '.join(cells[part])} |" for name, cells in rows.items()]
        lines.append("")
    return "\n".join(lines)


def main(words: list[str]) -> None:
    """Measure the peers whose names contain one of *words*, or all; all together are written down."""
    chosen = [peer for peer in PEERS if not words or any(word in peer.title() for word in words)]
    rows = {peer.title(): asyncio.run(measure(peer)) for peer in chosen}
    drawn = tables(rows)
    sys.stdout.write(f"\n{drawn}\n")
    if not words:
        text = _DOCUMENT.read_text()
        _DOCUMENT.write_text(
            re.sub(
                r"(<!-- field -->\n).*(<!-- /field -->)",
                lambda found: f"{found[1]}\n{drawn}\n{found[2]}",
                text,
                flags=re.DOTALL,
            )
        )


if __name__ == "__main__":
    main(sys.argv[1:])
