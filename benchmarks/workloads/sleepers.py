"""A hundred thousand sleepers: spawned, parked, cancelled and joined, all of it measured as one.

One operation is one task, from its spawning to its joining. Each sleeps for an hour, in a user's ``async def``, and none
gets to the end of it: once all are parked, they are cancelled. The lengths differ and come in no order (one hour and up to
200 ms, the same sequence on every side), so that no timer structure can live off a sorted input.

Cases
  100k_cancelled  100k tasks (10k with --quick) in one scope; cancel them and leave it.

Where semantics differ
  * As in the workload ``cancel``: ``asyncio.TaskGroup`` has no ``cancel()``, so each of its tasks is cancelled by a call; the others
    cancel their scope, and go on cancelling what is awaited in it until it is left.
  * asyncio leaves the timers of cancelled sleeps in its heap, and sweeps them out when the loop turns next; trio sets one timer per
    deadline, in a heap of its own; bateau takes each out at once.
  * bateau records reason and origin of the cancellation.
  * Python's garbage collector is on. With 100k live tasks it is a large part of every figure.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..model import Case, Measured, Stopwatch, Workload


def duration(i: int) -> float:
    """Seconds that the i-th task would sleep. 7919 is prime to 2000: every step of 0.1 ms occurs, scattered."""
    return 3600 + (i * 7919 % 2000) * 0.0001


def asyncio_side() -> Mapping[str, Measured]:
    import asyncio

    async def sleeper(seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def cancelled(n: int, clock: Stopwatch) -> None:
        with clock:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(sleeper(duration(i))) for i in range(n)]
                await asyncio.sleep(0)  # one trip through the scheduler: all are parked now
                for task in tasks:
                    task.cancel()

    return {"100k_cancelled": cancelled}


def trio_side() -> Mapping[str, Measured]:
    import trio
    import trio.testing

    async def sleeper(seconds: float) -> None:
        await trio.sleep(seconds)

    async def cancelled(n: int, clock: Stopwatch) -> None:
        with clock:
            async with trio.open_nursery() as nursery:
                for i in range(n):
                    nursery.start_soon(sleeper, duration(i))
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()

    return {"100k_cancelled": cancelled}


def anyio_side() -> Mapping[str, Measured]:
    import anyio
    import anyio.lowlevel

    async def sleeper(seconds: float) -> None:
        await anyio.sleep(seconds)

    async def cancelled(n: int, clock: Stopwatch) -> None:
        with clock:
            async with anyio.create_task_group() as group:
                for i in range(n):
                    group.start_soon(sleeper, duration(i))
                await anyio.lowlevel.checkpoint()
                await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()

    return {"100k_cancelled": cancelled}


def bateau_side() -> Mapping[str, Measured]:
    import bateau
    import bateau.time

    async def sleeper(seconds: float) -> None:
        await bateau.time.sleep(seconds)

    async def cancelled(n: int, clock: Stopwatch) -> None:
        with clock:
            async with bateau.scope() as scope:
                for i in range(n):
                    scope.spawn(sleeper, duration(i))
                await bateau.yield_now()
                scope.cancel()

    return {"100k_cancelled": cancelled}


WORKLOAD = Workload(
    "sleepers",
    "Spawn, park and cancel a hundred thousand sleepers",
    (Case("100k_cancelled", "sleeper", fixed=100_000, fixed_quick=10_000),),
    {"asyncio": asyncio_side, "trio": trio_side, "anyio": anyio_side, "bateau": bateau_side},
)
