"""Calling a function that blocks: on a thread, while the others go on.

One operation is one call of ``len("")`` on a worker thread and the way back: the hand-over and nothing else.

Cases
  one   one task, one call after another.
  many  64 tasks: hand-overs can share a wake-up.

Where semantics differ
  * Each side uses its own default pool: asyncio's ``to_thread`` has min(32, cores + 4) threads, trio's and anyio's limit is 40 threads,
    curio's is 64, bateau's starts at what the machine has cores for.
  * All but curio run the function in a copy of the task's context.
  * The floor is a thread that takes calls from one ``queue.SimpleQueue`` and answers by another: no loop, no tasks, no context.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial

from ..model import Case, Measured, Stopwatch, Workload

TASKS = 64
CALL = partial(len, "")


def asyncio_side() -> Mapping[str, Measured]:
    import asyncio

    async def call(n: int) -> None:
        for _ in range(n):
            assert await asyncio.to_thread(CALL) == 0

    async def one(n: int, clock: Stopwatch) -> None:
        with clock:
            await call(n)

    async def many(n: int, clock: Stopwatch) -> None:
        with clock:
            async with asyncio.TaskGroup() as group:
                for _ in range(TASKS):
                    group.create_task(call(n // TASKS))

    return {"one": one, "many": many}


def trio_side() -> Mapping[str, Measured]:
    import trio

    async def call(n: int) -> None:
        for _ in range(n):
            assert await trio.to_thread.run_sync(CALL) == 0

    async def one(n: int, clock: Stopwatch) -> None:
        with clock:
            await call(n)

    async def many(n: int, clock: Stopwatch) -> None:
        with clock:
            async with trio.open_nursery() as nursery:
                for _ in range(TASKS):
                    nursery.start_soon(call, n // TASKS)

    return {"one": one, "many": many}


def curio_side() -> Mapping[str, Measured]:
    import curio

    async def call(n: int) -> None:
        for _ in range(n):
            assert await curio.run_in_thread(CALL) == 0

    async def one(n: int, clock: Stopwatch) -> None:
        with clock:
            await call(n)

    async def many(n: int, clock: Stopwatch) -> None:
        with clock:
            async with curio.TaskGroup() as group:
                for _ in range(TASKS):
                    await group.spawn(call, n // TASKS)

    return {"one": one, "many": many}


def anyio_side() -> Mapping[str, Measured]:
    import anyio.to_thread

    async def call(n: int) -> None:
        for _ in range(n):
            assert await anyio.to_thread.run_sync(CALL) == 0

    async def one(n: int, clock: Stopwatch) -> None:
        with clock:
            await call(n)

    async def many(n: int, clock: Stopwatch) -> None:
        with clock:
            async with anyio.create_task_group() as group:
                for _ in range(TASKS):
                    group.start_soon(call, n // TASKS)

    return {"one": one, "many": many}


def bateau_side() -> Mapping[str, Measured]:
    import bateau
    import bateau.thread

    async def call(n: int) -> None:
        for _ in range(n):
            assert await bateau.thread.run(CALL) == 0

    async def one(n: int, clock: Stopwatch) -> None:
        with clock:
            await call(n)

    async def many(n: int, clock: Stopwatch) -> None:
        with clock:
            async with bateau.scope() as scope:
                for _ in range(TASKS):
                    scope.spawn(call, n // TASKS)

    return {"one": one, "many": many}


def floor_side() -> Mapping[str, Measured]:
    import threading
    from queue import SimpleQueue

    @contextlib.contextmanager
    def worker():
        calls: SimpleQueue = SimpleQueue()
        answers: SimpleQueue = SimpleQueue()

        def work() -> None:
            while (fn := calls.get()) is not None:
                answers.put(fn())

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield calls, answers
        finally:
            calls.put(None)
            thread.join()

    async def one(n: int, clock: Stopwatch) -> None:
        with worker() as (calls, answers), clock:
            for _ in range(n):
                calls.put(CALL)
                assert answers.get() == 0

    async def many(n: int, clock: Stopwatch) -> None:
        with worker() as (calls, answers), clock:
            for _ in range(n // TASKS):
                for _ in range(TASKS):
                    calls.put(CALL)
                for _ in range(TASKS):
                    assert answers.get() == 0

    return {"one": one, "many": many}


WORKLOAD = Workload(
    "offload",
    "Call a function on a thread",
    (Case("one", "call", busy=False), Case("many", "call", multiple=TASKS, busy=False)),
    {
        "asyncio": asyncio_side,
        "trio": trio_side,
        "curio": curio_side,
        "anyio": anyio_side,
        "bateau": bateau_side,
        "floor": floor_side,
    },
)
