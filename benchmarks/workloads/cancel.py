"""Cancelling very many waiting tasks at once.

One operation is one task: cancelled, unwound, ended and joined. No task has any cleanup.

Cases
  10k_parked  10k tasks (2k with --quick) in one scope, each waiting on an event of its own that nobody sets; cancel the scope and leave
              it. The spawning and parking before it is not measured.
  sleepers    100k tasks (10k with --quick) that sleep for an hour: spawning, parking, cancelling and joining them, all of it measured.

Where semantics differ
  * ``asyncio.TaskGroup`` has no ``cancel()`` (before Python 3.15): each task is cancelled by a call, then the group is left.
    curio has ``cancel_remaining``. The other three cancel their scope by one call.
  * curio's spawning and cancelling look through its whole ready queue: it has only the 10k.
  * asyncio and curio deliver one cancellation; trio, anyio and bateau cancel whatever the task awaits until it leaves the scope. No
    task here awaits anything further.
  * bateau records reason and origin of the cancellation.
  * The floor throws an exception into bare coroutines; for ``sleepers`` it also makes them and puts their times on a heap.
"""

from __future__ import annotations

import heapq
import time
import types
from collections.abc import Coroutine, Generator, Mapping

from ..model import Case, Measured, Stopwatch, Workload

HOUR = 3600


class Cancelled(BaseException):
    """What the floor throws into its coroutines."""


def asyncio_side() -> Mapping[str, Measured]:
    import asyncio

    async def parked(n: int, clock: Stopwatch) -> None:
        started = 0

        async def park() -> None:
            nonlocal started
            started += 1
            await asyncio.Event().wait()

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(park()) for _ in range(n)]
            while started < n:
                await asyncio.sleep(0)
            clock.start()
            for task in tasks:
                task.cancel()
        clock.stop()

    async def sleepers(n: int, clock: Stopwatch) -> None:
        started = 0

        async def sleep() -> None:
            nonlocal started
            started += 1
            await asyncio.sleep(HOUR)
            raise AssertionError("nobody sleeps to the end")

        with clock:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(sleep()) for _ in range(n)]
                while started < n:
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
        assert started == n

    return {"10k_parked": parked, "sleepers": sleepers}


def trio_side() -> Mapping[str, Measured]:
    import trio

    async def parked(n: int, clock: Stopwatch) -> None:
        started = 0

        async def park() -> None:
            nonlocal started
            started += 1
            await trio.Event().wait()

        async with trio.open_nursery() as nursery:
            for _ in range(n):
                nursery.start_soon(park)
            while started < n:
                await trio.lowlevel.checkpoint()
            clock.start()
            nursery.cancel_scope.cancel()
        clock.stop()

    async def sleepers(n: int, clock: Stopwatch) -> None:
        started = 0

        async def sleep() -> None:
            nonlocal started
            started += 1
            await trio.sleep(HOUR)
            raise AssertionError("nobody sleeps to the end")

        with clock:
            async with trio.open_nursery() as nursery:
                for _ in range(n):
                    nursery.start_soon(sleep)
                while started < n:
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        assert started == n

    return {"10k_parked": parked, "sleepers": sleepers}


def curio_side() -> Mapping[str, Measured]:
    import curio

    async def parked(n: int, clock: Stopwatch) -> None:
        started = 0

        async def park() -> None:
            nonlocal started
            started += 1
            await curio.Event().wait()

        async with curio.TaskGroup() as group:
            for _ in range(n):
                await group.spawn(park)
            while started < n:
                await curio.sleep(0)
            clock.start()
            await group.cancel_remaining()
        clock.stop()

    return {"10k_parked": parked}


def anyio_side() -> Mapping[str, Measured]:
    import anyio
    import anyio.lowlevel

    async def parked(n: int, clock: Stopwatch) -> None:
        started = 0

        async def park() -> None:
            nonlocal started
            started += 1
            await anyio.Event().wait()

        async with anyio.create_task_group() as group:
            for _ in range(n):
                group.start_soon(park)
            while started < n:
                await anyio.lowlevel.checkpoint()
            clock.start()
            group.cancel_scope.cancel()
        clock.stop()

    async def sleepers(n: int, clock: Stopwatch) -> None:
        started = 0

        async def sleep() -> None:
            nonlocal started
            started += 1
            await anyio.sleep(HOUR)
            raise AssertionError("nobody sleeps to the end")

        with clock:
            async with anyio.create_task_group() as group:
                for _ in range(n):
                    group.start_soon(sleep)
                while started < n:
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
        assert started == n

    return {"10k_parked": parked, "sleepers": sleepers}


def bateau_side() -> Mapping[str, Measured]:
    import bateau
    import bateau.time
    from bateau.sync import Event

    async def parked(n: int, clock: Stopwatch) -> None:
        started = 0

        async def park() -> None:
            nonlocal started
            started += 1
            await Event().wait()

        async with bateau.scope() as scope:
            for _ in range(n):
                scope.spawn(park)
            while started < n:
                await bateau.yield_now()
            clock.start()
            scope.cancel()
        clock.stop()

    async def sleepers(n: int, clock: Stopwatch) -> None:
        started = 0

        async def sleep() -> None:
            nonlocal started
            started += 1
            await bateau.time.sleep(HOUR)
            raise AssertionError("nobody sleeps to the end")

        with clock:
            async with bateau.scope() as scope:
                for _ in range(n):
                    scope.spawn(sleep)
                while started < n:
                    await bateau.yield_now()
                scope.cancel()
        assert started == n

    return {"10k_parked": parked, "sleepers": sleepers}


def floor_side() -> Mapping[str, Measured]:
    @types.coroutine
    def give_way() -> Generator[None, None, None]:
        yield

    async def park() -> None:
        await give_way()
        raise AssertionError("nobody waits to the end")

    def started(n: int) -> list[Coroutine[None, None, None]]:
        coroutines = [park() for _ in range(n)]
        for coroutine in coroutines:
            coroutine.send(None)
        return coroutines

    def cancel(coroutines: list[Coroutine[None, None, None]]) -> None:
        for coroutine in coroutines:
            try:
                coroutine.throw(Cancelled())
            except Cancelled:
                continue
            raise AssertionError("a coroutine has survived")

    async def parked(n: int, clock: Stopwatch) -> None:
        coroutines = started(n)
        with clock:
            cancel(coroutines)

    async def sleepers(n: int, clock: Stopwatch) -> None:
        with clock:
            timers: list[tuple[float, int]] = []
            for number in range(n):
                heapq.heappush(timers, (time.monotonic() + HOUR, number))
            cancel(started(n))

    return {"10k_parked": parked, "sleepers": sleepers}


WORKLOAD = Workload(
    "cancel",
    "Cancel ten thousand parked tasks",
    (
        Case("10k_parked", "cancelled task", fixed=10_000, fixed_quick=2_000),
        Case(
            "sleepers",
            "task",
            fixed=100_000,
            fixed_quick=10_000,
            families=("asyncio", "trio", "anyio", "bateau", "floor"),
        ),
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
