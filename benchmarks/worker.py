"""One measurement in a process of its own: ``python -m benchmarks.worker '<request as JSON>'`` prints its result as JSON.

Nothing is shared between measurements: no warm caches, no garbage, no modules of another system. The garbage collector
stays on, as in users' programs; it is run once before the stopwatch starts. ``--check`` is the exception: it runs many cases in
one process, each with a handful of operations, to see that they work and not what they cost.
"""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from .model import Case, Measured, Stopwatch
from .systems import SYSTEMS, System
from .workloads import load

SYSTEM = "BATEAU_BENCH_SYSTEM"
"""Environment variable with the name of the system that this process measures."""


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
    """What was measured over ``n * repetitions`` operations; times in seconds, memory in bytes."""

    n: int
    repetitions: int
    operations: int
    """What was done: ``n * repetitions``, unless the load decided."""
    user: float
    system: float
    wall: float
    memory: int
    max_rss_kib: int
    note: str = ""


def _multiple(n: float, of: int) -> int:
    return max(1, math.ceil(n / of)) * of


async def _calibrate(case: Case, measured: Measured, request: Request) -> Result:
    """Find how many operations last ``request.target`` CPU seconds."""
    if (fixed := case.size(request.quick)) is not None:
        part = _multiple(fixed / 20, case.multiple)
        await measured(part, Stopwatch())
        await measured(part, clock := Stopwatch())
        cpu = max(clock.cpu / part * fixed, 1e-6)
        return _result(fixed, max(1, round(request.target / cpu)), clock)
    n = _multiple(100, case.multiple)
    await measured(n, Stopwatch())
    while True:
        clock = Stopwatch()
        await measured(n, clock)
        cpu = max(clock.cpu, 1e-6)
        if cpu >= request.target / 5:
            return _result(_multiple(n * request.target / cpu, case.multiple), 1, clock)
        # Grow by at most tenfold: a first reading of a few microseconds says little about a second.
        n = _multiple(n * min(10.0, request.target / 2 / cpu), case.multiple)


async def _measure(case: Case, measured: Measured, request: Request) -> Result:
    assert request.n is not None
    if case.lasts is None:
        # What is freed by a warm-up is used again and no growth of memory, so there it must be small.
        part = request.n / 20 if case.unit == "ns" else min(20, request.n)
        await measured(_multiple(part, case.multiple), Stopwatch())
    gc.collect()
    clock = Stopwatch()
    for _ in range(request.repetitions):
        await measured(request.n, clock)
    return _result(request.n, request.repetitions, clock)


def _result(n: int, repetitions: int, clock: Stopwatch) -> Result:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    operations = n * repetitions if clock.operations is None else clock.operations
    return Result(n, repetitions, operations, clock.user, clock.system, clock.wall, clock.memory, peak, clock.note)


def _be_itself(system: System) -> None:
    """Raise RuntimeError if this has been another system than the one that is named."""
    if found := [name for name in system.without if name in sys.modules]:
        raise RuntimeError(f"{system.name} is to be measured without {', '.join(found)}, which something has imported")
    if system.native:
        from bateau.kernel import twin

        if twin.native is None:
            raise RuntimeError(f"{system.name} is to be measured with the kernel in C, but it was {twin.about()}")


def perform(request: Request) -> Result:
    """Run the request in this process and return its result."""
    if request.cpu is not None:
        os.sched_setaffinity(0, {request.cpu})
    os.environ[SYSTEM] = request.system
    workload = load(request.workload)
    case = workload.case(request.case)
    system = SYSTEMS[request.system]
    measured = workload.sides[system.family]()[request.case]
    results: list[Result] = []

    async def main() -> None:
        step = _calibrate if request.n is None else _measure
        results.append(await step(case, measured, request))

    system.start(main)
    _be_itself(system)
    return results[0]


def check(name: str, cells: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Run each (workload, case) of one system once with its tiny size; returns what went wrong, by "workload/case"."""
    os.environ[SYSTEM] = name
    system = SYSTEMS[name]
    failures: dict[str, str] = {}
    for workload_name, case_name in cells:
        workload = load(workload_name)
        case = workload.case(case_name)
        clock = Stopwatch(tiny=True)
        done: list[None] = []

        async def main() -> None:
            n = case.tiny or _multiple(20, case.multiple)  # noqa: B023 - called before the next turn
            done.append(await workload.sides[system.family]()[case_name](n, clock))  # noqa: B023 - as above

        try:
            system.start(main)
            if len(done) != 1:
                raise RuntimeError("its coroutine did not run to its end")
            if clock.wall <= 0 and not clock.memory:
                raise RuntimeError("nothing was measured")
        except BaseException as error:
            import traceback

            failures[f"{workload_name}/{case_name}"] = "".join(traceback.format_exception(error))
            if not isinstance(error, Exception):
                break
    try:
        _be_itself(system)
    except RuntimeError as error:
        failures[name] = str(error)
    return failures


if __name__ == "__main__":
    if sys.argv[1] == "--check":
        print(json.dumps(check(sys.argv[2], json.loads(sys.argv[3]))))
    else:
        print(json.dumps(asdict(perform(Request(**json.loads(sys.argv[1]))))))
