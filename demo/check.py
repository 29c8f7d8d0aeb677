"""The story of the page, told by a program: each step says what holds, and whether it did."""

import asyncio
import fcntl
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import httpx

from demo.front import Front
from demo.servers import Fleet
from demo.shop import POLICY

FRAMEWORKS: Final = ("FastAPI", "Flask", "Django")
MANY: Final = 30
MOST_SHOWN: Final = 300
PATIENCE_SECONDS: Final = 12.0
COOKIE: Final = "coatcheck-demo"
FIREFOX: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE: Final = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Safari/604.1"


class Wrong(Exception):
    """A step found something else than it says."""


def expect(what_holds: object, found: object) -> None:
    """Raise Wrong, with what was found, unless the first holds."""
    if not what_holds:
        raise Wrong(f"found {found}"[:MOST_SHOWN])


class Browser:
    """A client with a cookie jar of its own, as a browser has."""

    def __init__(self, address: str, agent: str, cookie: str | None = None) -> None:
        """Open it at *address*. cookie: a session identifier that it starts with."""
        headers = {"User-Agent": agent} | ({} if cookie is None else {"Cookie": f"{COOKIE}={cookie}"})
        self.client = httpx.AsyncClient(base_url=address, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False)

    @property
    def identifier(self) -> str | None:
        """The session identifier that it holds."""
        return self.client.cookies.get(COOKIE)

    async def state(self) -> dict[str, Any]:
        """Ask what the page would show. Raises Wrong unless the answer is 200."""
        response = await self.client.get("/api/state")
        expect(response.status_code == httpx.codes.OK, f"{response.status_code}: {response.text[:300]}")
        return dict(response.json())

    async def post(self, path: str, **wish: object) -> httpx.Response:
        """Do what a button does, whatever comes of it."""
        return await self.client.post(path, json=wish)

    async def do(self, path: str, **wish: object) -> str:
        """Do what a button does; return which framework did it. Raises Wrong unless the answer is 200."""
        response = await self.post(path, **wish)
        expect(response.status_code == httpx.codes.OK, f"{response.status_code}: {response.text[:300]}")
        return str(response.json()["server"]["framework"])

    async def count(self, item: str) -> int:
        """Look how many of an item the cart holds."""
        return next(int(line["count"]) for line in (await self.state())["cart"] if line["item"] == item)


class Story:
    """The running demo, and the two browsers of the story."""

    def __init__(self, folder: Path, run: Path, port: int) -> None:
        """Describe it; nothing runs yet."""
        self._places, self._port = (folder, run), port
        self._open = AsyncExitStack()
        self._address = ""
        self.groups: list[int] = []
        self.retired: list[str] = []

    async def start(self) -> None:
        """Start the store, the servers, the front; and both browsers if they are not there yet."""
        self.fleet = await self._open.enter_async_context(Fleet(*self._places))
        self._note_groups()
        front = await self._open.enter_async_context(Front(self.fleet, self._port))
        if not self._address:
            self._address, self._port = front.address, front.port
            self.desk, self.phone = self.browser(FIREFOX), self.browser(IPHONE)

    async def stop(self) -> None:
        """End them all; the browsers stay."""
        await self._open.aclose()

    def browser(self, agent: str, cookie: str | None = None) -> Browser:
        """Open another browser."""
        return Browser(self._address, agent, cookie)

    async def stranger(self, cookie: str | None) -> bool:
        """Say whether a browser with this session identifier is a stranger, to all three servers."""
        browser = self.browser(FIREFOX, cookie)
        states = [await browser.state() for _ in FRAMEWORKS]
        return all(state["session"] is None and state["user"] is None for state in states)

    async def command(self, path: str, name: str) -> None:
        """Kill or restart a server, as the page does."""
        response = await self.desk.post(path, name=name)
        expect(response.status_code == httpx.codes.OK, response.text)
        self._note_groups()

    async def wait(self, what: str, condition: Callable[[], Awaitable[object]]) -> None:
        """Wait until *condition* holds. Raises Wrong when it takes too long."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not await condition():
            expect(time.monotonic() < deadline, f"no {what} within {PATIENCE_SECONDS:.0f} s")
            await asyncio.sleep(0.05)

    def _note_groups(self) -> None:
        self.groups += [server.pid for server in self.fleet.servers if server.pid not in {None, *self.groups}]


# The steps, in the order they are taken; STEPS says what each of them shows.


async def starts(story: Story) -> None:
    await story.start()


async def page(story: Story) -> None:
    served: Counter[str] = Counter()
    for path in ("/", "/page/page.js", "/page/style.css", "/page/icon.svg") * len(FRAMEWORKS):
        response = await story.desk.client.get(path)
        policy = response.headers.get("content-security-policy", "")
        expect(response.status_code == httpx.codes.OK, f"{response.status_code} for {path}")
        expect("default-src 'none'" in policy and "unsafe" not in policy, policy)
        expect("set-cookie" not in response.headers, "a cookie")
        served[response.headers["server"]] += 1
    expect(set(served) == set(FRAMEWORKS), dict(served))
    expect((await story.desk.client.get("/page/no-such-file")).status_code == httpx.codes.NOT_FOUND, "a file")


async def stranger(story: Story) -> None:
    states = [await story.desk.state() for _ in FRAMEWORKS]
    expect({state["server"]["framework"] for state in states} == set(FRAMEWORKS), [state["server"] for state in states])
    expect(all(state["session"] is None for state in states), "a session")
    expect(story.desk.identifier is None, "a cookie")


async def travels(story: Story) -> None:
    await story.desk.do("/api/cart", item="scarf", by=1)
    states = [await story.desk.state() for _ in FRAMEWORKS]
    expect({state["server"]["framework"] for state in states} == set(FRAMEWORKS), [state["server"] for state in states])
    expect(all(state["session"] for state in states), "no session")
    seen = {(state["session"]["handle"], state["session"]["absolute_deadline"], state["total"]) for state in states}
    expect(len(seen) == 1, seen)


async def writes(story: Story) -> None:
    by = {await story.desk.do("/api/cart", item="gloves", by=1) for _ in FRAMEWORKS}
    state = await story.desk.state()
    kept = {attribute["name"]: attribute for attribute in state["session"]["attributes"]}
    expect(by == set(FRAMEWORKS), by)
    expect(kept["written_by"] == {"name": "written_by", "type": "set", "value": "Django, FastAPI, Flask"}, kept)
    expect(kept["cart.gloves"]["value"] == "3", kept)


async def counts(story: Story) -> None:
    by = Counter(await asyncio.gather(*(story.desk.do("/api/cart", item="hat", by=1) for _ in range(MANY))))
    expect(set(by) == set(FRAMEWORKS), dict(by))
    expect((found := await story.desk.count("hat")) == MANY, found)


async def sign_in(story: Story) -> None:
    old = story.desk.identifier
    await story.desk.do("/api/sign-in", user="Ada")
    states = [await story.desk.state() for _ in FRAMEWORKS]
    expect({state["user"] for state in states} == {"Ada"}, [state["user"] for state in states])
    expect(await story.desk.count("hat") == MANY, "another cart")
    expect(story.desk.identifier not in {None, old}, "the same identifier")
    expect(await story.stranger(old), "the old identifier at work")


async def rotates(story: Story) -> None:
    old, before = story.desk.identifier, await story.desk.state()
    await story.desk.do("/api/rotate")
    after = await story.desk.state()
    expect(story.desk.identifier not in {None, old}, "the same identifier")
    expect(after["session"]["handle"] == before["session"]["handle"], "another handle")
    expect((await story.browser(FIREFOX, old).state())["user"] == "Ada", "a request under way refused")
    story.retired.append(str(old))


async def devices(story: Story) -> None:
    await story.phone.do("/api/sign-in", user="Ada")
    for browser, own in ((story.desk, "Firefox on Linux"), (story.phone, "Safari on iPhone")):
        listed = (await browser.state())["devices"]
        expect({device["device"] for device in listed} == {"Firefox on Linux", "Safari on iPhone"}, listed)
        expect([device["device"] for device in listed if device["is_this"]] == [own], listed)


async def end_device(story: Story) -> None:
    listed = (await story.desk.state())["devices"]
    other = next(device["handle"] for device in listed if not device["is_this"])
    own = next(device["handle"] for device in listed if device["is_this"])
    await story.desk.do("/api/devices/end", handle=other)
    expect((await story.phone.state())["user"] is None, "the phone signed in")
    await story.phone.do("/api/sign-in", user="Grace")
    for _ in FRAMEWORKS:
        await story.phone.do("/api/devices/end", handle=own)
    expect((await story.desk.state())["user"] == "Ada", "the desk signed out by somebody else")


async def killed_servers(story: Story) -> None:
    confirmed, before = 0, await story.desk.count("umbrella")
    unknown = 0
    for framework in FRAMEWORKS:
        load = [asyncio.create_task(story.desk.post("/api/cart", item="umbrella", by=1)) for _ in range(MANY // 3)]
        await asyncio.wait(load, return_when=asyncio.FIRST_COMPLETED)
        await story.command("/front/kill", framework)
        codes = Counter(response.status_code for response in await asyncio.gather(*load))
        expect(set(codes) <= {httpx.codes.OK, httpx.codes.BAD_GATEWAY}, dict(codes))  # 502: it may have been done
        by = [await story.desk.do("/api/cart", item="umbrella", by=1) for _ in FRAMEWORKS]
        expect(framework not in by, f"an answer of {framework}, which is dead")
        confirmed, unknown = confirmed + codes[httpx.codes.OK] + len(by), unknown + codes[httpx.codes.BAD_GATEWAY]
        await story.command("/front/restart", framework)
        await story.wait(f"answer of {framework} again", lambda name=framework: _is_back(story, name))
    added = await story.desk.count("umbrella") - before
    expect(confirmed <= added <= confirmed + unknown, f"{added} added, {confirmed} confirmed, {unknown} unknown")


async def killed_store(story: Story) -> None:
    before, old = await story.desk.state(), await asyncio.to_thread(story.fleet.store.pid)
    await story.command("/front/kill", "store")
    response = await story.desk.client.get("/api/state")  # waits for the store, or is told to try again
    expect(response.status_code in {httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE}, response.text)
    expect("set-cookie" not in response.headers, "a cookie changed by an outage")

    async def is_back() -> bool:
        return await asyncio.to_thread(story.fleet.store.pid) not in {None, old}

    await story.wait("store", is_back)
    for _ in FRAMEWORKS:
        after = await story.desk.state()
        expect((after["user"], after["cart"]) == ("Ada", before["cart"]), after)


async def restarted(story: Story) -> None:
    before = await story.desk.state()
    await story.stop()
    await story.start()
    after = await story.desk.state()
    expect((after["user"], after["cart"]) == ("Ada", before["cart"]), after)
    expect(after["session"]["handle"] == before["session"]["handle"], "another session")


async def hostile(story: Story) -> None:
    good = str(story.desk.identifier)
    flipped = good[:-4] + ("A" if good[-4] != "A" else "B") + good[-3:]
    for cookie in ("", "garbage", good[:-1], good + "A", flipped, f"{good}; {COOKIE}={good}", "A" * 4000):
        expect(await story.stranger(cookie), f"an answer to {cookie[:20]!r}...")


async def forms(story: Story) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/plain"):
        for _ in FRAMEWORKS:
            content = b'{"item": "hat", "by": 1}'
            response = await story.desk.client.post("/api/cart", content=content, headers={"Content-Type": kind})
            refused = {httpx.codes.UNSUPPORTED_MEDIA_TYPE, httpx.codes.UNPROCESSABLE_ENTITY}
            expect(response.status_code in refused, f"{response.status_code} by {response.headers['server']}")
    expect(await story.desk.count("hat") == MANY, "another hat")


async def retired(story: Story) -> None:
    async def is_dead() -> bool:
        return all([await story.stranger(old) for old in story.retired])

    await story.wait(f"end of the grace of {POLICY.rotation_grace.seconds} s", is_dead)
    expect(await story.stranger(story.desk.identifier), "the session alive after a former identifier was used")
    await story.desk.do("/api/sign-in", user="Ada")


async def sign_out(story: Story) -> None:
    old = story.phone.identifier
    await story.phone.do("/api/sign-out")
    expect(story.phone.identifier is None, "a cookie")
    expect(await story.stranger(old), "the old identifier at work")


async def sign_out_everywhere(story: Story) -> None:
    await story.phone.do("/api/sign-in", user="Ada")
    expect((await story.desk.state())["user"] == "Ada", "the desk signed out already")
    identifiers = (story.desk.identifier, story.phone.identifier)
    await story.desk.do("/api/sign-out-everywhere")
    for identifier in identifiers:
        expect(await story.stranger(identifier), "a session still open")


async def ends(story: Story) -> None:
    await story.stop()
    expect(not (left := _alive(story.groups)), f"processes {left}")

    async def has_ended() -> bool:
        return await asyncio.to_thread(_is_free, story.fleet.store.folder / "guard.lock")

    await story.wait("end of the store", has_ended)


STEPS: Final[tuple[tuple[str, Callable[[Story], Awaitable[None]]], ...]] = (
    ("The store and three servers start, behind one port", starts),
    ("Each of the three serves the page, under a strict content security policy", page),
    ("A stranger is served by all three in turn; nothing is stored, no cookie is set", stranger),
    ("A cart begun at one server is known at the others, with the same deadline", travels),
    ("All three write to it, and each reads the others' Python types: int, set, datetime", writes),
    ("30 increments at the same time, over all three servers, all count", counts),
    ("Signing in changes the identifier, the cart comes along, the old identifier opens nothing", sign_in),
    ("Rotation changes the identifier and keeps the session; the former is honoured for a moment", rotates),
    ("A second browser signs in: both devices are listed, each knows which one it is", devices),
    ("The desk ends the phone's session: the phone is a stranger, and nobody else can end the desk's", end_device),
    ("kill -9 of each server in turn, under load: every increment that was confirmed is there", killed_servers),
    ("kill -9 of the store: it comes back by itself, with the session; nobody was signed out", killed_store),
    ("Everything is stopped and started again: Ada is still signed in, her cart is full", restarted),
    ("Garbled, forged and doubled cookies make a stranger, never an error", hostile),
    ("A form, which another site could send, is refused by all three", forms),
    ("The identifier from before the rotation, used after its grace, ends the session: it may be stolen", retired),
    ("Signing out takes the cookie away, and ends the session for whoever kept it", sign_out),
    ("Signing out everywhere ends both browsers' sessions at once", sign_out_everywhere),
    ("Everything is stopped: no process is left", ends),
)


async def check(folder: Path, run: Path, port: int) -> int:
    """Take every step, print how it went, leave nothing behind; return the exit status."""
    story, failed, began = Story(folder, run, port), 0, time.monotonic()
    print("\n  coatcheck: the demo's story, without a browser\n", flush=True)
    try:
        for number, (says, step) in enumerate(STEPS, 1):
            started, outcome = time.monotonic(), "ok  "
            trouble = ""
            try:
                await step(story)
            except Exception as error:  # noqa: BLE001  whatever it is, it is reported, and the next step is taken
                outcome, failed = "FAIL", failed + 1
                trouble = f"\n             {type(error).__name__}: {error}"
                if step is starts:
                    break
            finally:
                seconds = time.monotonic() - started
                print(f"  {outcome} {number:2}  {says}  ({seconds:.1f} s){trouble}", flush=True)
    finally:
        await story.stop()
    taken = f"{len(STEPS)} steps in {time.monotonic() - began:.0f} s"
    print(f"\n  {taken}: {f'{failed} FAILED' if failed else 'all is well'}.\n", flush=True)
    return 1 if failed else 0


async def _is_back(story: Story, framework: str) -> bool:
    report = (await story.desk.client.get("/front/servers")).json()
    return any(server["status"] == "running" for server in report["servers"] if server["framework"] == framework)


def _is_free(lock: Path) -> bool:
    """Say whether nobody holds *lock*, as the store's guard does while it lives."""
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _alive(groups: list[int]) -> list[int]:
    """List the processes of *groups* that have not ended (one that only waits to be reaped has)."""
    if Path("/proc/self/stat").exists():
        stats = (_stat(process) for process in Path("/proc").glob("[0-9]*"))
        return [pid for pid, status, group in stats if group in groups and status != "Z"]
    listed = subprocess.run(["/bin/ps", "-axo", "pid=,pgid=,stat="], check=True, capture_output=True, text=True).stdout
    rows = (line.split() for line in listed.splitlines())
    return [int(pid) for pid, group, status in rows if int(group) in groups and not status.startswith("Z")]


def _stat(process: Path) -> tuple[int, str, int]:
    try:
        status, _, group, *_ = (process / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0, "Z", 0
    return int(process.name), status, int(group)
