"""A condition that is waited for with `if`: whoever is woken believes that what it waited for is still true.

Modelled on the textbook's rule of Mesa monitors (Lampson and Redell, 1980): a notification is a hint. The Java Language
Specification and Python's `threading.Condition` repeat it. Two consumers are woken for one item, or a third takes it in between. The
story must name the line that takes from the empty list. Mended by `wait_for`.
"""

import bateau
from support.bugs import Bug

BUG = Bug(seeds=150, error="IndexError", says="pop from empty")


class Pool:
    def __init__(self):
        self.items = []
        self.condition = bateau.sync.Condition()

    async def put(self, item):
        async with self.condition:
            self.items.append(item)
            await bateau.yield_now()  # writes it to the journal
            self.condition.notify()

    async def get(self):
        async with self.condition:
            if not self.items:
                await self.condition.wait()
            return self.items.pop()  # <- named


class CarefulPool(Pool):
    async def get(self):
        async with self.condition:
            await self.condition.wait_for(lambda: self.items)
            return self.items.pop()


async def scenario(pool):
    async def late():
        for _ in range(5):
            await bateau.yield_now()
        return await pool.get()

    async def produce():
        for item in range(2):
            await bateau.yield_now()
            await pool.put(item)

    async with bateau.scope() as scope:
        scope.spawn(pool.get, name="early")
        scope.spawn(late, name="late")
        scope.spawn(produce, name="producer")
    assert not pool.items


async def buggy():
    await scenario(Pool())


async def mended():
    await scenario(CarefulPool())
