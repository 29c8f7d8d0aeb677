"""The keeper of a local topology: a small process that is the parent of its servers, and ends them.

`coatcheck.runtime.local.processes` runs this file as a script (``python -I -S``) and holds the other end of its
standard input. When that ends, because the owner is done or was killed, the keeper kills every server and removes the
folder. Should the keeper itself be killed, Linux kills the servers (PR_SET_PDEATHSIG); the folder stays then.

A line of JSON is an order, and is answered by a line::

    at the start                            {"folder": "/tmp/coatcheck-up-sentinel-..."}
    ["start", name, [word, ...], log]       {"pid": 123} or {"error": "No such file or directory"}
    ["signal", name, number]                {"delivered": true}, or false where the process had ended
    ["living"]                              {"node1": 123, ...}
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

_PR_SET_PDEATHSIG = 1

Processes = dict[str, "subprocess.Popen[bytes]"]


def main(prefix: str) -> None:
    """Make a folder whose name begins with *prefix*, carry out orders until they end, then clean up."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    processes: Processes = {}
    folder = tempfile.mkdtemp(prefix=prefix)
    try:
        _reply({"folder": folder})
        for line in sys.stdin:
            _reply(_carry_out(json.loads(line), processes))
    except BrokenPipeError:
        pass  # the owner was killed before it read the answer
    finally:
        for process in processes.values():
            _kill(process)
        shutil.rmtree(folder, ignore_errors=True)


def _carry_out(order: list[object], processes: Processes) -> dict[str, object]:
    match order:
        case ["start", str(name), [*words], str(log)]:
            try:
                processes[name] = _start([str(word) for word in words], log)
            except (OSError, subprocess.SubprocessError) as error:
                return {"error": str(error)}
            return {"pid": processes[name].pid}
        case ["signal", str(name), int(number)]:
            return {"delivered": _signal(processes[name], number)}
        case _:
            return {name: process.pid for name, process in processes.items() if process.poll() is None}


def _start(words: list[str], log: str) -> "subprocess.Popen[bytes]":
    with open(log, "ab") as output:  # noqa: PTH123 (no pathlib in the keeper)
        return subprocess.Popen(  # noqa: S603 (no shell; the words are the owner's)
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_end_with_the_keeper,  # noqa: PLW1509 (there is one thread)
        )


def _end_with_the_keeper() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _signal(process: "subprocess.Popen[bytes]", number: int) -> bool:
    if process.poll() is not None:
        return False
    if number == signal.SIGKILL:
        _kill(process)
    else:
        process.send_signal(number)
    return True


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill it with the children that it may have forked to rewrite its file, and wait for its end."""
    if process.returncode is None:  # nobody has waited for it yet, so its number is still its own
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _reply(content: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
