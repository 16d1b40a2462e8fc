"""How long `bateau dump PID` takes from the shell's prompt to its return: `python -m benchmarks.dump [TASKS] [ROUNDS]`.

Each program holds its tasks (every other one in a sleep, the others at one event) and lies still: in a `time.sleep` on the loop's own
thread, so nothing but the dump needs a core, or, with `busy`, in pure Python, so the agent has to share the interpreter. `agent` has one,
`memory` has none and is read from outside, once as a program of bateau's and once as one of asyncio's.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time

BATEAU = """
import bateau, sys, time
from bateau import insight, sync
async def work(i, event): await step(i, event)
async def step(i, event):
    if i % 2: await bateau.time.sleep(3600)
    else: await event.wait()
async def main():
    event = sync.Event()
    async with bateau.scope() as scope:
        for i in range(int(sys.argv[1])): scope.spawn(work, i, event)
        await bateau.time.sleep(0.01)
        if sys.argv[2] != "memory": insight.init()
        print("ready", flush=True)
        while sys.argv[2] == "busy": pass
        time.sleep(1000)
bateau.run(main)
"""
ASYNCIO = """
import asyncio, sys, time
async def work(i, event): await step(i, event)
async def step(i, event):
    if i % 2: await asyncio.sleep(3600)
    else: await event.wait()
async def main():
    event = asyncio.Event()
    kept = [asyncio.create_task(work(i, event)) for i in range(int(sys.argv[1]))]
    await asyncio.sleep(0)
    print("ready", flush=True)
    time.sleep(1000)
asyncio.run(main())
"""
# What is dumped: how it is named, the program, and what the program is told.
PROGRAMS = (
    ("bateau, by its agent", BATEAU, "agent"),
    ("bateau, from memory", BATEAU, "memory"),
    ("asyncio, from memory", ASYNCIO, "memory"),
    ("bateau, busy, by its agent", BATEAU, "busy"),
)


def used(pid: int) -> float:
    """Seconds of processor time that the process's threads and our children have had."""
    total = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0]) / 1e9
    return total


def measure(pid: int, form: str) -> tuple[float, float, int]:
    """Of one dump: seconds on the clock, seconds of processor time, here and in the program, and its bytes."""
    command = [sys.executable, "-m", "bateau", "dump", *([form] if form else []), "--timeout", "60", str(pid)]
    start, before = time.perf_counter(), used(pid)
    size = len(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return time.perf_counter() - start, used(pid) - before, size


def main(tasks: str, rounds: int) -> None:
    """Print a line for each program and form: the best and the median of the rounds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "bateau", "dump", "--help"], check=True, stdout=subprocess.DEVNULL)
    print(f"the command alone (`bateau dump --help`): {time.perf_counter() - start:.2f} s")
    for name, program, how in PROGRAMS:
        child = subprocess.Popen(
            [sys.executable, "-c", program, tasks, how], stdout=subprocess.PIPE, env={**os.environ}
        )
        try:
            assert child.stdout is not None
            child.stdout.readline()
            for form in ("", "--json"):
                took: list[float] = []
                processor: list[float] = []
                size = 0
                for _ in range(rounds):
                    seconds, cpu, size = measure(child.pid, form)
                    took.append(seconds)
                    processor.append(cpu)
                    time.sleep(5 * seconds if how != "memory" else 0)  # the agent rests, or the next would wait for it
                print(
                    f"{name}, as {'JSON' if form else 'text'} ({size:,} bytes): best {min(took):.2f} s, "
                    f"median {sorted(took)[rounds // 2]:.2f} s"
                    + (f"; processor time {min(processor):.2f} s" if how != "busy" else ""),
                    flush=True,
                )
        finally:
            child.kill()
            child.wait()


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its byte code
    given = sys.argv[1:]
    main(given[0] if given else "100000", int(given[1]) if len(given) > 1 else 5)
