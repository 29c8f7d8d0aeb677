"""What becomes of measurements under load: rows of shares, the section and plots of docs/performance.md, the guard."""

from xml.etree import ElementTree as ET

import pytest

from bench.load import record
from bench.load.contenders import CONTENDERS
from bench.load.record import Result, Row, Trial
from bench.load.stage import Measure

_FLASK = {one.name: one for one in CONTENDERS if one.group == "Flask"}


def measures(*rates, **figures):
    """Make rounds of so many requests a second."""
    plain = {"seconds": 2.0, "failed": 0.0, "p50": 1.0, "p99": 2.0, "store_cpu": 3.0, "commands": 1.0, **figures}
    return [Measure(rate=rate, **plain) for rate in rates]


@pytest.fixture
def flask():
    """Give what was found for a framework."""
    bare = measures(1000, 500, 800)
    reading = [
        Row.of(Trial.READ, _FLASK["bare"], bare, bare),
        Row.of(Trial.READ, _FLASK["Flask-Session"], measures(400, 250, 320), bare),
        Row.of(Trial.READ, _FLASK["coatcheck"], measures(600, 400, 480), bare),
    ]
    alone = [Row.of(Trial.ONE_SESSION, _FLASK["Flask-Session"], measures(400, kept=0.125), [])]
    return Result(group="Flask", about="2026-01-01, by hand.", rows=reading + alone)


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Have what is recorded go into a folder of the test's."""
    monkeypatch.setattr(record, "DATA", tmp_path / "performance.json")
    monkeypatch.setattr(record, "DOCUMENT", tmp_path / "performance.md")
    monkeypatch.setattr(record, "IMAGES", tmp_path)
    (tmp_path / "performance.md").write_text(f"# Before\n\n{record.BEGIN}\nold\n{record.END}\n\nafter\n")
    return tmp_path


def test_shares(flask):
    """A share is the median of those of the rounds, each of the bare framework's in the same round."""
    ours = flask.rows[2]

    assert (ours.share, ours.least, ours.most) == (0.6, 0.6, 0.8)
    assert ours.rate == 480


def test_record(flask, recorded):
    """What was measured stands between the marks, once, and what another framework has found stays."""
    record.save([flask], ["Flask", "Starlette"])
    record.save([Result(group="Starlette", about="later.", rows=[])], ["Flask", "Starlette"])

    text = (recorded / "performance.md").read_text()
    assert text.startswith("# Before")
    assert text.endswith("after\n")
    assert "old" not in text
    assert text.count("| **coatcheck** | 0.60 (0.60 to 0.80) | 480 | 0% | 1.0 | 2.0 | 3.0 | 1.00 |") == 1
    assert text.count("12.5%") == 1
    assert "Flask: 2026-01-01, by hand." in text
    assert record.load()["Flask"] == flask


def test_plots(flask):
    """A plot is well-formed SVG with a bar for each contender."""
    drawn = record.plots({"Flask": flask})["performance-read.svg"]

    root = ET.fromstring(drawn)  # noqa: S314  it was made a line above
    names = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "coatcheck" in names
    assert "0.40" in names


def test_guard(flask, recorded):
    """The guard tells of a share that has fallen far below the recorded one, and of no other."""
    record.save([flask], ["Flask"])
    bare = measures(1000)
    slow = Row.of(Trial.READ, _FLASK["coatcheck"], measures(450), bare)
    fair = Row.of(Trial.READ, _FLASK["coatcheck"], measures(500), bare)

    assert record.regressions([Result(group="Flask", about="", rows=[fair])], 0.8) == []
    (said,) = record.regressions([Result(group="Flask", about="", rows=[slow])], 0.8)
    assert said == "Flask, read: coatcheck has 0.45 of bare, it was 0.6"
