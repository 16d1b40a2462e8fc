"""Giving way to the others: one yield, one trip through the scheduler.

One operation is one yield of one task. Every side uses the call its authors name for it: ``asyncio.sleep(0)``,
``trio.lowlevel.checkpoint()``, ``anyio.lowlevel.checkpoint()``, ``bateau.yield_now()`` (and not ``bateau.checkpoint()``,
which yields only when the step budget is used up and would be no switch at all).

Cases
  one_task   a single task yields to nobody: the scheduler's whole turn, including its look at the operating system,
             is paid for each yield by systems that poll once per turn.
  100_tasks  a hundred tasks yield in turns: the poll is shared.

Where semantics differ
  * trio's and anyio's checkpoints also check for cancellation, as does bateau's yield; ``asyncio.sleep(0)`` needs no check.
  * How often a system polls for I/O while tasks are ready is its own choice, and part of what is measured.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..model import Case, Measured, Stopwatch, Workload

TASKS = 100


def asyncio_side() -> Mapping[str, Measured]:
    import asyncio

    async def yields(n: int) -> None:
        for _ in range(n):
            await asyncio.sleep(0)

    async def one_task(n: int, clock: Stopwatch) -> None:
        with clock:
            await yields(n)

    async def many_tasks(n: int, clock: Stopwatch) -> None:
        with clock:
            async with asyncio.TaskGroup() as group:
                for _ in range(TASKS):
                    group.create_task(yields(n // TASKS))

    return {"one_task": one_task, "100_tasks": many_tasks}


def trio_side() -> Mapping[str, Measured]:
    import trio

    async def yields(n: int) -> None:
        for _ in range(n):
            await trio.lowlevel.checkpoint()

    async def one_task(n: int, clock: Stopwatch) -> None:
        with clock:
            await yields(n)

    async def many_tasks(n: int, clock: Stopwatch) -> None:
        with clock:
            async with trio.open_nursery() as nursery:
                for _ in range(TASKS):
                    nursery.start_soon(yields, n // TASKS)

    return {"one_task": one_task, "100_tasks": many_tasks}


def anyio_side() -> Mapping[str, Measured]:
    import anyio
    import anyio.lowlevel

    async def yields(n: int) -> None:
        for _ in range(n):
            await anyio.lowlevel.checkpoint()

    async def one_task(n: int, clock: Stopwatch) -> None:
        with clock:
            await yields(n)

    async def many_tasks(n: int, clock: Stopwatch) -> None:
        with clock:
            async with anyio.create_task_group() as group:
                for _ in range(TASKS):
                    group.start_soon(yields, n // TASKS)

    return {"one_task": one_task, "100_tasks": many_tasks}


def bateau_side() -> Mapping[str, Measured]:
    import bateau

    async def yields(n: int) -> None:
        for _ in range(n):
            await bateau.yield_now()

    async def one_task(n: int, clock: Stopwatch) -> None:
        with clock:
            await yields(n)

    async def many_tasks(n: int, clock: Stopwatch) -> None:
        with clock:
            async with bateau.scope() as scope:
                for _ in range(TASKS):
                    scope.spawn(yields, n // TASKS)

    return {"one_task": one_task, "100_tasks": many_tasks}


WORKLOAD = Workload(
    "switch",
    "Yield to the other tasks",
    (Case("one_task", "yield"), Case("100_tasks", "yield", multiple=TASKS)),
    {"asyncio": asyncio_side, "trio": trio_side, "anyio": anyio_side, "bateau": bateau_side},
)
