"""A primary that is cut off from the other servers, together with some of the applications."""

import subprocess
import time
from collections.abc import Mapping
from datetime import timedelta
from threading import Event, Thread
from typing import Any, Final

import coatcheck
from coatcheck import StoreUnavailable
from coatcheck.runtime.local.settings import BUS_OFFSET
from faults.levels import Skipped
from faults.ports import NODES, free_row
from faults.proxy import Namespace, Proxy
from faults.stage import NotBegun, Stage
from faults.workload import POLICY, Workload, read_all

ISLAND: Final = "node1"
_CUT_SECONDS: Final = 10.0
_PATIENCE: Final = 10.0
_CUT_BRIEFLY: Final = 4.0


def with_island(stage: Stage) -> Mapping[str, Any]:
    """Run the first node in a network of its own, and lay every way between that and all others through a proxy."""
    try:
        island = Namespace()
    except (OSError, subprocess.CalledProcessError) as error:
        raise Skipped(f"no network namespace can be made here (`ip netns`, as root): {error}") from error
    stage.stack.callback(island.remove)
    proxy = stage.stack.enter_context(Proxy())
    first = free_row()
    for offset in (0, BUS_OFFSET):
        proxy.lay(first + offset, port=first + offset, leads_to=island)
        for port in range(first + 1, first + NODES):
            proxy.lay(port + offset, port=port + offset, listens_in=island)
    stage.island, stage.proxy = island, proxy
    return {"port": first, "launchers": {ISLAND: island.launcher}}


def isolate(stage: Stage) -> None:
    """Cut the first node off, with applications on either side, and join both again."""
    url = stage.topology.url
    own = stage.workload = stage.open(url, "mainland")
    cut_off = stage.open(url, "island", within=stage.island.entered, is_apart=True)
    try:
        _cut_and_join(stage, own, cut_off)
        for workload in (own, cut_off):
            read_all(url, stage.keys, workload.people, workload.ledger)
    finally:
        for workload in (own, cut_off):
            stage.further.extend(workload.ledger.entries)


def _cut_and_join(stage: Stage, own: Workload, cut_off: Workload) -> None:
    with own, cut_off:
        stage.warm_up()
        victim, slots = stage.choose_victim()
        if victim != ISLAND or not (slots is None or slots):  # the proxy of a busy machine is too slow for the servers
            raise NotBegun(f"{ISLAND} has been replaced before it is cut off")
        watcher = _Watcher(stage, stage.topology.url)
        try:
            stage.strike(lambda: _silence(stage.proxy), slots=slots)
            stage.lack_replica()
            stage.await_takeover(victim)
            watcher.revoke()
            time.sleep(_CUT_BRIEFLY if stage.is_quick else _CUT_SECONDS)
            stage.calm()
            stage.have_replicas()
            stage.proxy.heal()
            stage.settle(300)
            if not stage.is_quick:
                stage.topology.wait_until_ready(60)
        finally:
            stage.numbers["revoked session read for s"] = watcher.stop()


def _silence(proxy: Proxy) -> None:
    for way in proxy.ways:
        way.is_silent = True


class _Watcher:
    """An application on the island that reads one session all the time; it is revoked on the mainland."""

    def __init__(self, stage: Stage, url: str) -> None:
        self._stage, self._url = stage, url
        self._open: dict[str, Any] = {"keys": stage.keys, "policy": POLICY}
        self._open["deadline"] = timedelta(seconds=2)
        self._has_begun, self._has_ended = Event(), Event()
        self._last = self._revoked = 0.0
        with coatcheck.Sessions(url, **self._open) as sessions:
            session, handle, number = sessions.new(), "", 0
            while not handle or not stage.is_on_victim(handle):  # in a cluster, one that the island will have
                self.subject = f"watched{number}"
                session = sessions.new()
                sessions.bind(session, self.subject)
                handle, number = str(session.handle), number + 1
            self._handle, self._identifier = handle, session.identifier or ""
        self._thread = Thread(target=self._read)
        self._thread.start()
        self._has_begun.wait(_PATIENCE)

    def revoke(self) -> None:
        """Revoke it on the mainland, which has a replica less, so that it waits for none."""
        with coatcheck.Sessions(self._url, **self._open) as sessions:
            while not self._revoked:
                try:
                    sessions.revoke(self._handle, subject=self.subject)
                    self._revoked = time.monotonic()
                except StoreUnavailable:
                    time.sleep(0.02)

    def stop(self) -> float:
        """Give for how many seconds it was still read on the island."""
        self._has_ended.set()
        self._thread.join()
        return max(0.0, self._last - (self._revoked or self._last))

    def _read(self) -> None:
        with self._stage.island.entered(), coatcheck.Sessions(self._url, **self._open) as sessions:
            while not self._has_ended.is_set():
                began = time.monotonic()
                try:
                    if sessions.load(self._identifier) is not None:
                        self._last = began
                        self._has_begun.set()
                except StoreUnavailable:
                    pass
                time.sleep(0.02)
