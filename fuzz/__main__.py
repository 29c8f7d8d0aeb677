"""`python -m fuzz`: run the targets, one after the other, each in a process of its own.

python -m fuzz [--runs N] [--corpus FOLDER] [TARGET ...]     run them; needs atheris
python -m fuzz --repeat FILE TARGET                          call a target once, with an input that was saved
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fuzz.targets import TARGETS

FOUND = Path(".fuzz")
EXECUTED = re.compile(rb"stat::number_of_executed_units:\s*(\d+)")
LARGEST_INPUT_BYTES = 4096
SLOWEST_SECONDS = 10
MOST_MEMORY_MB = 1024


def main() -> int:
    """Run what the command line asks for; 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="make fuzz", description="Fuzz what reads what others have written.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--runs", type=int, default=20_000, help="executions of each target (20,000)")
    parser.add_argument("--corpus", type=Path, help="a folder to keep what was learnt in, for the next run")
    parser.add_argument("--repeat", type=Path, help="an input to call one target with, once")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if options.repeat:
        for name in options.targets:
            TARGETS[name].check(options.repeat.read_bytes())
        return 0
    broken, total = [], 0
    for name in options.targets or TARGETS:
        began = time.monotonic()
        executed = _run(name, options.runs, options.corpus)
        total += executed or 0
        if executed is None:
            broken.append(name)
        else:
            print(f"{name:10} {executed:>12,} executions  {time.monotonic() - began:>7,.0f} s", flush=True)
    print(f"{'in all':10} {total:>12,} executions" + (f"; broken: {', '.join(broken)}" if broken else ""))
    return int(bool(broken))


def _run(name: str, runs: int, kept: Path | None) -> int | None:
    """Fuzz one target; give how many times it was called, or None if it broke."""
    FOUND.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        learnt = (kept or Path(temporary)) / name
        learnt.mkdir(parents=True, exist_ok=True)
        seeds = Path(temporary) / "seeds"
        seeds.mkdir()
        for number, seed in enumerate(TARGETS[name].seeds()):
            (seeds / str(number)).write_bytes(seed)
        command = [sys.executable, "-m", "fuzz.run", name, f"-runs={runs}", f"-max_len={LARGEST_INPUT_BYTES}"]
        command += [f"-timeout={SLOWEST_SECONDS}", f"-rss_limit_mb={MOST_MEMORY_MB}", "-print_final_stats=1"]
        command += [f"-artifact_prefix={FOUND / name}-", str(learnt), str(seeds)]
        with (FOUND / f"{name}.log").open("wb") as log:
            code = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
    output = (FOUND / f"{name}.log").read_bytes()
    executed = EXECUTED.search(output)
    if code == 0 and executed is not None:
        return int(executed[1])
    print(output[-6000:].decode(errors="replace"))
    found = max(FOUND.glob(f"{name}-*"), key=lambda path: path.stat().st_mtime, default=None)
    print(f'{name} broke. Repeat it with: make fuzz ARGS="--repeat {found or FOUND} {name}"')
    return None


if __name__ == "__main__":
    sys.exit(main())
