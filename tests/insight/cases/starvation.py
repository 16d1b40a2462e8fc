"""A scheduling policy that never lets a task of low priority run while there are others."""

import bateau
from support.hazards import until_found

WATCH = {"starvation": 0.05}
RUNTIMES = ("greedy",)


async def busy():
    end = bateau.now() + 10
    while not found() and bateau.now() < end:
        await bateau.yield_now()


async def patient():
    await bateau.time.sleep(0.01)  # <- found


def found():
    from bateau import insight

    return insight.findings("starvation")


async def main():
    async with bateau.scope() as scope:
        scope.spawn(patient, priority=-1)
        await bateau.yield_now()
        await bateau.time.sleep(0.005)
        scope.spawn(busy)
        scope.spawn(busy)
        await until_found("starvation")
