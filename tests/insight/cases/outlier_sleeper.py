"""Of nine workers on one channel each, one gets nothing."""

import bateau
from support.hazards import until_found

WATCH = {"outlier_sleeper": 0.3}


async def worker(event):
    while True:
        await event.wait()  # <- found
        event.clear()


async def main():
    async with bateau.scope() as scope:
        events = [bateau.sync.Event() for _ in range(10)]
        for event in events:
            scope.spawn(worker, event)
        end = bateau.now() + 10
        while not found() and bateau.now() < end:
            for event in events[1:]:
                event.set()
            await bateau.time.sleep(0.001)
        await until_found("outlier_sleeper")
        scope.cancel()


def found():
    from bateau import insight

    return insight.findings("outlier_sleeper")
