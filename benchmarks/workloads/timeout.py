"""Entering and leaving a timeout of 60 seconds that never fires.

One operation is one timeout around one body.

Cases
  empty_body     nothing inside. A system that sets its timer only when something waits (bateau, trio) is flattered here.
  ready_body     waits for an event that is set already: what most timeouts are around most of the time.
  yielding_body  one yield inside (see the workload ``switch``): the loop turns, and those that cancel timers late clean up.
  waiting_body   the body really waits: it receives a value that another task sends through a channel of capacity 1, and
                 the other waits for the next request in the same way. Every system must have its timer set here;
                 compare with the ping-pong of the workload ``channel``, which is the same without the timeout.

Where semantics differ
  * ``asyncio.timeout`` is an asynchronous context manager, so is ``curio.timeout_after``, the others are synchronous ones (``trio.fail_after``,
    ``anyio.fail_after``, ``bateau.timeout``).
  * All of them raise ``TimeoutError`` (or a class derived from it, or ``trio.TooSlowError``) when they fire.
  * asyncio's and curio's expire once; the others go on cancelling until the block is left.
  * trio's and anyio's ``wait`` for a set event goes through the scheduler; the others' returns at once.
  * The floor is a context manager in Python that reads the clock and sets nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from ..model import Case, Measured, Stopwatch, Workload

SECONDS = 60
LIBRARIES = ("asyncio", "trio", "curio", "anyio", "bateau")


def asyncio_side() -> Mapping[str, Measured]:
    import asyncio

    async def empty_body(n: int, clock: Stopwatch) -> None:
        with clock:
            for _ in range(n):
                async with asyncio.timeout(SECONDS):
                    pass

    async def ready_body(n: int, clock: Stopwatch) -> None:
        event = asyncio.Event()
        event.set()
        with clock:
            for _ in range(n):
                async with asyncio.timeout(SECONDS):
                    await event.wait()

    async def yielding_body(n: int, clock: Stopwatch) -> None:
        with clock:
            for _ in range(n):
                async with asyncio.timeout(SECONDS):
                    await asyncio.sleep(0)

    async def waiting_body(n: int, clock: Stopwatch) -> None:
        there: asyncio.Queue[int] = asyncio.Queue(1)
        back: asyncio.Queue[int] = asyncio.Queue(1)

        async def answer() -> None:
            for _ in range(n):
                await back.put(await there.get())

        with clock:
            async with asyncio.TaskGroup() as group:
                group.create_task(answer())
                for i in range(n):
                    await there.put(i)
                    async with asyncio.timeout(SECONDS):
                        await back.get()

    return {
        "empty_body": empty_body,
        "ready_body": ready_body,
        "yielding_body": yielding_body,
        "waiting_body": waiting_body,
    }


def trio_side() -> Mapping[str, Measured]:
    import trio

    async def empty_body(n: int, clock: Stopwatch) -> None:
        with clock:
            for _ in range(n):
                with trio.fail_after(SECONDS):
                    pass

    async def ready_body(n: int, clock: Stopwatch) -> None:
        event = trio.Event()
        event.set()
        with clock:
            for _ in range(n):
                with trio.fail_after(SECONDS):
                    await event.wait()

    async def yielding_body(n: int, clock: Stopwatch) -> None:
        with clock:
            for _ in range(n):
                with trio.fail_after(SECONDS):
                    await trio.lowlevel.checkpoint()

    async def waiting_body(n: int, clock: Stopwatch) -> None:
        there_tx, there_rx = trio.open_memory_channel[int](1)
        back_tx, back_rx = trio.open_memory_channel[int](1)

        async def answer() -> None:
            for _ in range(n):
                await back_tx.send(await there_rx.receive())

        with clock:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer)
                for i in range(n):
                    await there_tx.send(i)
                    with trio.fail_after(SECONDS):
                        await back_rx.receive()

    return {
        "empty_body": empty_body,
        "ready_body": ready_body,
        "yielding_body": yielding_body,
        "waiting_body": waiting_body,
    }


def curio_side() -> Mapping[str, Measured]:
    import curio

    async def empty_body(n: int, clock: Stopwatch) -> None:
        with clock:
            for _ in range(n):
                async with curio.timeout_after(SECONDS):
                    pass

    async def ready_body(n: int, clock: Stopwatch) -> None:
        event = curio.Event()
        await event.set()
        with clock:
            for _ in range(n):
                async with curio.timeout_after(SECONDS):
                    await event.wait()

    async def yielding_body(n: int, clock: Stopwatch) -> None:
        with clock:
            for _ in range(n):
                async with curio.timeout_after(SECONDS):
                    await curio.sleep(0)

    async def waiting_body(n: int, clock: Stopwatch) -> None:
        there: curio.Queue = curio.Queue(1)
        back: curio.Queue = curio.Queue(1)

        async def answer() -> None:
            for _ in range(n):
                await back.put(await there.get())

        with clock:
            async with curio.TaskGroup() as group:
                await group.spawn(answer)
                for i in range(n):
                    await there.put(i)
                    async with curio.timeout_after(SECONDS):
                        await back.get()

    return {
        "empty_body": empty_body,
        "ready_body": ready_body,
        "yielding_body": yielding_body,
        "waiting_body": waiting_body,
    }


def anyio_side() -> Mapping[str, Measured]:
    import anyio
    import anyio.lowlevel

    async def empty_body(n: int, clock: Stopwatch) -> None:
        with clock:
            for _ in range(n):
                with anyio.fail_after(SECONDS):
                    pass

    async def ready_body(n: int, clock: Stopwatch) -> None:
        event = anyio.Event()
        event.set()
        with clock:
            for _ in range(n):
                with anyio.fail_after(SECONDS):
                    await event.wait()

    async def yielding_body(n: int, clock: Stopwatch) -> None:
        with clock:
            for _ in range(n):
                with anyio.fail_after(SECONDS):
                    await anyio.lowlevel.checkpoint()

    async def waiting_body(n: int, clock: Stopwatch) -> None:
        there_tx, there_rx = anyio.create_memory_object_stream[int](1)
        back_tx, back_rx = anyio.create_memory_object_stream[int](1)

        async def answer() -> None:
            for _ in range(n):
                await back_tx.send(await there_rx.receive())

        with there_tx, there_rx, back_tx, back_rx, clock:
            async with anyio.create_task_group() as group:
                group.start_soon(answer)
                for i in range(n):
                    await there_tx.send(i)
                    with anyio.fail_after(SECONDS):
                        await back_rx.receive()

    return {
        "empty_body": empty_body,
        "ready_body": ready_body,
        "yielding_body": yielding_body,
        "waiting_body": waiting_body,
    }


def bateau_side() -> Mapping[str, Measured]:
    import bateau
    from bateau.channel import channel
    from bateau.sync import Event

    async def empty_body(n: int, clock: Stopwatch) -> None:
        with clock:
            for _ in range(n):
                with bateau.timeout(SECONDS):
                    pass

    async def ready_body(n: int, clock: Stopwatch) -> None:
        event = Event()
        event.set()
        with clock:
            for _ in range(n):
                with bateau.timeout(SECONDS):
                    await event.wait()

    async def yielding_body(n: int, clock: Stopwatch) -> None:
        with clock:
            for _ in range(n):
                with bateau.timeout(SECONDS):
                    await bateau.yield_now()

    async def waiting_body(n: int, clock: Stopwatch) -> None:
        there_tx, there_rx = channel(1)
        back_tx, back_rx = channel(1)

        async def answer() -> None:
            for _ in range(n):
                await back_tx.send(await there_rx.recv())

        with clock:
            async with bateau.scope() as scope:
                scope.spawn(answer)
                for i in range(n):
                    await there_tx.send(i)
                    with bateau.timeout(SECONDS):
                        await back_rx.recv()

    return {
        "empty_body": empty_body,
        "ready_body": ready_body,
        "yielding_body": yielding_body,
        "waiting_body": waiting_body,
    }


def floor_side() -> Mapping[str, Measured]:
    class Deadline:
        """A context manager that reads the clock: what a timeout that sets no timer can't do without."""

        def __enter__(self) -> None:
            self.when = time.monotonic() + SECONDS

        def __exit__(self, *_: object) -> None:
            pass

    async def empty_body(n: int, clock: Stopwatch) -> None:
        with clock:
            for _ in range(n):
                with Deadline():
                    pass

    async def ready() -> bool:
        return True

    async def ready_body(n: int, clock: Stopwatch) -> None:
        with clock:
            for _ in range(n):
                with Deadline():
                    await ready()

    return {"empty_body": empty_body, "ready_body": ready_body}


WORKLOAD = Workload(
    "timeout",
    "Enter and leave a timeout that never fires",
    (
        Case("empty_body", "timeout"),
        Case("ready_body", "timeout + wait for what is there"),
        Case("yielding_body", "timeout + yield", families=LIBRARIES),
        Case("waiting_body", "timeout + channel round trip", families=LIBRARIES),
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
