"""The two facades: the same methods, with the same parameters and the same promises."""

import inspect
from pathlib import Path

import pytest

import coatcheck
from coatcheck.engine.operations import Operations
from coatcheck.runtime.sync import run

METHODS = sorted(name for name in vars(Operations) if not name.startswith("_"))
FOR_ADAPTERS = {"is_settled", "saving", "wanted_subject"}
PUBLIC = [name for name in METHODS if name not in FOR_ADAPTERS]


def shape(function):
    """Give the parameters and what is returned, as they are written."""
    signature = inspect.signature(function)
    return [str(parameter) for parameter in signature.parameters.values()], str(signature.return_annotation)


@pytest.mark.parametrize("name", PUBLIC)
def test_methods_have_equal_signatures(name):
    """Each operation has the same parameters and result in both facades; one is awaited, the other is not."""
    blocking, awaited = getattr(coatcheck.Sessions, name), getattr(coatcheck.AsyncSessions, name)

    assert shape(blocking) == shape(awaited)
    assert not inspect.iscoroutinefunction(blocking)


@pytest.mark.parametrize("name", ["__init__", "close"])
def test_opening_and_closing(name):
    """The two are made and closed with the same arguments."""
    assert shape(getattr(coatcheck.Sessions, name)) == shape(getattr(coatcheck.AsyncSessions, name))


@pytest.mark.parametrize("name", PUBLIC)
def test_documentation_points_to_the_contract(name):
    """The facade without a loop refers to the one description of each operation."""
    assert inspect.getdoc(getattr(coatcheck.Sessions, name)) == f"See `Operations.{name}`."
    assert inspect.getdoc(getattr(Operations, name))


def test_neither_has_more():
    """Neither facade offers an operation that the other has not."""
    of_sync = {name for name in vars(coatcheck.Sessions) if not name.startswith("_")} - {"close", "policy"}
    of_async = {name for name in dir(coatcheck.AsyncSessions) if not name.startswith("_")} - {"close", "policy"}

    assert of_sync == of_async - FOR_ADAPTERS


def test_run_gives_the_result():
    """A coroutine that never suspends is run to its end by one step."""

    async def answer():
        return 42

    assert run(answer()) == 42


def test_run_passes_exceptions_on():
    """What the coroutine raises is raised."""

    async def fail():
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        run(fail())


def test_run_refuses_what_suspends():
    """A coroutine that waits for a loop is refused, and closed: its cleaning up is done."""
    events = []

    class Suspending:
        def __await__(self):
            yield

    async def wait():
        try:
            await Suspending()
        finally:
            events.append("closed")

    with pytest.raises(RuntimeError, match="only coroutines over a blocking transport can be run without an event"):
        run(wait())

    assert events == ["closed"]


def test_engine_awaits_nothing_but_its_transport():
    """Nothing in the engine imports asyncio: it runs with a loop and without."""
    files = sorted(Path(inspect.getfile(Operations)).parent.glob("*.py"))

    assert files
    assert [file.name for file in files if "asyncio" in file.read_text().replace("an asyncio", "")] == []
