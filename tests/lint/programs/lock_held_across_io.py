"""A lock is held for as long as a process takes."""

import bateau
from support.hazards import until_found

RUNTIME = "native"
WATCH = {"lock_held_across_io": 0.05}


async def asks(lock: bateau.sync.Lock):
    async with lock:
        await bateau.subprocess.run(["sleep", "60"])  # error: lock_held_across_io


async def wants(lock: bateau.sync.Lock):
    async with lock:
        pass


async def main():
    lock = bateau.sync.Lock(name="db")
    async with bateau.scope() as scope:
        scope.spawn(asks, lock)
        await bateau.yield_now()
        scope.spawn(wants, lock)
        await until_found("lock_held_across_io")
        scope.cancel()
