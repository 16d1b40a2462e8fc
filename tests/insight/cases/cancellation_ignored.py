"""A shield without an end."""

import bateau
from support.hazards import until_found

WATCH = {"cancellation_ignored": 0.03}


async def holds_on(event):
    with bateau.shield():
        await event.wait()  # <- found


async def main():
    event = bateau.sync.Event()
    async with bateau.scope() as scope:
        task = scope.spawn(holds_on, event)
        await bateau.time.sleep(0.01)
        task.cancel()
        await until_found("cancellation_ignored")
        event.set()
