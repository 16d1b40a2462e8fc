"""A lazily made singleton is made twice, and somebody keeps the one that nobody closes.

Modelled on the double-checked-locking literature ("The Double-Checked Locking is Broken Declaration", 2000), here over an await
instead of a memory model. The story must name the wait inside the initialisation. Mended by `Once`.
"""

import bateau
from support.bugs import Bug

BUG = Bug(seeds=80, says="2 connections were made", proof=60)


class Service:
    def __init__(self):
        self.connection = None
        self.made = 0

    async def connect(self):
        self.made += 1
        await bateau.yield_now()  # <- named
        return object()

    async def get(self):
        if self.connection is None:
            self.connection = await self.connect()
        return self.connection


class CarefulService(Service):
    def __init__(self):
        super().__init__()
        self.once = bateau.sync.Once()

    async def get(self):
        return await self.once.run(self.connect)


async def scenario(service):
    async def use(steps):
        for _ in range(steps):
            await bateau.yield_now()
        return await service.get()

    async with bateau.scope() as scope:
        scope.spawn(use, 0, name="first")
        scope.spawn(use, 3, name="second")
    assert service.made == 1, f"{service.made} connections were made"


async def buggy():
    await scenario(Service())


async def mended():
    await scenario(CarefulService())
