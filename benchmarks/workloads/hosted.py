"""asyncio's own things on the loops that can run them: one asyncio program, asyncio's, uvloop's and bateau's event loop.

Cases
  queue     an item to another task and back, over two ``asyncio.Queue(1)``.
  future    a future made, completed by ``call_soon`` and awaited.
  sleep0    ``await asyncio.sleep(0)``: one round of the ready queue.
  spawn     a task made and awaited.
  timer     ``call_later`` and ``cancel``: a timeout that does not happen.

Where semantics differ: bateau's loop does not poll in each iteration that has work (up to 64 callbacks, and some
milliseconds, pass without), uvloop and asyncio do. In ``timer`` asyncio and uvloop leave a cancelled timer in their heap for later, bateau takes it out at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..model import Case, Measured, Stopwatch, Workload


def asyncio_side() -> Mapping[str, Measured]:
    import asyncio

    async def queue(n: int, clock: Stopwatch) -> None:
        there: asyncio.Queue[int] = asyncio.Queue(1)
        back: asyncio.Queue[int] = asyncio.Queue(1)

        async def echo() -> None:
            for _ in range(n):
                await back.put(await there.get())

        task = asyncio.create_task(echo())
        with clock:
            for item in range(n):
                await there.put(item)
                await back.get()
        await task

    async def future(n: int, clock: Stopwatch) -> None:
        loop = asyncio.get_running_loop()
        with clock:
            for _ in range(n):
                promised: asyncio.Future[None] = loop.create_future()
                loop.call_soon(promised.set_result, None)
                await promised

    async def sleep0(n: int, clock: Stopwatch) -> None:
        with clock:
            for _ in range(n):
                await asyncio.sleep(0)

    async def spawn(n: int, clock: Stopwatch) -> None:
        async def nothing() -> None:
            pass

        with clock:
            for _ in range(n):
                await asyncio.create_task(nothing())

    async def timer(n: int, clock: Stopwatch) -> None:
        loop = asyncio.get_running_loop()

        def never() -> None:
            raise AssertionError

        with clock:
            for i in range(n):
                loop.call_later(100.0, never).cancel()
                if not i % 100:
                    await asyncio.sleep(0)

    return {"queue": queue, "future": future, "sleep0": sleep0, "spawn": spawn, "timer": timer}


WORKLOAD = Workload(
    name="hosted",
    title="asyncio's own queues, futures and tasks, on each loop",
    cases=(
        Case("queue", "round trip"),
        Case("future", "future"),
        Case("sleep0", "sleep(0)"),
        Case("spawn", "task"),
        Case("timer", "timer set and cancelled"),
    ),
    sides={"asyncio": asyncio_side},
)
