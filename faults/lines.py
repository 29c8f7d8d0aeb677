"""Faults of the line between an application and its server."""

import time
from collections.abc import Mapping
from random import Random
from typing import Any, Final

from coatcheck.runtime.local.settings import HOST
from faults.checker import Finding, Flaw
from faults.ports import free_row
from faults.proxy import Proxy
from faults.stage import Stage

_SHARE: Final = 0.6
_WITHOUT_NEWS: Final = 2.0
_HITS: Final = 20


def on_proxy(stage: Stage) -> Mapping[str, Any]:
    """Let the workload reach its server through a proxy."""
    port = free_row()
    proxy = stage.stack.enter_context(Proxy())
    way = proxy.lay(port)
    stage.proxy = proxy
    stage.url = f"redis://{HOST}:{way.port}"
    return {"port": port}


def with_news_apart(stage: Stage) -> Mapping[str, Any]:
    """Do as `on_proxy`; what can fall silent are only the connections by which near caches learn of writes."""
    settings = on_proxy(stage)
    for way in stage.proxy.ways:
        way.singles_out = lambda piece: b"TRACKING" in piece
    return settings


def withhold_news(stage: Stage) -> None:
    """Let no near cache hear of what is written: it hears nothing for a while, then all connections are cut."""
    stage.warm_up()
    (way,) = stage.proxy.ways

    def wait_for_hits() -> None:
        before = stage.workload.near_hits()
        stage.wait(lambda: stage.workload.near_hits() > before + _HITS, "loads that the near cache answers")

    for _ in range(1 if stage.is_quick else 3):
        wait_for_hits()
        way.is_silent = True
        stage.strike(lambda: None)
        stage.settle(100, seconds=_WITHOUT_NEWS)
        at_last = stage.workload.near_hits()
        stage.settle(50)
        if stage.workload.near_hits() != at_last:
            stage.findings.append(Finding(Flaw.REVOCATION_UNDONE, "", None, "answered from memory without news"))
        way.is_silent = False
        wait_for_hits()
        stage.proxy.cut()
        stage.settle(100)
        stage.calm()
    wait_for_hits()
    stage.numbers["loads from memory"] = stage.workload.near_hits()


def lose_replies(stage: Stage) -> None:
    """Let scripts be carried out, and lose the replies of many."""
    stage.settle()
    (way,) = stage.proxy.ways
    chance = Random()  # noqa: S311  it chooses what is lost
    stage.strike(lambda: None)
    way.sees = lambda piece: b"EVALSHA" in piece and chance.random() < _SHARE
    stage.settle(150 if stage.is_quick else 600)
    way.sees = None
    stage.calm()
    stage.settle()


def fall_silent(stage: Stage) -> None:
    """Hold back everything for a while, then deliver it, long after who sent it has given up."""
    stage.settle()
    (way,) = stage.proxy.ways
    for _ in range(1 if stage.is_quick else 3):
        way.is_silent = True
        stage.strike(lambda: None)
        time.sleep(1)
        stage.calm()
        stage.proxy.heal()
        stage.settle(200)
