"""Faults of the line between an application and its server."""

import time
from collections.abc import Mapping
from random import Random
from typing import Any, Final

from coatcheck.runtime.local.settings import HOST
from faults.ports import free_row
from faults.proxy import Proxy
from faults.stage import Stage

_SHARE: Final = 0.6


def on_proxy(stage: Stage) -> Mapping[str, Any]:
    """Let the workload reach its server through a proxy."""
    port = free_row()
    proxy = stage.stack.enter_context(Proxy())
    way = proxy.lay(port)
    stage.proxy = proxy
    stage.url = f"redis://{HOST}:{way.port}"
    return {"port": port}


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
