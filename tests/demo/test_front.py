"""The demo's front: in turn, past what is down, and never twice what may have been done."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from demo.front import Front
from demo.servers import Fleet

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\nok"


class Row:
    """Three servers, each of which says its part to every request, behind a front."""

    def __init__(self, folder: Path, parts: tuple[bytes | None, ...]) -> None:
        """parts: what each server sends before it hangs up; None for one that does not listen."""
        self.fleet = Fleet(folder / "data", folder)
        self.parts = parts
        self.asked: list[str] = []

    async def run(self, story: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
        """Let a client of the front live through *story*."""
        async with AsyncExitStack() as stack:
            for server, part in zip(self.fleet.servers, self.parts, strict=True):
                server.is_ready = True
                if part is not None:
                    listener = await asyncio.start_unix_server(self._answering(server.framework, part), server.socket)
                    await stack.enter_async_context(listener)
            front = await stack.enter_async_context(Front(self.fleet))
            client = httpx.AsyncClient(base_url=front.address, trust_env=False)
            await story(await stack.enter_async_context(client))

    def _answering(self, framework, part):
        async def answer(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            self.asked.append(framework)
            writer.write(part)
            writer.close()

        return answer


@pytest.fixture
def row(tmp_path):
    """Makes a row of servers that say the given parts."""
    return lambda *parts: Row(tmp_path, parts)


def test_turns(row):
    """Requests go to the servers in turn, evenly."""
    servers = row(ANSWER, ANSWER, ANSWER)

    async def story(client):
        for _ in range(6):
            assert (await client.post("/")).text == "ok"

    asyncio.run(servers.run(story))
    assert sorted(servers.asked[:3]) == ["Django", "FastAPI", "Flask"]
    assert servers.asked[3:] == servers.asked[:3]


def test_one_is_down(row):
    """A request that a dead server refuses goes to the next one, and the others share its turns."""
    servers = row(None, ANSWER, ANSWER)

    async def story(client):
        assert [(await client.post("/")).status_code for _ in range(7)] == [200] * 7

    asyncio.run(servers.run(story))
    assert abs(servers.asked.count("Flask") - servers.asked.count("Django")) <= 1


def test_all_are_down(row):
    """Without any server the answer is 503."""

    async def story(client):
        assert (await client.get("/")).status_code == 503

    asyncio.run(row(None, None, None).run(story))


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\n", HALF])
def test_dies_over_a_read(row, part):
    """A GET whose server dies over it, even in the middle of its answer, is answered by another."""
    servers = row(part, part, ANSWER)

    async def story(client):
        assert [(await client.get("/")).text for _ in range(3)] == ["ok"] * 3

    asyncio.run(servers.run(story))


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\n", HALF])
def test_dies_over_a_change(row, part):
    """A POST whose server dies over it is not repeated: it may have been carried out, and 502 says so."""
    servers = row(part, part, part)

    async def story(client):
        assert (await client.post("/", json={})).status_code == 502

    asyncio.run(servers.run(story))
    assert len(servers.asked) == 1


def test_foreign_host(row):
    """A request under another host's name is refused: it may come from a site that points its name here."""
    servers = row(ANSWER, ANSWER, ANSWER)

    async def story(client):
        assert (await client.get("/", headers={"Host": "shop.example:8000"})).status_code == 421

    asyncio.run(servers.run(story))
    assert servers.asked == []


def test_forged_kill(row):
    """A form of another site cannot kill a server."""
    servers = row(ANSWER, ANSWER, ANSWER)

    async def story(client):
        body = json.dumps({"name": "Flask"})
        assert (await client.post("/front/kill", content=body)).status_code == 415
        assert (await client.post("/front/kill", content=body, headers={"Content-Type": "text/plain"})).is_error

    asyncio.run(servers.run(story))
    assert all(server.is_ready for server in servers.fleet.servers)
