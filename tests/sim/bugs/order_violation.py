"""Order violation: a task uses what another one sets up, in the belief that it is always slower.

Modelled on the order violations of "Learning from Mistakes" (Lu and others, 2008), a third of the concurrency bugs they studied in
Mozilla, Apache and MySQL: a thread that uses its own handle before the creator has stored it. The story must name the use. Mended by waiting for it.
"""

import bateau
from support.bugs import Bug

BUG = Bug(seeds=100, error="AttributeError", says="'NoneType'", proof=20)


class Component:
    def __init__(self):
        self.decoder = None
        self.ready = bateau.sync.Event()


async def set_up(component):
    await bateau.yield_now()
    component.decoder = bytes
    component.ready.set()


async def read(component):
    for _ in range(4):
        await bateau.yield_now()  # waits for bytes; that is surely long enough
    return component.decoder.fromhex("00ff")  # <- named


async def read_when_ready(component):
    await component.ready.wait()
    return await read(component)


async def scenario(read):
    component = Component()
    async with bateau.scope() as scope:
        reader = scope.spawn(read, component, name="reader")
        scope.spawn(set_up, component, name="maker")
    assert reader.outcome().unwrap() == b"\x00\xff"


async def buggy():
    await scenario(read)


async def mended():
    await scenario(read_when_ready)
