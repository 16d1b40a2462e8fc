"""One measurement in a process of its own: ``python -m benchmarks.worker '<request as JSON>'`` prints its result as JSON.

Nothing is shared between measurements: no warm caches, no garbage, no modules of another system. The garbage collector
stays on, as in users' programs; it is run once before the stopwatch starts.
"""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import sys
from dataclasses import asdict, dataclass

from .model import Case, Measured, Stopwatch
from .systems import SYSTEMS
from .workloads import load


@dataclass(frozen=True, slots=True)
class Request:
    """What to measure. ``n`` is None for a calibration, which answers with the n and repetitions to ask for later."""

    workload: str
    case: str
    system: str
    quick: bool
    target: float
    """CPU seconds that a measurement should last."""
    cpu: int | None
    n: int | None = None
    repetitions: int = 1


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured over ``n * repetitions`` operations; times in seconds."""

    n: int
    repetitions: int
    user: float
    system: float
    wall: float
    max_rss_kib: int


def _multiple(n: float, of: int) -> int:
    return max(1, math.ceil(n / of)) * of


async def _calibrate(case: Case, measured: Measured, request: Request) -> Result:
    """Find how many operations last ``request.target`` CPU seconds."""
    fixed = case.size(request.quick)
    n = fixed if fixed is not None else _multiple(100, case.multiple)
    await measured(n if fixed is None else _multiple(fixed / 20, case.multiple), Stopwatch())
    while True:
        clock = Stopwatch()
        await measured(n, clock)
        cpu = max(clock.cpu, 1e-6)
        if fixed is not None:
            return _result(fixed, max(1, round(request.target / cpu)), clock)
        if cpu >= request.target / 5:
            return _result(_multiple(n * request.target / cpu, case.multiple), 1, clock)
        # Grow by at most tenfold: a first reading of a few microseconds says little about a second.
        n = _multiple(n * min(10.0, request.target / 2 / cpu), case.multiple)


async def _measure(case: Case, measured: Measured, request: Request) -> Result:
    assert request.n is not None
    await measured(_multiple(request.n / 20, case.multiple), Stopwatch())
    gc.collect()
    clock = Stopwatch()
    for _ in range(request.repetitions):
        await measured(request.n, clock)
    return _result(request.n, request.repetitions, clock)


def _result(n: int, repetitions: int, clock: Stopwatch) -> Result:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Result(n, repetitions, clock.user, clock.system, clock.wall, peak)


def perform(request: Request) -> Result:
    """Run the request in this process and return its result."""
    if request.cpu is not None:
        os.sched_setaffinity(0, {request.cpu})
    workload = load(request.workload)
    case = workload.case(request.case)
    system = SYSTEMS[request.system]
    measured = workload.sides[system.family]()[request.case]
    results: list[Result] = []

    async def main() -> None:
        step = _calibrate if request.n is None else _measure
        results.append(await step(case, measured, request))

    system.start(main)
    return results[0]


if __name__ == "__main__":
    print(json.dumps(asdict(perform(Request(**json.loads(sys.argv[1]))))))
