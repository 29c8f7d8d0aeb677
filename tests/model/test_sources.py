"""What may not stand in the sources: loading code from data, and randomness that can be predicted."""

import ast
from pathlib import Path

import pytest

import coatcheck

ROOT = Path(coatcheck.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))

PICKLES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "joblib"}
LOADERS = {"yaml", "code", "codeop", "imp", "runpy"}
PREDICTABLE = {"random", "numpy"}
GENERATORS = {"uuid1", "uuid3", "uuid4", "uuid5", "uuid6", "uuid7", "uuid8", "getnode", "SafeUUID"}
EXECUTORS = {"eval", "exec", "compile", "__import__"}


def trees():
    """Parse every source file of the library."""
    return [(path.relative_to(ROOT), ast.parse(path.read_text())) for path in SOURCES]


def imported(tree):
    """List the modules and names that a file imports, anywhere in it, also by importlib."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and called(node) in {"import_module", "__import__", "find_spec"}:
            yield from (argument.value for argument in node.args if isinstance(argument, ast.Constant))


def called(node):
    """Name the function of a call."""
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def offences(tree):
    """List what a file does that no file may."""
    for name in imported(tree):
        first = name.partition(".")[0]
        if first in PICKLES | LOADERS | PREDICTABLE:
            yield f"imports {name}"
        if first == "uuid" and name != "uuid.UUID":
            yield f"imports {name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in EXECUTORS:
            yield f"calls {node.func.id}"
        if isinstance(node, ast.Attribute) and node.attr in GENERATORS:
            yield f"uses {node.attr}"
        if isinstance(node, ast.Attribute) and node.attr in {"PickleSerializer", "__reduce__", "__reduce_ex__"}:
            yield f"uses {node.attr}"


def test_there_are_sources():
    """The check sees the library's files."""
    assert len(SOURCES) > 20


@pytest.mark.requirement("R34")
@pytest.mark.requirement("R1")
def test_no_pickle_and_no_predictable_randomness():
    """No file unpickles, executes text, generates UUIDs or draws from `random`."""
    found = [f"{path}: {offence}" for path, tree in trees() for offence in offences(tree)]

    assert found == []


@pytest.mark.requirement("R1")
def test_identifiers_come_from_the_operating_system():
    """Handles, secrets, keys and nonces are drawn with `secrets` or `os.urandom`."""
    names = {str(path): set(imported(tree)) for path, tree in trees()}

    assert "secrets" in names["model/ticket.py"]
    assert "secrets" in names["model/keyring.py"]
    assert "os.urandom" in names["model/record.py"]


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import marshal as m",
        "from shelve import open",
        "def f():\n    import random",
        "from random import choice",
        "import uuid",
        "from uuid import uuid4",
        "import importlib\nimportlib.import_module('pickle')",
        "__import__('dill')",
        "eval('1')",
        "x.uuid4()",
        "serializer = serializers.PickleSerializer",
    ],
)
def test_the_check_finds_what_is_planted(source):
    """The check is not blind: each of these would be found."""
    assert list(offences(ast.parse(source)))
