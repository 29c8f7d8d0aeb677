"""The scripts' headers state what the scripts use; nothing a script touches leaves its slot."""

import re
from importlib.resources import files

import pytest

from coatcheck.engine import scripts
from coatcheck.engine.keys import Keys
from coatcheck.model.keyring import Place
from coatcheck.model.partition import TAGS
from coatcheck.model.ticket import Handle

SOURCES = {
    path.name.removesuffix(".lua"): path.read_text() for path in (files("coatcheck.engine") / "lua").iterdir()
}  # fmt: skip
SHARED = {"companions", "events", "index", "late", "record"} & set(SOURCES)
SCRIPTS = sorted(set(SOURCES) - SHARED)


def header(source):
    """Give the comment at the top of a script."""
    lines = []
    for line in source.splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").strip())
    return "\n".join(lines)


def declared(source, word):
    """List the numbers that the header's KEYS or ARGV section explains."""
    section = re.search(rf"^{word}:(.*?)^(?:KEYS|ARGV|REPLY|USES):", header(source), re.DOTALL | re.MULTILINE)
    return {int(number) for number in re.findall(r"(?:^|\s|\[)(\d+) ", section[1])}


def used(source, word):
    """List the numbers that the script uses."""
    return {int(number) for number in re.findall(rf"\b{word}\[(\d+)\]", source)}


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("word", ["KEYS", "ARGV"])
def test_header_states_keys_and_arguments(script, word):
    """A script's header explains every key and argument it uses, and no others."""
    source = SOURCES[script]

    assert declared(source, word) == used(source, word) != set()


@pytest.mark.parametrize("script", SCRIPTS)
def test_header_states_the_reply(script):
    """A script's header says what it does and what it replies."""
    text = header(SOURCES[script])

    assert re.search(r"^REPLY: \S", text, re.MULTILINE)
    assert re.match(r"[A-Z].*\.", text, re.DOTALL)


@pytest.mark.parametrize("script", scripts.BY_SHA.values(), ids=lambda script: script.name)
def test_scripts_take_the_time_from_their_caller(script):
    """No script but two, where late is too late, asks for the time, and none draws at random."""
    assert ("'TIME'" in script.source.upper()) == (script.name in {"revoke_all", "revoke_everyone"})
    assert "random" not in script.source


def test_every_script_is_loaded():
    """Each file is one script under its own name, and each is known by its SHA-1."""
    assert sorted(script.name for script in scripts.BY_SHA.values()) == SCRIPTS
    assert all(len(sha) == 40 for sha in scripts.BY_SHA)


@pytest.mark.parametrize("script", SCRIPTS)
def test_shared_functions_come_with_the_scripts_that_use_them(script):
    """A script that uses shared functions names their files, in an order in which they find each other."""
    line = re.search(r"^USES: (.*)$", header(SOURCES[script]), re.MULTILINE)
    named = line[1].split() if line else []
    source, needed = SOURCES[script], []
    for shared in [name for name in ("companions", "index", "events", "record", "late") if name in SHARED]:
        functions = re.findall(r"^local function (\w+)", SOURCES[shared], re.MULTILINE)
        if any(re.search(rf"\b{function}\(", source) for function in functions):
            needed.append(shared)
            source += SOURCES[shared]

    assert set(named) == set(needed)
    assert [name for name in ("record", "events", "index", "companions", "late") if name in named] == named


@pytest.mark.requirement("R40")
@pytest.mark.parametrize("partition", [0, 1, 0xA7, 255])
@pytest.mark.parametrize("prefix", ["cc", "shop/cc", "a:b.c_d-e"])
def test_all_keys_of_a_partition_share_one_hash_tag(partition, prefix):
    """Every key of a partition carries the partition's tag as its only braces, so they share a slot."""
    keys, handle = Keys(prefix), Handle(partition, bytes(12))
    place = Place(partition, "d" * 16)

    for key in (keys.record(handle), keys.stem(partition), keys.subject(place), keys.expiry(partition)):
        assert re.findall(r"\{(.*?)\}", key) == [TAGS[partition]]
        assert key.startswith(f"{prefix}:{{")
    assert keys.record(handle) == keys.stem(partition) + handle.name
