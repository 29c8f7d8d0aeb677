"""aiohttp apps, served within the tests' process as each test needs them."""

import asyncio
import socket
from threading import Thread

import httpx
import pytest
from aiohttp import web


@pytest.fixture
def serve_aiohttp():
    """Give a function that serves an app over HTTP, on an event loop of its own, and makes a client of it.

    options: further ones of aiohttp's server.
    """
    running = []

    def make(app, *, debug=False, **options):
        listening = socket.create_server(("127.0.0.1", 0))
        loop = asyncio.new_event_loop()
        loop.set_debug(debug)
        runner = web.AppRunner(app, access_log=None, **options)
        loop.run_until_complete(runner.setup())
        loop.run_until_complete(web.SockSite(runner, listening).start())
        thread = Thread(target=loop.run_forever)
        thread.start()
        client = httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", trust_env=False)
        running.append((client, loop, thread, runner))
        return client

    yield make
    for client, loop, thread, runner in running:
        client.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(runner.cleanup())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
