"""Check-then-act in a cache: all who miss at the same moment compute the same value.

Modelled on the thundering herds of memcache (Nishtala and others, "Scaling Memcache at Facebook", 2013, which answers them by leases)
and on the "dog pile" issues of many cache libraries. The story must name the wait between the look and the store. Mended by one
computation per key.
"""

import bateau
from support.bugs import Bug

BUG = Bug(seeds=80, says="computed 2 times", proof=300)


class Cache:
    def __init__(self):
        self.values = {}
        self.computed = 0

    async def compute(self, key):
        self.computed += 1
        await bateau.yield_now()  # <- named
        return key.upper()

    async def get(self, key):
        if key not in self.values:
            self.values[key] = await self.compute(key)
        return self.values[key]


class CarefulCache(Cache):
    def __init__(self, scope):
        super().__init__()
        self.get = bateau.sync.OnceMap(scope, self.compute).get


async def scenario(new_cache):
    async def request(steps):
        for _ in range(steps):
            await bateau.yield_now()
        assert await cache.get("front page") == "FRONT PAGE"

    async with bateau.scope() as scope:
        cache = new_cache(scope)
        scope.spawn(request, 0, name="first")
        scope.spawn(request, 3, name="second")
    assert cache.computed == 1, f"computed {cache.computed} times"


async def buggy():
    await scenario(lambda scope: Cache())


async def mended():
    await scenario(CarefulCache)
