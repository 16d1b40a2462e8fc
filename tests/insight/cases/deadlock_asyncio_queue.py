"""A handler puts follow-up work into the queue that only itself serves."""

import asyncio

from support.hazards import until_found_by_asyncio

WATCH = {"deadlock": 0.05}
RUNTIMES = ("plain", "native", "asyncio")


class Handler:
    def __init__(self):
        self.queue = asyncio.Queue(2)

    async def run(self):
        await self.queue.put(5)
        while True:
            number = await self.queue.get()
            for follow_up in range(number):
                await self.queue.put(follow_up)  # <- found


async def main():
    task = asyncio.create_task(Handler().run())
    await until_found_by_asyncio("deadlock")
    task.cancel()
    await asyncio.wait([task])
