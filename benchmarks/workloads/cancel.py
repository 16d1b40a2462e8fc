"""Cancelling ten thousand parked tasks at once.

One operation is one task: cancelled, unwound, ended and joined. The spawning and parking before it is not measured. Each
task waits on an event of its own that nobody sets, and has no cleanup.

Cases
  10k_parked  10k tasks (2k with --quick) in one scope; cancel the scope and leave it.

Where semantics differ
  * ``asyncio.TaskGroup`` has no ``cancel()`` (before Python 3.15): each task is cancelled by a call, then the group is left.
    The other three cancel their scope by one call.
  * asyncio delivers one cancellation; trio, anyio and bateau cancel whatever the task awaits until it leaves the scope. No
    task here awaits anything further.
  * bateau records reason and origin of the cancellation.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..model import Case, Measured, Stopwatch, Workload


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

    return {"10k_parked": parked}


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

    return {"10k_parked": parked}


def bateau_side() -> Mapping[str, Measured]:
    import bateau
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

    return {"10k_parked": parked}


WORKLOAD = Workload(
    "cancel",
    "Cancel ten thousand parked tasks",
    (Case("10k_parked", "cancelled task", fixed=10_000, fixed_quick=2_000),),
    {"asyncio": asyncio_side, "trio": trio_side, "anyio": anyio_side, "bateau": bateau_side},
)
