"""A regular expression that explodes: C code that holds the GIL, so that no other thread can look meanwhile."""

import re

import bateau
from support.hazards import until_found

WATCH = {"scheduling_delay": 0.05}
RUNTIMES = ("native", "asyncio")


async def worker():
    length = 16
    while not found() and length < 30:
        re.match(r"(a+)+$", "a" * length + "b")  # <- found
        length += 1
        await bateau.time.sleep(0.03)


def found():
    from bateau import insight

    return insight.findings("scheduling_delay")


async def main():
    async with bateau.scope() as scope:
        scope.spawn(worker)
        await until_found("scheduling_delay")
