"""Nested permits: each job holds a permit while it waits for a part of itself, which needs one of the same.

Modelled on the deadlock of recursive work in a bounded pool (documented with Python's `ThreadPoolExecutor`: futures that wait on
futures of the same pool) and on an incident of Airflow's triggerer with one semaphore at two levels. The explanation must name the inner acquisition and
that its holders are the very ones who wait. Mended: a permit for the leaves only.
"""

import bateau
from support.bugs import Bug

BUG = Bug(seeds=1, error="Deadlock", says="slots")


async def visit(slots, tree):
    async with slots:  # <- named
        await bateau.yield_now()
        if isinstance(tree, list):
            return sum(await bateau.join([visit(slots, branch) for branch in tree]))
        return tree


async def visit_leaves(slots, tree):
    if isinstance(tree, list):
        return sum(await bateau.join([visit_leaves(slots, branch) for branch in tree]))
    async with slots:
        await bateau.yield_now()
        return tree


async def scenario(visit):
    slots = bateau.sync.Semaphore(2, name="slots")
    assert await visit(slots, [[1, 2], [3, [4, 5]]]) == 15


async def buggy():
    await scenario(visit)


async def mended():
    await scenario(visit_leaves)
