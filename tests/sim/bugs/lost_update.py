"""Lost update: two deposits read the balance, wait, and write what they have read plus their own.

Modelled on the gift-card race of a coffee chain's web shop (E. Homakov, 2015), where two transfers at once doubled the money; the
textbooks' first anomaly of concurrency control. The story must name the wait between the read and the write.
Mended by a lock around both.
"""

import bateau
from support.bugs import Bug

BUG = Bug(seeds=80, says="a deposit was lost", proof=200)


class Account:
    def __init__(self):
        self.balance = 0
        self.lock = bateau.sync.Lock()


async def arrive(steps):
    for _ in range(steps):
        await bateau.yield_now()


async def deposit(account, amount, steps):
    await arrive(steps)
    before = account.balance
    await bateau.yield_now()  # <- named
    account.balance = before + amount


async def deposit_locked(account, amount, steps):
    await arrive(steps)
    async with account.lock:
        before = account.balance
        await bateau.yield_now()
        account.balance = before + amount


async def scenario(deposit):
    account = Account()
    async with bateau.scope() as scope:
        scope.spawn(deposit, account, 10, 1, name="ten")
        scope.spawn(deposit, account, 20, 4, name="twenty")
    assert account.balance == 30, f"a deposit was lost: {account.balance}"


async def buggy():
    await scenario(deposit)


async def mended():
    await scenario(deposit_locked)
