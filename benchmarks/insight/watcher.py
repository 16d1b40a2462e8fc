"""What being watched for hazards costs: switches a second of a busy loop, with 10 and with 10,000 tasks parked beside it, alternating.

python benchmarks/insight/watcher.py [--rounds 5] [--seconds 1.5] [--runtime native]
"""

from __future__ import annotations

import argparse
import statistics
import time

import bateau
from bateau import insight


async def spin(until: float) -> int:
    count = 0
    while True:
        for _ in range(100):
            await bateau.yield_now()
        count += 100
        if time.perf_counter() >= until:
            return count


async def main(parked: int, seconds: float, watched: bool) -> float:
    async with bateau.scope() as scope:
        event = bateau.sync.Event()
        for _ in range(parked):
            scope.spawn(event.wait)
        await bateau.yield_now()
        # What is found in the first look at so many is kept for the next: it is not what being watched costs in the long run.
        watch = insight.watch(task_explosion=1e6) if watched else None
        if watched:
            await bateau.time.sleep(3 if parked > 1000 else 0.3)
        began = time.perf_counter()
        first, second = await bateau.join(spin(began + seconds), spin(began + seconds))
        rate = (first + second) / (time.perf_counter() - began)
        if watch is not None:
            watch.stop()
        event.set()
    return rate


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--runtime", default="native")
    options = parser.parse_args()
    for parked in (10, 10_000):
        rates: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(options.rounds):
            for watched in (False, True):
                rates[watched].append(bateau.run(main, parked, options.seconds, watched, runtime=options.runtime))
        plain, seen = (statistics.median(rates[each]) for each in (False, True))
        print(
            f"{parked:6} tasks parked: {plain / 1e3:7.0f} k switches/s alone, {seen / 1e3:7.0f} k watched "
            f"({(1 - seen / plain) * 100:+.1f} %)"
        )


if __name__ == "__main__":
    run()
