"""An unfair lock: whoever has it takes it again before the one who was woken gets its turn, which may go on for ever.

Modelled on the starvation of `pthread_mutex` waiters and of Python's first GIL ("Understanding the Python GIL", D. Beazley, 2010), and
on WebKit's WTF::Lock, which became eventually fair because of it. The story must name the wait of the one who starves. Mended by handing the lock over.
"""

import bateau
from support.bugs import Bug

BUG = Bug(seeds=20, says="starves")


class BargingLock:
    """Woken waiters have to compete with whoever asks just now."""

    def __init__(self):
        self.held = False
        self.freed = bateau.sync.Notify()

    async def __aenter__(self):
        while self.held:
            await self.freed.wait()  # <- named
        self.held = True

    async def __aexit__(self, *_):
        self.held = False
        self.freed.notify_one()


async def scenario(lock):
    turns = {"greedy": 0, "modest": 0}

    async def work(name, many):
        for _ in range(many):
            async with lock:
                await bateau.yield_now()
                turns[name] += 1

    async with bateau.scope() as scope:
        scope.spawn(work, "greedy", 30, name="greedy")
        modest = scope.spawn(work, "modest", 1, name="modest")
        while not modest.done:
            await bateau.yield_now()
            assert turns["greedy"] < 20, f"the modest task starves: {turns}"


async def buggy():
    await scenario(BargingLock())


async def mended():
    await scenario(bateau.sync.Lock())
