"""Run the demo, or check it: ``python -m demo --help``."""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Final

from coatcheck import SessionError
from demo.check import check
from demo.front import Front
from demo.servers import Fleet, StartFailed

PORT: Final = 8000
INTERRUPTED: Final = 130  # as shells have it


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="make demo",
        usage='make demo [ARGS="..."]',
        description="One session that travels between a FastAPI, a Flask and a Django server.",
    )
    parser.add_argument("--check", action="store_true", help="tell the story without a browser; fail if any step does")
    parser.add_argument("--port", type=int, help=f"where to listen on this machine (default: {PORT}, or a free one)")
    parser.add_argument("--folder", type=Path, help="where sessions are kept (default: in your state folder)")
    chosen = parser.parse_args()
    if os.name != "posix":
        parser.error("the embedded store runs on Linux and macOS")
    try:
        with tempfile.TemporaryDirectory(prefix="coatcheck-") as run:
            if chosen.check:
                work = check(chosen.folder or Path(run, "data"), Path(run), chosen.port or 0)
            else:
                work = _serve(chosen.folder or _folder(), Path(run), chosen.port)
            return asyncio.run(_until_interrupted(work))
    except (SessionError, StartFailed) as error:
        print(f"\n  {error}", file=sys.stderr)
    except OSError as error:
        print(f"\n  Port {chosen.port}: {error.strerror}. Choose another: ARGS='--port ...'", file=sys.stderr)
    return 1


async def _serve(folder: Path, run: Path, port: int | None) -> int:
    """Run the demo until it is cancelled; return the exit status."""
    print("\n  coatcheck: one session, three frameworks\n")
    print("  Starting Valkey, FastAPI, Flask and Django ...", end=" ", flush=True)
    began = time.monotonic()
    async with Fleet(folder, run) as fleet, await _front(fleet, port) as front:
        print(f"ready in {time.monotonic() - began:.1f} s\n")
        print(f"      Open   {front.address}\n")
        print(f"  Sessions are kept in {_short(folder)}: they outlive the demo.")
        print("  Ctrl-C ends everything.\n", flush=True)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            print("\n  Ending ...", end=" ", flush=True)
    print("nothing is left running.\n", flush=True)
    return 0


async def _front(fleet: Fleet, port: int | None) -> Front:
    """Make the front on *port*; where none was asked for, on the usual one or else on a free one."""
    if port is not None:
        return Front(fleet, port)
    with suppress(OSError):
        async with Front(fleet, PORT):
            return Front(fleet, PORT)
    return Front(fleet)


async def _until_interrupted(work: Coroutine[object, object, int]) -> int:
    """Run *work* until it ends, or Ctrl-C or the end of the terminal cancels it; a second Ctrl-C changes nothing."""
    task = asyncio.ensure_future(work)
    is_interrupted = asyncio.Event()

    def interrupt() -> None:
        if not is_interrupted.is_set():
            is_interrupted.set()
            task.cancel()

    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(each, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        return INTERRUPTED


def _folder() -> Path:
    """Give the folder where this user's programs keep their state."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state", "coatcheck-demo")


def _short(folder: Path) -> str:
    with suppress(ValueError, RuntimeError):
        return f"~/{folder.absolute().relative_to(Path.home())}"
    return str(folder)


if __name__ == "__main__":
    sys.exit(main())
