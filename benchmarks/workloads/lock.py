"""Taking and leaving a lock with ``async with``.

One operation is one acquire and its release.

Cases
  free       one task, nobody else wants the lock.
  contended  ten tasks want one lock, and its holder yields once while it holds it, so that each release hands the lock to
             a waiter. One operation therefore contains one yield (see the workload ``switch``) and one hand-over.

Where semantics differ
  * All four locks are fair (first come, first served).
  * trio and anyio go through the scheduler at every acquire, even of a free lock. anyio can be told not to
    (``Lock(fast_acquire=True)``); here it is used as it comes. asyncio gives way only when it must wait; bateau also when
    a task's step budget is used up.
  * trio's, anyio's and bateau's locks know their owner and refuse to be released by others; asyncio's does not.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..model import Case, Measured, Stopwatch, Workload

TASKS = 10


def asyncio_side() -> Mapping[str, Measured]:
    import asyncio

    async def free(n: int, clock: Stopwatch) -> None:
        lock = asyncio.Lock()
        with clock:
            for _ in range(n):
                async with lock:
                    pass

    async def contended(n: int, clock: Stopwatch) -> None:
        lock = asyncio.Lock()

        async def contender() -> None:
            for _ in range(n // TASKS):
                async with lock:
                    await asyncio.sleep(0)

        with clock:
            async with asyncio.TaskGroup() as group:
                for _ in range(TASKS):
                    group.create_task(contender())

    return {"free": free, "contended": contended}


def trio_side() -> Mapping[str, Measured]:
    import trio

    async def free(n: int, clock: Stopwatch) -> None:
        lock = trio.Lock()
        with clock:
            for _ in range(n):
                async with lock:
                    pass

    async def contended(n: int, clock: Stopwatch) -> None:
        lock = trio.Lock()

        async def contender() -> None:
            for _ in range(n // TASKS):
                async with lock:
                    await trio.lowlevel.checkpoint()

        with clock:
            async with trio.open_nursery() as nursery:
                for _ in range(TASKS):
                    nursery.start_soon(contender)

    return {"free": free, "contended": contended}


def anyio_side() -> Mapping[str, Measured]:
    import anyio
    import anyio.lowlevel

    async def free(n: int, clock: Stopwatch) -> None:
        lock = anyio.Lock()
        with clock:
            for _ in range(n):
                async with lock:
                    pass

    async def contended(n: int, clock: Stopwatch) -> None:
        lock = anyio.Lock()

        async def contender() -> None:
            for _ in range(n // TASKS):
                async with lock:
                    await anyio.lowlevel.checkpoint()

        with clock:
            async with anyio.create_task_group() as group:
                for _ in range(TASKS):
                    group.start_soon(contender)

    return {"free": free, "contended": contended}


def bateau_side() -> Mapping[str, Measured]:
    import bateau
    from bateau.sync import Lock

    async def free(n: int, clock: Stopwatch) -> None:
        lock = Lock()
        with clock:
            for _ in range(n):
                async with lock:
                    pass

    async def contended(n: int, clock: Stopwatch) -> None:
        lock = Lock()

        async def contender() -> None:
            for _ in range(n // TASKS):
                async with lock:
                    await bateau.yield_now()

        with clock:
            async with bateau.scope() as scope:
                for _ in range(TASKS):
                    scope.spawn(contender)

    return {"free": free, "contended": contended}


WORKLOAD = Workload(
    "lock",
    "Take and leave a lock",
    (Case("free", "acquire + release"), Case("contended", "acquire + yield + release", multiple=TASKS)),
    {"asyncio": asyncio_side, "trio": trio_side, "anyio": anyio_side, "bateau": bateau_side},
)
