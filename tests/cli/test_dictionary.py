"""`coatcheck dictionary`: what it prints, and the codes it exits with."""

import re
from dataclasses import replace

import pytest

import coatcheck
from coatcheck.model.header import DICTIONARY_ID_BYTES
from coatcheck.model.record import SMALLEST_RECORD
from coatcheck.model.training import Sample, train
from tests.cli.test_cli import USAGE, command, sessions  # noqa: F401  fixtures

CONTENT = {"backend": "django.contrib.auth.backends.ModelBackend", "theme": "dark", "note": "of the engine " * 4}


@pytest.fixture
def live(sessions):  # noqa: F811
    """Have sessions that resemble each other, and give the first."""
    return next(iter([sessions.create({"user_id": number, **CONTENT}) for number in range(220)]))


def test_train_list_and_drop(command, live, sessions):  # noqa: F811
    """A dictionary is trained and says what it saves, is listed, and put out of use."""
    code, out, err = command("dictionary", "train")

    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert re.fullmatch(r"\d+ bytes, trained on 176 sessions, measured on 44 others", lines[0])
    assert re.fullmatch(r"a record: \d+ bytes before, \d+ with it \(\d+% less\)", lines[1])
    assert re.fullmatch(r"to compress: [\d.]+ us, to decompress: [\d.]+ us", lines[2])
    name = lines[3].split()[0]
    assert lines[3] == f"{name} is in use; every process compresses with it within 5 minutes"
    assert len(lines) == 4

    code, out, _ = command("dictionary", "list")
    assert code == 0
    assert re.fullmatch(rf"{name}\tcompresses and opens\t[-\d]+ [:\d]+\t\d+\t\d+ days\n", out)
    assert sessions.load(live.identifier)["user_id"] == 0

    code, out, _ = command("dictionary", "drop", name)
    assert code == 1
    assert out == f"nothing is compressed with {name} from now on; run this again in 15 minutes to delete it\n"
    assert command("dictionary", "list")[1].split("\t")[1] == "opens"


def test_nothing_to_train_on(command):  # noqa: F811
    """Without sessions the command says how many it takes, and exits with 1."""
    assert command("dictionary", "train") == (
        1,
        "",
        "coatcheck: it takes 200 sessions to train a dictionary, and 0 live\n",
    )


def test_training_that_does_not_pay(command, sessions):  # noqa: F811
    """What saves too little is measured and not stored."""
    for _ in range(200):
        sessions.create({"a": 1})

    code, out, _ = command("dictionary", "train")

    assert code == 1
    assert out.splitlines()[-1] == "not stored: it saves less than a tenth"
    assert command("dictionary", "list") == (0, "", "")


@pytest.mark.parametrize(("after", "text"), [(104.0, "4% more"), (100.2, "0% less"), (96.0, "4% less")])
def test_training_that_is_worse(command, monkeypatch, after, text):  # noqa: F811
    """A dictionary that makes records longer than the present one does is said to do that."""
    size = SMALLEST_RECORD + DICTIONARY_ID_BYTES
    real = train([Sample(str(number), b"what sessions have in common" * 9 + bytes([number])) for number in range(200)])
    done = replace(real, before=100.0 - SMALLEST_RECORD, after=after - size)
    monkeypatch.setattr(coatcheck.Sessions, "train_dictionary", lambda *_, **__: done)

    code, out, _ = command("dictionary", "train")

    assert code == 1
    assert out.splitlines()[1] == f"a record: 100 bytes before, {after:.0f} with it ({text})"


def test_dropping(command, live, server, key):  # noqa: F811
    """While records need it a dictionary stays, and they are counted; then it is deleted."""
    name = command("dictionary", "train")[1].splitlines()[3].split()[0]
    with coatcheck.Sessions(server.url, keys=key) as opened:
        session = opened.create({"user_id": 1, **CONTENT})
    command("dictionary", "drop", name)
    listed = next(key for key in server.keys("}:d") if key.endswith("}:d"))
    server.client.zincrby(listed, -901_000, "-")
    server.client.zincrby(listed, -901_000, name)

    code, out, _ = command("dictionary", "drop", name)
    assert code == 1
    assert out == f"1 record needs {name}; nothing is compressed with it any more, so it goes after them\n"

    with coatcheck.Sessions(server.url, keys=key) as opened:
        opened.revoke(session)
    assert command("dictionary", "drop", name) == (0, f"{name} is deleted\n", "")
    assert command("dictionary", "drop", name) == (1, f"there is no dictionary {name}\n", "")


def test_no_id(command):  # noqa: F811
    """What is no id of a dictionary is wrong usage."""
    code, _, err = command("dictionary", "drop", "newest")

    assert code == USAGE
    assert "8 hexadecimal" in err
