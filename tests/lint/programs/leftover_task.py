"""A task that is made and dropped outlives the program's main."""

import asyncio

RUNTIME = "native"


async def forgotten():
    await asyncio.sleep(30)


async def main():
    asyncio.create_task(forgotten())  # error: leftover_task
    await asyncio.sleep(0)
