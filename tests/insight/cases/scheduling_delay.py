"""A blocking call in a task."""

import time

import bateau
from support.hazards import until_found

WATCH = {"scheduling_delay": 0.05}


async def worker():
    end = time.monotonic() + 20
    while not found() and time.monotonic() < end:
        time.sleep(0.01)  # <- found


def found():
    from bateau import insight

    return insight.findings("scheduling_delay")


async def main():
    async with bateau.scope() as scope:
        scope.spawn(worker)
        await until_found("scheduling_delay")
