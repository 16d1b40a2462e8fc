"""A receiver that is slower than its senders."""

import bateau
from support.hazards import until_found

WATCH = {"channel_stayed_full": 0.1}


async def sends(tx):
    while True:
        await tx.send(b"x")  # <- found


async def receives(rx):
    async for _ in rx:
        await bateau.time.sleep(0.01)


async def main():
    async with bateau.scope() as scope:
        tx, rx = bateau.channel.channel(2, name="jobs")
        scope.spawn(sends, tx)
        scope.spawn(receives, rx)
        await until_found("channel_stayed_full")
        scope.cancel()
        rx.close()  # with what is still in it: nobody wants it
