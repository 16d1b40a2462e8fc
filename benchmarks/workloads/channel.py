"""Handing values between tasks through bounded channels.

Every side uses its own bounded queue: ``asyncio.Queue``, ``trio.open_memory_channel``,
``anyio.create_memory_object_stream``, ``bateau.channel.channel``.

Cases
  ping_pong  two tasks and two channels of capacity 1: one operation is a round trip (two sends, two receives). Each
             value must wake the other side, so this is the latency of a hand-over.
  mpsc       four producers, one consumer, one channel of capacity 64: one operation is one message. There is room
             most of the time, so this is the cost of a value that does not have to wait.

Where semantics differ
  * ``asyncio.Queue`` cannot be closed (before Python 3.13) and needs no clone per producer; the others can be closed, and
    bateau's, trio's and anyio's senders could be cloned. Here the consumer counts its messages on every side, and all
    producers share one sender.
  * trio and anyio go through the scheduler at every send and receive, even when there is room: their policy is fairness
    first. asyncio and curio give way only when they must wait; bateau also when a task's step budget is used up.
  * The floor is a ``deque`` between generators that a loop resumes: no scheduler, no tasks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping

from ..model import Case, Measured, Stopwatch, Workload

PRODUCERS = 4
CAPACITY = 64


def check(total: int, n: int) -> None:
    """That the consumer got what the producers of n messages sent: each counts from 0."""
    each = n // PRODUCERS
    if total != (expected := PRODUCERS * each * (each - 1) // 2):
        raise AssertionError(f"the messages add up to {total}, not {expected}")


def asyncio_side() -> Mapping[str, Measured]:
    import asyncio

    async def ping_pong(n: int, clock: Stopwatch) -> None:
        there: asyncio.Queue[int] = asyncio.Queue(1)
        back: asyncio.Queue[int] = asyncio.Queue(1)

        async def pong() -> None:
            for _ in range(n):
                await back.put(await there.get())

        with clock:
            async with asyncio.TaskGroup() as group:
                group.create_task(pong())
                for i in range(n):
                    await there.put(i)
                    assert await back.get() == i

    async def mpsc(n: int, clock: Stopwatch) -> None:
        queue: asyncio.Queue[int] = asyncio.Queue(CAPACITY)
        total = 0

        async def produce(count: int) -> None:
            for i in range(count):
                await queue.put(i)

        with clock:
            async with asyncio.TaskGroup() as group:
                for _ in range(PRODUCERS):
                    group.create_task(produce(n // PRODUCERS))
                for _ in range(n):
                    total += await queue.get()
        check(total, n)

    return {"ping_pong": ping_pong, "mpsc": mpsc}


def trio_side() -> Mapping[str, Measured]:
    import trio

    async def ping_pong(n: int, clock: Stopwatch) -> None:
        there_tx, there_rx = trio.open_memory_channel[int](1)
        back_tx, back_rx = trio.open_memory_channel[int](1)

        async def pong() -> None:
            for _ in range(n):
                await back_tx.send(await there_rx.receive())

        with clock:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pong)
                for i in range(n):
                    await there_tx.send(i)
                    assert await back_rx.receive() == i

    async def mpsc(n: int, clock: Stopwatch) -> None:
        tx, rx = trio.open_memory_channel[int](CAPACITY)
        total = 0

        async def produce(count: int) -> None:
            for i in range(count):
                await tx.send(i)

        with clock:
            async with trio.open_nursery() as nursery:
                for _ in range(PRODUCERS):
                    nursery.start_soon(produce, n // PRODUCERS)
                for _ in range(n):
                    total += await rx.receive()
        check(total, n)

    return {"ping_pong": ping_pong, "mpsc": mpsc}


def curio_side() -> Mapping[str, Measured]:
    import curio

    async def ping_pong(n: int, clock: Stopwatch) -> None:
        there: curio.Queue = curio.Queue(1)
        back: curio.Queue = curio.Queue(1)

        async def pong() -> None:
            for _ in range(n):
                await back.put(await there.get())

        with clock:
            async with curio.TaskGroup() as group:
                await group.spawn(pong)
                for i in range(n):
                    await there.put(i)
                    assert await back.get() == i

    async def mpsc(n: int, clock: Stopwatch) -> None:
        queue: curio.Queue = curio.Queue(CAPACITY)
        total = 0

        async def produce(count: int) -> None:
            for i in range(count):
                await queue.put(i)

        with clock:
            async with curio.TaskGroup() as group:
                for _ in range(PRODUCERS):
                    await group.spawn(produce, n // PRODUCERS)
                for _ in range(n):
                    total += await queue.get()
        check(total, n)

    return {"ping_pong": ping_pong, "mpsc": mpsc}


def anyio_side() -> Mapping[str, Measured]:
    import anyio

    async def ping_pong(n: int, clock: Stopwatch) -> None:
        there_tx, there_rx = anyio.create_memory_object_stream[int](1)
        back_tx, back_rx = anyio.create_memory_object_stream[int](1)

        async def pong() -> None:
            for _ in range(n):
                await back_tx.send(await there_rx.receive())

        with there_tx, there_rx, back_tx, back_rx, clock:
            async with anyio.create_task_group() as group:
                group.start_soon(pong)
                for i in range(n):
                    await there_tx.send(i)
                    assert await back_rx.receive() == i

    async def mpsc(n: int, clock: Stopwatch) -> None:
        tx, rx = anyio.create_memory_object_stream[int](CAPACITY)
        total = 0

        async def produce(count: int) -> None:
            for i in range(count):
                await tx.send(i)

        with tx, rx, clock:
            async with anyio.create_task_group() as group:
                for _ in range(PRODUCERS):
                    group.start_soon(produce, n // PRODUCERS)
                for _ in range(n):
                    total += await rx.receive()
        check(total, n)

    return {"ping_pong": ping_pong, "mpsc": mpsc}


def bateau_side() -> Mapping[str, Measured]:
    import bateau
    from bateau.channel import channel

    async def ping_pong(n: int, clock: Stopwatch) -> None:
        there_tx, there_rx = channel(1)
        back_tx, back_rx = channel(1)

        async def pong() -> None:
            for _ in range(n):
                await back_tx.send(await there_rx.recv())

        with clock:
            async with bateau.scope() as scope:
                scope.spawn(pong)
                for i in range(n):
                    await there_tx.send(i)
                    assert await back_rx.recv() == i

    async def mpsc(n: int, clock: Stopwatch) -> None:
        tx, rx = channel(CAPACITY)
        total = 0

        async def produce(count: int) -> None:
            for i in range(count):
                await tx.send(i)

        with clock:
            async with bateau.scope() as scope:
                for _ in range(PRODUCERS):
                    scope.spawn(produce, n // PRODUCERS)
                for _ in range(n):
                    total += await rx.recv()
        check(total, n)

    return {"ping_pong": ping_pong, "mpsc": mpsc}


def floor_side() -> Mapping[str, Measured]:
    async def ping_pong(n: int, clock: Stopwatch) -> None:
        there: deque[int] = deque(maxlen=1)
        back: deque[int] = deque(maxlen=1)

        def pong() -> Generator[None, None, None]:
            while True:
                back.append(there.popleft())
                yield

        answer = pong()
        with clock:
            for i in range(n):
                there.append(i)
                next(answer)
                assert back.popleft() == i

    async def mpsc(n: int, clock: Stopwatch) -> None:
        queue: deque[int] = deque(maxlen=CAPACITY)
        total = 0

        def produce(count: int) -> Generator[None, None, None]:
            for i in range(count):
                if len(queue) == CAPACITY:
                    yield
                queue.append(i)

        with clock:
            producers = deque(produce(n // PRODUCERS) for _ in range(PRODUCERS))
            while producers:
                if next(producers[0], 0) is None:
                    producers.rotate()
                else:
                    producers.popleft()
                while queue:
                    total += queue.popleft()
        check(total, n)

    return {"ping_pong": ping_pong, "mpsc": mpsc}


WORKLOAD = Workload(
    "channel",
    "Hand values between tasks through bounded channels",
    (Case("ping_pong", "round trip"), Case("mpsc", "message", multiple=PRODUCERS)),
    {
        "asyncio": asyncio_side,
        "trio": trio_side,
        "curio": curio_side,
        "anyio": anyio_side,
        "bateau": bateau_side,
        "floor": floor_side,
    },
)
