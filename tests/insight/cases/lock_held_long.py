"""A lock that somebody keeps, of which it was said that nobody keeps it for long."""

import bateau
from support.hazards import until_found


async def keeps(lock):
    async with lock:
        await until_found("lock_held_long")


async def wants(lock):
    async with lock:  # <- found
        pass


async def main():
    lock = bateau.sync.Lock(name="db", patience=0.02)
    async with bateau.scope() as scope:
        scope.spawn(keeps, lock)
        while not lock.locked():
            await bateau.yield_now()
        scope.spawn(wants, lock)
