"""32 connections add 1 to an attribute of one session: who keeps all increments, and how fast.

python -m bench.load.contention [GROUP ...]
"""

import asyncio
import statistics
import sys
import tempfile
from pathlib import Path

from bench.load.contenders import CONTENDERS
from bench.load.stage import Store, one_session, serving

ROUNDS = 3


async def main(groups: list[str]) -> None:
    """Measure and print a table."""
    print("| one session, 32 writers | increments kept | requests/s | failed |\n| --- | --- | --- | --- |")
    for group in groups or dict.fromkeys(contender.group for contender in CONTENDERS):
        contenders = [one for one in CONTENDERS if one.group == group and not one.is_bare]
        with tempfile.TemporaryDirectory() as folder:
            async with Store(Path(folder)).running() as store, serving(contenders, store) as serving_now:
                rounds = [
                    [await one_session(running, store, seconds=2) for running in serving_now] for _ in range(ROUNDS)
                ]
        for place, contender in enumerate(contenders):
            kept = statistics.median(found[place][1] for found in rounds)
            rate = statistics.median(found[place][0].rate for found in rounds)
            failed = statistics.median(found[place][0].failed for found in rounds)
            print(f"| {group}, {contender.title} | {kept:.1%} | {rate:.0f} | {failed:.1%} |", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
