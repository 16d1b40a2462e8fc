"""Spawning tasks that end at once, and joining them by leaving their scope.

One operation is one task: created, run once, ended, counted out by its scope. Every side uses its structured form, as its
authors recommend (``asyncio.TaskGroup``, a trio nursery, an anyio task group, a bateau scope).

Cases
  one_scope       100k tasks (10k with --quick) in one scope, all of them alive before the first one runs.
  batches_of_100  scope after scope of 100 tasks: adds 1 % of a scope's own cost to each task.

Where semantics differ
  * asyncio, anyio and bateau hand out a handle for each task, trio does not. No side awaits the handles: leaving the
    scope joins.
  * Python's garbage collector is on. With 100k live tasks it is a large part of every figure; a system pays for each
    tracked object that it keeps per task.
  * curio's spawning gives way, and looks through its whole ready queue each time: 100k at once would take minutes, so it has
    only the batches.
  * The floor makes bare coroutines and runs each by one ``send``.
  * trio runs the tasks of a tick in an order that it shuffles; the others run them first come, first served.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..model import Case, Measured, Stopwatch, Workload

BATCH = 100


def asyncio_side() -> Mapping[str, Measured]:
    import asyncio

    async def child() -> None:
        pass

    async def one_scope(n: int, clock: Stopwatch) -> None:
        with clock:
            async with asyncio.TaskGroup() as group:
                for _ in range(n):
                    group.create_task(child())

    async def batches_of_100(n: int, clock: Stopwatch) -> None:
        with clock:
            for _ in range(n // BATCH):
                async with asyncio.TaskGroup() as group:
                    for _ in range(BATCH):
                        group.create_task(child())

    return {"one_scope": one_scope, "batches_of_100": batches_of_100}


def trio_side() -> Mapping[str, Measured]:
    import trio

    async def child() -> None:
        pass

    async def one_scope(n: int, clock: Stopwatch) -> None:
        with clock:
            async with trio.open_nursery() as nursery:
                for _ in range(n):
                    nursery.start_soon(child)

    async def batches_of_100(n: int, clock: Stopwatch) -> None:
        with clock:
            for _ in range(n // BATCH):
                async with trio.open_nursery() as nursery:
                    for _ in range(BATCH):
                        nursery.start_soon(child)

    return {"one_scope": one_scope, "batches_of_100": batches_of_100}


def curio_side() -> Mapping[str, Measured]:
    import curio

    async def child() -> None:
        pass

    async def batch(n: int) -> None:
        async with curio.TaskGroup() as group:
            for _ in range(n):
                await group.spawn(child)

    async def batches_of_100(n: int, clock: Stopwatch) -> None:
        with clock:
            for _ in range(n // BATCH):
                await batch(BATCH)

    return {"batches_of_100": batches_of_100}


def anyio_side() -> Mapping[str, Measured]:
    import anyio

    async def child() -> None:
        pass

    async def one_scope(n: int, clock: Stopwatch) -> None:
        with clock:
            async with anyio.create_task_group() as group:
                for _ in range(n):
                    group.start_soon(child)

    async def batches_of_100(n: int, clock: Stopwatch) -> None:
        with clock:
            for _ in range(n // BATCH):
                async with anyio.create_task_group() as group:
                    for _ in range(BATCH):
                        group.start_soon(child)

    return {"one_scope": one_scope, "batches_of_100": batches_of_100}


def bateau_side() -> Mapping[str, Measured]:
    import bateau

    async def child() -> None:
        pass

    async def one_scope(n: int, clock: Stopwatch) -> None:
        with clock:
            async with bateau.scope() as scope:
                for _ in range(n):
                    scope.spawn(child)

    async def batches_of_100(n: int, clock: Stopwatch) -> None:
        with clock:
            for _ in range(n // BATCH):
                async with bateau.scope() as scope:
                    for _ in range(BATCH):
                        scope.spawn(child)

    return {"one_scope": one_scope, "batches_of_100": batches_of_100}


def floor_side() -> Mapping[str, Measured]:
    async def child() -> None:
        pass

    def run_all(count: int) -> None:
        for coroutine in [child() for _ in range(count)]:
            try:
                coroutine.send(None)
            except StopIteration:
                continue
            raise AssertionError("a coroutine without an await has suspended")

    async def one_scope(n: int, clock: Stopwatch) -> None:
        with clock:
            run_all(n)

    async def batches_of_100(n: int, clock: Stopwatch) -> None:
        with clock:
            for _ in range(n // BATCH):
                run_all(BATCH)

    return {"one_scope": one_scope, "batches_of_100": batches_of_100}


WORKLOAD = Workload(
    "spawn_join",
    "Spawn and join tasks that end at once",
    (
        Case(
            "one_scope",
            "task",
            fixed=100_000,
            fixed_quick=10_000,
            families=("asyncio", "trio", "anyio", "bateau", "floor"),
        ),
        Case("batches_of_100", "task", multiple=BATCH),
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
