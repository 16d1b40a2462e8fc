"""asyncio code: a worker that fails skips `task_done`, and `Queue.join` waits for ever.

Modelled on the many questions "asyncio queue.join() never returns" and on the example of the queue module's documentation, which
calls it after work that can't fail. The explanation must name the join. Mended by `finally`.
"""

import asyncio
import random

from support.bugs import Bug

BUG = Bug(seeds=10, error="Deadlock", says="join")


async def work(job, failing):
    await asyncio.sleep(0)
    if job == failing:
        raise ValueError(f"job {job} is malformed")


async def worker(queue, failing, errors):
    while True:
        job = await queue.get()
        try:
            await work(job, failing)
            queue.task_done()
        except ValueError as error:
            errors.append(error)


async def careful_worker(queue, failing, errors):
    while True:
        job = await queue.get()
        try:
            await work(job, failing)
        except ValueError as error:
            errors.append(error)
        finally:
            queue.task_done()


async def scenario(worker):
    queue, errors = asyncio.Queue(), []
    failing = random.choice([None, 0, 1, 2])
    workers = [asyncio.create_task(worker(queue, failing, errors)) for _ in range(2)]
    for job in range(3):
        queue.put_nowait(job)
    try:
        await queue.join()  # <- named
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def buggy():
    await scenario(worker)


async def mended():
    await scenario(careful_worker)
