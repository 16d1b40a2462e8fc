"""ABA: a compare-and-swap sees the old top of a free list again, although the list beneath it is another.

Modelled on the free-list example of IBM's System/370 Principles of Operation and on Treiber, "Systems Programming: Coping with
Parallelism", 1986; Michael and Scott (1996) count pointers because of it. The story must name the wait between the load and the swap. Mended by a
counter beside the pointer.
"""

import bateau
from support.bugs import Bug

BUG = Bug(seeds=400, strategy="surw", says="handed out twice", shrinks_to=8, proof=300)


class Stack:
    """A stack of block numbers, as linked nodes; `top` is replaced by compare-and-swap only."""

    def __init__(self, blocks):
        self.below = {}
        self.top = None
        self.version = 0
        for block in reversed(blocks):
            self.below[block] = self.top
            self.top = block

    def swap(self, seen, new):
        if self.seen() != seen:
            return False
        self.top = new
        self.version += 1
        return True

    def seen(self):
        return self.top

    async def pop(self):
        while True:
            seen, block = self.seen(), self.top
            if block is None:
                return None
            following = self.below[block]
            await bateau.yield_now()  # <- named
            if self.swap(seen, following):
                return block

    async def push(self, block):
        while True:
            seen = self.seen()
            self.below[block] = self.top
            await bateau.yield_now()
            if self.swap(seen, block):
                return


class CountingStack(Stack):
    def seen(self):
        return self.top, self.version


async def scenario(kind):
    free = kind(["a", "b", "c"])
    used = []

    async def allocate():
        block = await free.pop()
        if block is not None:
            assert block not in used, f"block {block} was handed out twice"
            used.append(block)

    async def allocate_two_and_return_the_first():
        await bateau.yield_now()
        await bateau.yield_now()
        first, second = await free.pop(), await free.pop()
        used.append(second)
        await free.push(first)
        await allocate()

    async with bateau.scope() as scope:
        scope.spawn(allocate, name="one")
        scope.spawn(allocate_two_and_return_the_first, name="other")
    await allocate()


async def buggy():
    await scenario(Stack)


async def mended():
    await scenario(CountingStack)
