"""Two tasks wait for each other's events; each would set its own afterwards."""

import asyncio

from support.hazards import until_found_by_asyncio

WATCH = {"deadlock": 0.05}
RUNTIMES = ("plain", "native", "asyncio")


async def partner(mine, other):
    await other.wait()  # <- found
    mine.set()


def start():
    one, two = asyncio.Event(), asyncio.Event()
    return [asyncio.create_task(partner(one, two)), asyncio.create_task(partner(two, one))]


async def main():
    tasks = start()
    await until_found_by_asyncio("deadlock")
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
