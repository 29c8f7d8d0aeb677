"""The test apps as their servers load them: every response names the process that gave it.

COATCHECK_TEST_APP says which app: "flask_app:app" is `app` of tests/frameworks/apps/flask_app.py.
"""

import os
from importlib import import_module

HEADER = "X-Worker"


def asgi():
    """Give the app for uvicorn --factory."""
    app = _app()

    async def named(scope, receive, send):
        async def send_named(message):
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (HEADER.lower().encode(), str(os.getpid()).encode())]
                message = {**message, "headers": headers}
            await send(message)

        await app(scope, receive, send_named)

    return named


def wsgi():
    """Give the app for gunicorn."""
    app = _app()

    def named(environ, start_response):
        def start(status, headers, exc_info=None):
            return start_response(status, [*headers, (HEADER, str(os.getpid()))], exc_info)

        return app(environ, start)

    return named


def aiohttp():
    """Give the app for gunicorn with aiohttp's worker."""
    app = _app()

    async def name(request, response):
        response.headers[HEADER] = str(os.getpid())

    app.on_response_prepare.append(name)
    return app


def _app():
    module, _, name = os.environ["COATCHECK_TEST_APP"].partition(":")
    return getattr(import_module(f"tests.frameworks.apps.{module}"), name)
