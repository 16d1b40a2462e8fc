"""Waiting for an event that another task sets.

Cases
  round_trip  two tasks and two events: one operation is a set and a wait on either side, each of which wakes the other task.
  many        a hundred tasks wait for one event: one operation is one of them woken. Who was woken last sets an event
              on which the setter waits.

Where semantics differ
  * asyncio's and bateau's events can be cleared, so ``round_trip`` uses the same two throughout; trio's and anyio's can not,
    and each turn makes a new one. ``many`` makes a new event for each turn on every side.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..model import Case, Measured, Stopwatch, Workload

WAITERS = 100


def asyncio_side() -> Mapping[str, Measured]:
    import asyncio

    async def round_trip(n: int, clock: Stopwatch) -> None:
        there, back = asyncio.Event(), asyncio.Event()

        async def answer() -> None:
            for _ in range(n):
                await there.wait()
                there.clear()
                back.set()

        with clock:
            async with asyncio.TaskGroup() as group:
                group.create_task(answer())
                for _ in range(n):
                    there.set()
                    await back.wait()
                    back.clear()

    async def many(n: int, clock: Stopwatch) -> None:
        turns = n // WAITERS
        gate, done, woken = asyncio.Event(), asyncio.Event(), 0

        def arrived() -> None:
            nonlocal woken
            woken += 1
            if woken == WAITERS:
                done.set()

        async def waiter() -> None:
            arrived()
            for _ in range(turns):
                await gate.wait()
                arrived()

        with clock:
            async with asyncio.TaskGroup() as group:
                for _ in range(WAITERS):
                    group.create_task(waiter())
                await done.wait()
                for _ in range(turns):
                    opened, gate, done, woken = gate, asyncio.Event(), asyncio.Event(), 0
                    opened.set()
                    await done.wait()

    return {"round_trip": round_trip, "many": many}


def trio_side() -> Mapping[str, Measured]:
    import trio

    async def round_trip(n: int, clock: Stopwatch) -> None:
        there, back = trio.Event(), trio.Event()

        async def answer() -> None:
            nonlocal there
            for _ in range(n):
                await there.wait()
                there = trio.Event()
                back.set()

        with clock:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer)
                for _ in range(n):
                    there.set()
                    await back.wait()
                    back = trio.Event()

    async def many(n: int, clock: Stopwatch) -> None:
        turns = n // WAITERS
        gate, done, woken = trio.Event(), trio.Event(), 0

        def arrived() -> None:
            nonlocal woken
            woken += 1
            if woken == WAITERS:
                done.set()

        async def waiter() -> None:
            arrived()
            for _ in range(turns):
                await gate.wait()
                arrived()

        with clock:
            async with trio.open_nursery() as nursery:
                for _ in range(WAITERS):
                    nursery.start_soon(waiter)
                await done.wait()
                for _ in range(turns):
                    opened, gate, done, woken = gate, trio.Event(), trio.Event(), 0
                    opened.set()
                    await done.wait()

    return {"round_trip": round_trip, "many": many}


def anyio_side() -> Mapping[str, Measured]:
    import anyio

    async def round_trip(n: int, clock: Stopwatch) -> None:
        there, back = anyio.Event(), anyio.Event()

        async def answer() -> None:
            nonlocal there
            for _ in range(n):
                await there.wait()
                there = anyio.Event()
                back.set()

        with clock:
            async with anyio.create_task_group() as group:
                group.start_soon(answer)
                for _ in range(n):
                    there.set()
                    await back.wait()
                    back = anyio.Event()

    async def many(n: int, clock: Stopwatch) -> None:
        turns = n // WAITERS
        gate, done, woken = anyio.Event(), anyio.Event(), 0

        def arrived() -> None:
            nonlocal woken
            woken += 1
            if woken == WAITERS:
                done.set()

        async def waiter() -> None:
            arrived()
            for _ in range(turns):
                await gate.wait()
                arrived()

        with clock:
            async with anyio.create_task_group() as group:
                for _ in range(WAITERS):
                    group.start_soon(waiter)
                await done.wait()
                for _ in range(turns):
                    opened, gate, done, woken = gate, anyio.Event(), anyio.Event(), 0
                    opened.set()
                    await done.wait()

    return {"round_trip": round_trip, "many": many}


def bateau_side() -> Mapping[str, Measured]:
    import bateau
    from bateau.sync import Event

    async def round_trip(n: int, clock: Stopwatch) -> None:
        there, back = Event(), Event()

        async def answer() -> None:
            for _ in range(n):
                await there.wait()
                there.clear()
                back.set()

        with clock:
            async with bateau.scope() as scope:
                scope.spawn(answer)
                for _ in range(n):
                    there.set()
                    await back.wait()
                    back.clear()

    async def many(n: int, clock: Stopwatch) -> None:
        turns = n // WAITERS
        gate, done, woken = Event(), Event(), 0

        def arrived() -> None:
            nonlocal woken
            woken += 1
            if woken == WAITERS:
                done.set()

        async def waiter() -> None:
            arrived()
            for _ in range(turns):
                await gate.wait()
                arrived()

        with clock:
            async with bateau.scope() as scope:
                for _ in range(WAITERS):
                    scope.spawn(waiter)
                await done.wait()
                for _ in range(turns):
                    opened, gate, done, woken = gate, Event(), Event(), 0
                    opened.set()
                    await done.wait()

    return {"round_trip": round_trip, "many": many}


WORKLOAD = Workload(
    "event",
    "Wait for an event that another task sets",
    (Case("round_trip", "set and wait, there and back"), Case("many", "waiter woken", multiple=WAITERS)),
    {"asyncio": asyncio_side, "trio": trio_side, "anyio": anyio_side, "bateau": bateau_side},
)
