"""An unfair lock: whoever has it takes it again before the one who was woken gets its turn, which may go on for ever.

Modelled on the starvation of `pthread_mutex` waiters and of Python's first GIL ("Understanding the Python GIL", D. Beazley, 2010), and
on WebKit's WTF::Lock, which became eventually fair because of it. The story must name the wait of the one who starves. Mended by handing the lock over.
"""

import bateau
from support.bugs import Bug

BUG = Bug(seeds=40, says="starves", proof=60)


class BargingLock:
    """Woken waiters have to compete with whoever asks just now."""

    def __init__(self):
        self.held = False
        self.waiting = 0
        self.freed = bateau.sync.Notify()

    async def __aenter__(self):
        self.waiting += 1
        while self.held:
            await self.freed.wait()  # <- named
        self.waiting -= 1
        self.held = True

    async def __aexit__(self, *_):
        self.held = False
        self.freed.notify_one()


class FairLock(bateau.sync.Lock):
    @property
    def waiting(self):
        return self.statistics().tasks_waiting


async def scenario(lock):
    overtaken = 0

    async def greedy():
        nonlocal overtaken
        for _ in range(12):
            async with lock:
                overtaken += lock.waiting
                assert overtaken < 5, f"the modest task starves: it was overtaken {overtaken} times while it waited"
                await bateau.yield_now()

    async def modest():
        async with lock:
            pass

    async with bateau.scope() as scope:
        scope.spawn(greedy, name="greedy")
        scope.spawn(modest, name="modest")


async def buggy():
    await scenario(BargingLock())


async def mended():
    await scenario(FairLock())
