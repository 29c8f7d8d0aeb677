"""Run a command on a leash: ``python leash.py command...``, as the leader of a process group.

Whoever starts it holds the other end of its standard input. When that end is let go, by whatever end of the
holder (kill -9 too), the command is asked to end, and some seconds later the whole group is made to. When the
command ends by itself, what it may have left running ends with it.
"""

import os
import signal
import subprocess
import sys
import threading
import time

PATIENCE_SECONDS = 4.0


def main(command: list[str]) -> None:
    """Run *command* until it ends or the leash is let go."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with, args=(child,), daemon=True).start()
    sys.stdin.buffer.read()
    child.terminate()
    time.sleep(PATIENCE_SECONDS)
    os.killpg(0, signal.SIGKILL)


def _end_with(child: "subprocess.Popen[bytes]") -> None:
    child.wait()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
