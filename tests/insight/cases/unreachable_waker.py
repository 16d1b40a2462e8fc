"""A task waits on an event that nobody else has."""

import bateau
from support.hazards import until_found

WATCH = {"unreachable_waker": 0.05, "deep": True}


async def waits():
    await bateau.sync.Event().wait()  # <- found


async def main():
    async with bateau.scope() as scope:
        scope.spawn(waits)
        await until_found("unreachable_waker")
        scope.cancel()
