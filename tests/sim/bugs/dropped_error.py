"""A dropped error: the worker's loop must go on, so it swallows what a job raises, and the job counts as done.

Modelled on "Simple Testing Can Prevent Most Critical Failures" (Yuan and others, 2014): most catastrophic failures of distributed
systems came from error handlers that ignored the error. The story must name the line that counts what was not done. Mended: it is put back.
"""

import random

import bateau
from support.bugs import Bug

BUG = Bug(seeds=20, says="was never done", proof=800)


async def store(job, stored):
    await bateau.yield_now()
    if random.random() < 0.1:
        raise OSError("no answer from the store")
    stored.add(job)


async def work(jobs, stored):
    while jobs:
        job = jobs.pop(0)
        try:
            await store(job, stored)
        except OSError:
            pass


async def work_and_retry(jobs, stored):
    while jobs:
        job = jobs.pop(0)
        try:
            await store(job, stored)
        except OSError:
            jobs.append(job)


async def scenario(work):
    jobs, stored = list(range(6)), set()
    async with bateau.scope() as scope:
        scope.spawn(work, jobs, stored, name="one")
        scope.spawn(work, jobs, stored, name="two")
    missing = set(range(6)) - stored
    assert not missing, f"job {min(missing)} was never done"  # <- named


async def buggy():
    await scenario(work)


async def mended():
    await scenario(work_and_retry)
