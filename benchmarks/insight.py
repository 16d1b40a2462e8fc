"""What it costs to look: a snapshot of many suspended tasks, as text and as JSON, in processor time.

python benchmarks/insight.py [TASKS]
"""

from __future__ import annotations

import sys
import time

import bateau
from bateau import insight
from bateau.insight.explain import explain


async def handler(number: int, event: bateau.sync.Event) -> None:
    await work(number, event)


async def work(number: int, event: bateau.sync.Event) -> None:
    await (bateau.time.sleep(1000) if number % 2 else event.wait())


async def main(count: int) -> None:
    event = bateau.sync.Event()
    async with bateau.scope() as scope:
        tasks = [scope.spawn(handler, number, event) for number in range(count)]
        while not all(task.waiting for task in tasks):
            await bateau.yield_now()
        for _ in range(3):
            start = time.thread_time()
            snapshot = insight.snapshot()
            taken = time.thread_time()
            text = explain(snapshot)
            told = time.thread_time()
            json = insight.to_json(snapshot)
            written = time.thread_time()
            print(
                f"{count:,} tasks: taken in {taken - start:.2f} s, as text ({len(text):,} characters) in {told - taken:.2f} s, "
                f"as JSON ({len(json) / 1e6:.1f} MB) in {written - told:.2f} s"
            )
        scope.cancel()


if __name__ == "__main__":
    bateau.run(main, int(sys.argv[1]) if sys.argv[1:] else 100_000)
