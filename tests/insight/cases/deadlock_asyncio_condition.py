"""A task waits to be notified by one that waits for its end."""

import asyncio

from support.hazards import until_found_by_asyncio

WATCH = {"deadlock": 0.05}
RUNTIMES = ("plain", "native", "asyncio")


async def waits(condition):
    async with condition:
        await condition.wait()  # <- found


async def notifies():
    condition = asyncio.Condition()
    await asyncio.create_task(waits(condition), name="waits")
    async with condition:
        condition.notify()


async def main():
    task = asyncio.create_task(notifies())
    await until_found_by_asyncio("deadlock")
    task.cancel()
    await asyncio.wait([task])
