"""Giving way to the others: one yield, one trip through the scheduler.

One operation is one yield of one task. Every side uses the call its authors name for it: ``asyncio.sleep(0)``,
``trio.lowlevel.checkpoint()``, ``curio.sleep(0)``, ``anyio.lowlevel.checkpoint()``, ``bateau.yield_now()`` (and not
``bateau.checkpoint()``, which yields only when the step budget is used up and would be no switch at all).

Cases
  one_task    a single task yields to nobody: the scheduler's whole turn, including its look at the operating system,
              is paid for each yield by systems that poll once per turn.
  100_tasks   a hundred tasks yield in turns: the poll is shared.
  1000_tasks  a thousand: more than the processor's first caches hold.
  10_deep     a single task yields at the bottom of ten coroutines that await each other: each yield passes all of them, up and down.

Where semantics differ
  * trio's and anyio's checkpoints also check for cancellation, as does bateau's yield; ``asyncio.sleep(0)`` needs no check.
  * How often a system polls for I/O while tasks are ready is its own choice, and part of what is measured.
  * The floor resumes bare coroutines by ``send`` in a loop written in Python: no scheduler, no poll.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from typing import Any

from ..model import Case, Measured, Stopwatch, Workload

DEPTH = 10

Yields = Callable[[int], Coroutine[Any, Any, None]]
All = Callable[[Yields, int, int], Awaitable[None]]
"""Runs ``yields(each)`` in so many tasks: yields, how many tasks, each."""


def _cases(yields: Yields, run_all: All) -> Mapping[str, Measured]:
    """The four cases, for a side that says how to yield n times and how to run tasks."""

    async def deep(levels: int, n: int) -> None:
        if levels > 1:
            await deep(levels - 1, n)
        else:
            await yields(n)

    async def one_task(n: int, clock: Stopwatch) -> None:
        with clock:
            await yields(n)

    async def ten_deep(n: int, clock: Stopwatch) -> None:
        with clock:
            await deep(DEPTH - 1, n)

    def tasks(count: int) -> Measured:
        async def measured(n: int, clock: Stopwatch) -> None:
            ended = 0

            async def one(each: int) -> None:
                nonlocal ended
                await yields(each)
                ended += 1

            with clock:
                await run_all(one, count, n // count)
            assert ended == count, f"{ended} of {count} tasks came to their end"

        return measured

    return {"one_task": one_task, "100_tasks": tasks(100), "1000_tasks": tasks(1000), "10_deep": ten_deep}


def asyncio_side() -> Mapping[str, Measured]:
    import asyncio

    async def yields(n: int) -> None:
        for _ in range(n):
            await asyncio.sleep(0)

    async def run_all(yields: Yields, count: int, each: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(yields(each))

    return _cases(yields, run_all)


def trio_side() -> Mapping[str, Measured]:
    import trio

    async def yields(n: int) -> None:
        for _ in range(n):
            await trio.lowlevel.checkpoint()

    async def run_all(yields: Yields, count: int, each: int) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(yields, each)

    return _cases(yields, run_all)


def curio_side() -> Mapping[str, Measured]:
    import curio

    async def yields(n: int) -> None:
        for _ in range(n):
            await curio.sleep(0)

    async def run_all(yields: Yields, count: int, each: int) -> None:
        async with curio.TaskGroup() as group:
            for _ in range(count):
                await group.spawn(yields, each)

    return _cases(yields, run_all)


def anyio_side() -> Mapping[str, Measured]:
    import anyio
    import anyio.lowlevel

    async def yields(n: int) -> None:
        for _ in range(n):
            await anyio.lowlevel.checkpoint()

    async def run_all(yields: Yields, count: int, each: int) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(yields, each)

    return _cases(yields, run_all)


def bateau_side() -> Mapping[str, Measured]:
    import bateau

    async def yields(n: int) -> None:
        for _ in range(n):
            await bateau.yield_now()

    async def run_all(yields: Yields, count: int, each: int) -> None:
        async with bateau.scope() as scope:
            for _ in range(count):
                scope.spawn(yields, each)

    return _cases(yields, run_all)


def floor_side() -> Mapping[str, Measured]:
    @types.coroutine
    def give_way() -> Generator[None, None, None]:
        yield

    async def yields(n: int) -> None:
        for _ in range(n):
            await give_way()

    async def deep(levels: int, n: int) -> None:
        await (deep(levels - 1, n) if levels > 1 else yields(n))

    def drive(coroutines: list[Coroutine[Any, Any, None]]) -> None:
        ready = deque(coroutine.send for coroutine in coroutines)
        while ready:
            send = ready.popleft()
            try:
                send(None)
            except StopIteration:
                continue
            ready.append(send)

    def case(count: int, levels: int) -> Measured:
        async def measured(n: int, clock: Stopwatch) -> None:
            with clock:
                drive([deep(levels, n // count) if levels > 1 else yields(n // count) for _ in range(count)])

        return measured

    return {
        "one_task": case(1, 1),
        "100_tasks": case(100, 1),
        "1000_tasks": case(1000, 1),
        "10_deep": case(1, DEPTH - 1),
    }


WORKLOAD = Workload(
    "switch",
    "Yield to the other tasks",
    (
        Case("one_task", "yield"),
        Case("100_tasks", "yield", multiple=100),
        Case("1000_tasks", "yield", multiple=1000),
        Case("10_deep", "yield"),
    ),
    {
        "asyncio": asyncio_side,
        "trio": trio_side,
        "curio": curio_side,
        "anyio": anyio_side,
        "bateau": bateau_side,
        "floor": floor_side,
    },
)
