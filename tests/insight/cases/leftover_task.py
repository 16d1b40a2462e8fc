"""Code written for asyncio starts a task, and forgets it."""

import asyncio

RUNTIMES = ("native", "asyncio")


async def forgotten():  # <- found
    await asyncio.sleep(30)


async def main():
    global task
    task = asyncio.create_task(forgotten())
    await asyncio.sleep(0)
