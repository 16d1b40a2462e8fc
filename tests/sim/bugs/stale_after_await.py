"""A check that is stale: the last seat is free, then the payment is waited for, then the seat is given, again.

Modelled on "Alan lost the world" of Rust's async vision document (state read before an await and used after it) and on overselling in
ticket shops. The story must name the wait between look and use, in the function that pays. Mended by reserving before the wait.
"""

import bateau
from support.bugs import Bug

BUG = Bug(seeds=80, says="sold twice", proof=60)


class Hall:
    def __init__(self):
        self.sold_to = []
        self.free = 1


async def pay():
    await bateau.yield_now()  # <- named


async def buy(hall, who):
    if hall.free:
        await pay()
        hall.free -= 1
        hall.sold_to.append(who)


async def reserve_then_pay(hall, who):
    if hall.free:
        hall.free -= 1
        try:
            await pay()
        except BaseException:
            hall.free += 1
            raise
        hall.sold_to.append(who)


async def scenario(buy):
    hall = Hall()

    async def customer(who, steps):
        for _ in range(steps):
            await bateau.yield_now()
        await buy(hall, who)

    async with bateau.scope() as scope:
        scope.spawn(customer, "ada", 0, name="ada")
        scope.spawn(customer, "grace", 3, name="grace")
    assert len(hall.sold_to) == 1, f"the seat was sold twice, to {hall.sold_to}"


async def buggy():
    await scenario(buy)


async def mended():
    await scenario(reserve_then_pay)
