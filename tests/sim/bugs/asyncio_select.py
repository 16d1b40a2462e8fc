"""asyncio code: a loop waits for an item or for the order to stop, and drops the item when both come at once.

Modelled on the `asyncio.wait(..., FIRST_COMPLETED)` idiom and on bpo-42130 and bpo-37658, where `wait_for` lost a result that came
together with a cancellation. The story must name the wait for both. Mended by looking at the item first.
"""

import asyncio

from support.bugs import Bug

BUG = Bug(seeds=80, says="was lost", shrinks_to=10)


async def consume(queue, stop, found):
    stopping = asyncio.create_task(stop.wait())
    while True:
        getting = asyncio.create_task(queue.get())
        await asyncio.wait({getting, stopping}, return_when=asyncio.FIRST_COMPLETED)  # <- named
        if stopping.done():
            getting.cancel()
            await asyncio.gather(getting, return_exceptions=True)
            return
        found.append(getting.result())


async def consume_carefully(queue, stop, found):
    stopping = asyncio.create_task(stop.wait())
    while True:
        getting = asyncio.create_task(queue.get())
        await asyncio.wait({getting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            getting.cancel()
            found += [item for item in await asyncio.gather(getting, return_exceptions=True) if isinstance(item, str)]
            return
        found.append(getting.result())


async def scenario(consume):
    queue, stop, found = asyncio.Queue(), asyncio.Event(), []

    async def produce():
        for item in ("a", "b"):
            for _ in range(4):
                await asyncio.sleep(0)
            queue.put_nowait(item)

    async def stopper():
        for _ in range(16):
            await asyncio.sleep(0)
        stop.set()

    await asyncio.gather(consume(queue, stop, found), produce(), stopper())
    while not queue.empty():
        found.append(queue.get_nowait())
    assert found == ["a", "b"], f"an item was lost: only {found} came"


async def buggy():
    await scenario(consume)


async def mended():
    await scenario(consume_carefully)
