"""Ten thousand tasks that sleep: spawn, set a timer, be woken by it, end.

One operation is one task with one sleep, from its spawning to its joining. The durations differ and come in no order
(100 to 300 ms, the same sequence on every side), so that no timer structure can live off a sorted input.

Cases
  10k_sleeps  10k tasks (2k with --quick) in one scope.

Where semantics differ
  * The floor is a heap of bare coroutines, and a ``time.sleep`` to the next one's time, in whole milliseconds, as ``epoll`` has them.
  * None in what a sleep does. trio and anyio build a cancel scope for each.
  * curio's spawning gives way, so that its first tasks sleep before the last ones are there.
  * The process is idle part of the time; only CPU time is to be compared, wall time is mostly the sleep itself.
  * A system that falls behind wakes more timers per turn and so pays fewer turns. Nobody is punished for being late here.
"""

from __future__ import annotations

import heapq
import math
import time
import types
from collections.abc import Generator, Mapping

from ..model import Case, Measured, Stopwatch, Workload


def duration(i: int) -> float:
    """Seconds that the i-th task sleeps. 7919 is prime to 2000: every step of 0.1 ms occurs, scattered."""
    return 0.1 + (i * 7919 % 2000) * 0.0001


def asyncio_side() -> Mapping[str, Measured]:
    import asyncio

    async def sleeps(n: int, clock: Stopwatch) -> None:
        with clock:
            async with asyncio.TaskGroup() as group:
                for i in range(n):
                    group.create_task(asyncio.sleep(duration(i)))

    return {"10k_sleeps": sleeps}


def trio_side() -> Mapping[str, Measured]:
    import trio

    async def sleeps(n: int, clock: Stopwatch) -> None:
        with clock:
            async with trio.open_nursery() as nursery:
                for i in range(n):
                    nursery.start_soon(trio.sleep, duration(i))

    return {"10k_sleeps": sleeps}


def curio_side() -> Mapping[str, Measured]:
    import curio

    async def sleeps(n: int, clock: Stopwatch) -> None:
        with clock:
            async with curio.TaskGroup() as group:
                for i in range(n):
                    await group.spawn(curio.sleep, duration(i))

    return {"10k_sleeps": sleeps}


def anyio_side() -> Mapping[str, Measured]:
    import anyio

    async def sleeps(n: int, clock: Stopwatch) -> None:
        with clock:
            async with anyio.create_task_group() as group:
                for i in range(n):
                    group.start_soon(anyio.sleep, duration(i))

    return {"10k_sleeps": sleeps}


def bateau_side() -> Mapping[str, Measured]:
    import bateau
    import bateau.time

    async def sleeps(n: int, clock: Stopwatch) -> None:
        with clock:
            async with bateau.scope() as scope:
                for i in range(n):
                    scope.spawn(bateau.time.sleep, duration(i))

    return {"10k_sleeps": sleeps}


def floor_side() -> Mapping[str, Measured]:
    @types.coroutine
    def until(when: float) -> Generator[float, None, None]:
        yield when

    async def one(i: int) -> None:
        await until(time.monotonic() + duration(i))

    async def sleeps(n: int, clock: Stopwatch) -> None:
        with clock:
            timers = [(coroutine.send(None), i, coroutine) for i, coroutine in enumerate(one(i) for i in range(n))]
            heapq.heapify(timers)
            while timers:
                when, _, coroutine = heapq.heappop(timers)
                if (wait := when - time.monotonic()) > 0:
                    time.sleep(math.ceil(wait * 1000) / 1000)
                try:
                    coroutine.send(None)
                except StopIteration:
                    continue
                raise AssertionError("a coroutine sleeps twice")

    return {"10k_sleeps": sleeps}


WORKLOAD = Workload(
    "timers",
    "Ten thousand tasks that sleep",
    (Case("10k_sleeps", "task with a sleep", fixed=10_000, fixed_quick=2_000, busy=False),),
    {
        "asyncio": asyncio_side,
        "trio": trio_side,
        "curio": curio_side,
        "anyio": anyio_side,
        "bateau": bateau_side,
        "floor": floor_side,
    },
)
