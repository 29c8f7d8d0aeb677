"""Fixtures that every test may use; their code stands in the fix_ modules."""

import os

import pytest

os.environ.setdefault("COATCHECK_DEADLINE", "5")  # a machine that runs tests is slow; who tests the deadline sets it

pytest_plugins = [
    "tests.fix_access",
    "tests.fix_issuer",
    "tests.fix_line",
    "tests.fix_near",
    "tests.fix_relay",
    "tests.fix_store",
    "tests.fix_wire",
    "tests.frameworks.fix_aiohttp",
    "tests.fix_topology",
    "tests.frameworks.fix_apps",
    "tests.frameworks.fix_django",
    "tests.frameworks.fix_flask",
]


@pytest.fixture
def anyio_backend() -> str:
    """Run `@pytest.mark.anyio` tests on asyncio."""
    return "asyncio"
