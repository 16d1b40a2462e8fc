"""What being watched for hazards costs: the processor time of the watcher, and the switches a second of a busy program with and without it.

Two tasks switch as fast as they can beside 10 and beside 10,000 that are parked. The switches of watched and unwatched rounds, in turns,
differ by what the watcher takes and by what the machine does; the processor time is the watcher's alone.

    python benchmarks/insight/watcher.py [--rounds 5] [--seconds 3] [--runtime native]
"""

from __future__ import annotations

import argparse
import statistics
import threading
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


async def main(parked: int, seconds: float, watched: bool) -> tuple[float, float]:
    """Switches a second, and processor seconds of the watcher per second."""
    used = 0.0
    async with bateau.scope() as scope:
        event = bateau.sync.Event()
        for _ in range(parked):
            scope.spawn(event.wait)
        await bateau.yield_now()
        watch = insight.watch(task_explosion=1e6) if watched else None
        began = time.perf_counter()
        first, second = await bateau.join(spin(began + seconds), spin(began + seconds))
        took = time.perf_counter() - began
        if watch is not None:
            (thread,) = (each for each in threading.enumerate() if each.name == "bateau watcher")
            assert thread.ident is not None
            used = time.clock_gettime(time.pthread_getcpuclockid(thread.ident)) / took
            watch.stop()
        event.set()
    return (first + second) / took, used


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--runtime", default="native")
    options = parser.parse_args()
    for parked in (10, 10_000):
        rates: dict[bool, list[float]] = {False: [], True: []}
        used: list[float] = []
        for _ in range(options.rounds):
            for watched in (False, True):
                rate, share = bateau.run(main, parked, options.seconds, watched, runtime=options.runtime)
                rates[watched].append(rate)
                if watched:
                    used.append(share)
        plain, seen = (statistics.median(rates[each]) for each in (False, True))
        print(
            f"{parked:6} tasks parked: the watcher used {statistics.median(used) * 1e3:4.1f} ms of processor a second; "
            f"{plain / 1e3:.0f} k switches/s alone, {seen / 1e3:.0f} k watched"
        )


if __name__ == "__main__":
    run()
