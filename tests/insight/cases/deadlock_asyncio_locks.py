"""Two tasks take two of asyncio's locks, each in an order of its own."""

import asyncio

from support.hazards import until_found_by_asyncio

WATCH = {"deadlock": 0.05}
RUNTIMES = ("plain", "native", "asyncio")


async def takes(first, second):
    async with first:
        await asyncio.sleep(0.01)
        async with second:  # <- found
            pass


async def main():
    one, two = asyncio.Lock(), asyncio.Lock()
    tasks = [asyncio.create_task(takes(one, two)), asyncio.create_task(takes(two, one))]
    await until_found_by_asyncio("deadlock")
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
