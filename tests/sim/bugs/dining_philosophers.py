"""Dining philosophers: each takes the left fork, then the right one.

Modelled on E. W. Dijkstra, "Hierarchical Ordering of Sequential Processes", 1971. It takes all of them (three
here) to be in step, which makes it a bug of some depth. The explanation must name the second fork. Mended: the last one is left-handed.
"""

import bateau
from support.bugs import Bug

PHILOSOPHERS = 3

BUG = Bug(seeds=100, strategy="surw", error="Deadlock", says="fork", shrinks_to=12)


async def eat(first, second, steps):
    for _ in range(steps):
        await bateau.yield_now()
    async with first:
        await bateau.yield_now()
        async with second:  # <- named
            await bateau.yield_now()


async def scenario(left_handed):
    forks = [bateau.sync.Lock(name=f"fork {number}") for number in range(PHILOSOPHERS)]
    async with bateau.scope() as scope:
        for number in range(PHILOSOPHERS):
            pair = [forks[number], forks[(number + 1) % PHILOSOPHERS]]
            if number in left_handed:
                pair.reverse()
            scope.spawn(eat, *pair, 3 * number, name=f"philosopher {number}")


async def buggy():
    await scenario(left_handed=())


async def mended():
    await scenario(left_handed=(PHILOSOPHERS - 1,))
