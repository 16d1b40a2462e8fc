"""A task for every request, however many come."""

import bateau
from support.hazards import until_found

WATCH = {"task_explosion": 500}


async def request():
    await bateau.time.sleep_forever()


async def main():
    async with bateau.scope() as scope:
        for _ in range(600):
            scope.spawn(request)  # <- found
        await until_found("task_explosion")
        scope.cancel()
