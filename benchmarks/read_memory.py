"""How long it takes to read another process's tasks from its memory: `python benchmarks/read_memory.py [TASKS] [LIBRARY]`."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from bateau.insight.memory import read_process

ASYNCIO = """
import asyncio, sys, time
async def work(i, event): await step(i, event)
async def step(i, event):
    if i % 2: await asyncio.sleep(3600)
    else: await event.wait()
async def main():
    event = asyncio.Event()
    kept = [asyncio.create_task(work(i, event), name=f"work {i}") for i in range(int(sys.argv[1]))]
    await asyncio.sleep(0)
    print("ready", flush=True)
    time.sleep(1000)
asyncio.run(main())
"""
BATEAU = """
import bateau, sys, time
from bateau import sync
async def work(i, event): await step(i, event)
async def step(i, event):
    if i % 2: await bateau.time.sleep(3600)
    else: await event.wait()
async def main():
    event = sync.Event()
    async with bateau.scope() as scope:
        for i in range(int(sys.argv[1])): scope.spawn(work, i, event)
        await bateau.time.sleep(0.01)
        print("ready", flush=True)
        time.sleep(1000)
bateau.run(main)
"""


def main() -> None:
    count = sys.argv[1] if len(sys.argv) > 1 else "100000"
    library = sys.argv[2] if len(sys.argv) > 2 else "asyncio"
    child = subprocess.Popen(
        [sys.executable, "-c", BATEAU if library == "bateau" else ASYNCIO, count],
        stdout=subprocess.PIPE,
        env={**os.environ},
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        for _ in range(3):
            wall, cpu = time.perf_counter(), time.process_time()
            snapshot = read_process(child.pid)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            print(
                f"{len(snapshot.tasks)} {library} tasks: {wall:.2f} s, of which {cpu:.2f} s of CPU; gaps: {list(snapshot.gaps)}"
            )
    finally:
        child.kill()
        child.wait()


if __name__ == "__main__":
    main()
