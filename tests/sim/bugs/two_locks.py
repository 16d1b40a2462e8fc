"""AB-BA: a transfer takes the lock of the source, then that of the target; another goes the other way round.

Modelled on the textbook's circular wait (Coffman, Elphick and Shoshani, "System Deadlocks", 1971); lockdep exists in the Linux kernel
for it. The explanation must name both acquisitions that wait, and who holds what. Mended by one order for all.
"""

import bateau
from support.bugs import Bug

BUG = Bug(seeds=80, strategy="pct", error="Deadlock", says="account 1", proof=60)


class Account:
    def __init__(self, number):
        self.number = number
        self.balance = 100
        self.lock = bateau.sync.Lock(name=f"account {number}")


async def transfer(source, target, steps):
    for _ in range(steps):
        await bateau.yield_now()
    async with source.lock:
        await bateau.yield_now()  # looks at the balance
        async with target.lock:  # <- named
            source.balance -= 1
            target.balance += 1


async def transfer_in_order(source, target, steps):
    for _ in range(steps):
        await bateau.yield_now()
    first, second = sorted((source, target), key=lambda account: account.number)
    async with first.lock:
        await bateau.yield_now()
        async with second.lock:
            source.balance -= 1
            target.balance += 1


async def scenario(transfer):
    one, two = Account(1), Account(2)
    async with bateau.scope() as scope:
        scope.spawn(transfer, one, two, 0, name="there")
        scope.spawn(transfer, two, one, 3, name="back")
    assert one.balance + two.balance == 200


async def buggy():
    await scenario(transfer)


async def mended():
    await scenario(transfer_in_order)
