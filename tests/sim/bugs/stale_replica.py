"""Read your writes: what was written to the primary is read from a replica that has not heard of it yet.

Modelled on "Session Guarantees for Weakly Consistent Replicated Data" (Terry and others, 1994) and on the lag of read replicas in web
frameworks with database routers. The story must name the wait of the replica. Mended: the reader says how new the answer must be.
"""

import random

import bateau
from bateau.channel import channel
from support.bugs import Bug

BUG = Bug(seeds=20, says="has not seen")


class Database:
    def __init__(self):
        self.log, self.changes = channel[dict](unbounded=True)
        self.primary = {"name": "", "version": 0}
        self.replica = dict(self.primary)
        self.caught_up = bateau.sync.Condition()

    async def replicate(self):
        async for change in self.changes:
            await bateau.time.sleep(random.choice([0.001, 0.1]))  # <- named
            async with self.caught_up:
                self.replica = change
                self.caught_up.notify_all()

    async def write(self, name):
        await bateau.time.sleep(0.001)
        self.primary = {"name": name, "version": self.primary["version"] + 1}
        await self.log.send(dict(self.primary))
        return self.primary["version"]

    async def read(self, at_least=0):
        await bateau.time.sleep(0.01)
        async with self.caught_up:
            await self.caught_up.wait_for(lambda: self.replica["version"] >= at_least)
            return self.replica["name"]


async def rename(database):
    await database.write("Ada")
    return await database.read()


async def rename_and_see(database):
    version = await database.write("Ada")
    return await database.read(version)


async def scenario(rename):
    database = Database()
    async with bateau.scope() as scope:
        scope.spawn(database.replicate, name="replica", background=True)
        seen = await rename(database)
        assert seen == "Ada", f"the writer has not seen its own write, but {seen!r}"


async def buggy():
    await scenario(rename)


async def mended():
    await scenario(rename_and_see)
