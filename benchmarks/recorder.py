"""What the flight recorder costs: the same workload without and with it, turn by turn in one process.

`switch` is the worst case (a task that does nothing but yield), `tcp_echo` is a server. Each round measures both sides one right after
the other, in an order that alternates; the figure is the median of the rounds' ratios, of CPU time.

    .venv/bin/python -m benchmarks.recorder [--rounds 15] [--only switch,lock,spawn_join,channel,tcp_echo] [--target 0.1]
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
from importlib import import_module

import bateau
from bateau.insight.recorder import recording

from . import programs
from .model import Measured, Stopwatch
from .runner import cores

CASES = {"switch": "100_tasks", "lock": "", "channel": "", "spawn_join": "", "tcp_echo": "stream_50x64B"}


def once(fn: Measured, count: int, folder: str | None) -> float:
    """CPU nanoseconds of one operation, recorded in ``folder`` or not at all."""
    gc.collect()
    clock = Stopwatch()
    if folder is None:
        bateau.run(fn, count, clock, runtime="native")
    else:
        with recording.record(folder, fatal=False):
            bateau.run(fn, count, clock, runtime="native")
    return clock.cpu / count * 1e9


def compare(fn: Measured, multiple: int, rounds: int, target: float, folder: str) -> str:
    count = multiple * 20
    while once(fn, count, None) * count < target * 1e9:
        count *= 2
    once(fn, count, folder)
    plain: list[float] = []
    recorded: list[float] = []
    for number in range(rounds):
        for side in (plain, recorded) if number % 2 else (recorded, plain):
            side.append(once(fn, count, folder if side is recorded else None))
    ratios = sorted(after / before - 1 for before, after in zip(plain, recorded, strict=True))
    spread = f"{ratios[len(ratios) // 4]:+.1%} to {ratios[-1 - len(ratios) // 4]:+.1%}"
    extra = statistics.median(recorded) - statistics.median(plain)
    return (
        f"{statistics.median(plain):8.0f} ns {statistics.median(recorded):8.0f} ns  {extra:+6.0f} ns"
        f"  {statistics.median(ratios):+6.1%}  ({spread} in half of the rounds)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default=",".join(CASES), metavar="WORKLOAD,...")
    parser.add_argument("--target", type=float, default=0.1, help="CPU seconds of one measurement")
    args = parser.parse_args()
    own, other = cores(True)
    if own is not None:
        os.sched_setaffinity(0, {own})
    writer = "in C" if recording.native_ring() is not None else "in Python"
    print(f"the recorder's writer {writer}; per operation: without, with, the difference")
    with programs.compiled(["echo_client"]) as compiled, tempfile.TemporaryDirectory(prefix="bateau-bench-") as folder:
        os.environ[programs.DIRECTORY] = str(compiled)
        if other is not None:
            os.environ[programs.CLIENT_CPU] = str(other)
        for name in args.only.split(","):
            workload = import_module(f"benchmarks.workloads.{name}").WORKLOAD
            for case in workload.cases:
                if CASES.get(name) in ("", case.name):
                    fn = workload.sides["bateau"]()[case.name]
                    line = compare(fn, case.multiple, args.rounds, args.target, folder)
                    print(f"{name + '/' + case.name:24} {line}", flush=True)


if __name__ == "__main__":
    main()
