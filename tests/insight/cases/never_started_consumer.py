"""The task that should receive is never spawned."""

import bateau
from support.hazards import until_found

WATCH = {"never_started_consumer": 0.05}


async def sends(tx):
    for number in range(10):
        await tx.send(number)  # <- found


async def main():
    async with bateau.scope() as scope:
        tx, rx = bateau.channel.channel(2, name="jobs")
        scope.spawn(sends, tx)
        await until_found("never_started_consumer")
        scope.cancel()
        rx.close()
