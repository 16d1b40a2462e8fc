"""S37: a handler puts follow-up work into the queue that only itself serves, in a server that goes on otherwise."""

import bateau
from support.hazards import until_found

WATCH = {"deadlock": 0.05}


async def handler(tx, rx):
    async for number in rx:
        for follow_up in range(number):
            await tx.send(follow_up)  # <- found


async def beside():
    while True:
        await bateau.time.sleep(0.01)


async def main():
    async with bateau.scope() as scope:
        tx, rx = bateau.channel.channel(2, name="C")
        await tx.send(5)
        scope.spawn(handler, tx, rx)
        scope.spawn(beside, background=True)
        del tx, rx
        await until_found("deadlock")
        scope.cancel()
