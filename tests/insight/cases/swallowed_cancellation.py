"""A task that takes its cancellation for an error."""

import bateau


async def stubborn():
    try:
        await bateau.time.sleep_forever()
    except BaseException:  # <- found
        pass
    await bateau.time.sleep(1)


async def main():
    async with bateau.scope() as scope:
        task = scope.spawn(stubborn)
        await bateau.yield_now()
        task.cancel()
