"""Tasks that are made and dropped."""

import asyncio
from asyncio import create_task


async def work(): ...


tasks = set()


async def main(group: asyncio.TaskGroup, future):
    asyncio.create_task(work())  # error: leftover_task
    create_task(work(), name="x")  # error: leftover_task
    asyncio.ensure_future(work())  # error: leftover_task
    asyncio.get_running_loop().create_task(work())  # error: leftover_task
    loop = asyncio.get_event_loop()
    loop.create_task(work())  # error: leftover_task
    group.create_task(work())
    asyncio.ensure_future(future)
    task = asyncio.create_task(work())
    tasks.add(task)
    await asyncio.create_task(work())
    tasks.add(asyncio.create_task(work()))
    asyncio.create_task(work()).add_done_callback(tasks.discard)
    loop.call_soon(print)
