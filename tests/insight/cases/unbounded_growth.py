"""A channel without a bound, whose receiver is slower than its sender."""

import bateau
from support.hazards import until_found

WATCH = {"unbounded_growth": 100}


async def receives(rx):
    async for _ in rx:
        await bateau.time.sleep(0.001)


async def main():
    async with bateau.scope() as scope:
        tx, rx = bateau.channel.channel(unbounded=True, name="log")  # <- found
        scope.spawn(receives, rx)
        end = bateau.now() + 10
        while not found() and bateau.now() < end:
            for number in range(20):
                await tx.send(number)
            await bateau.time.sleep(0.001)
        await until_found("unbounded_growth")
        scope.cancel()
        while len(rx):
            rx.try_recv()


def found():
    from bateau import insight

    return insight.findings("unbounded_growth")
