"""`coatcheck dictionary`: what it prints, and the codes it exits with."""

import re

import pytest

import coatcheck
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
    assert out == f"1 records need {name}; nothing is compressed with it any more, so it goes after them\n"

    with coatcheck.Sessions(server.url, keys=key) as opened:
        opened.revoke(session)
    assert command("dictionary", "drop", name) == (0, f"{name} is deleted\n", "")
    assert command("dictionary", "drop", name) == (1, f"there is no dictionary {name}\n", "")


def test_no_id(command):  # noqa: F811
    """What is no id of a dictionary is wrong usage."""
    code, _, err = command("dictionary", "drop", "newest")

    assert code == USAGE
    assert "8 hexadecimal" in err
