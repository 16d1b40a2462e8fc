"""Paid twice: the connection is reset after the charge and before the answer, and the client tries again.

Modelled on why payment services take an idempotency key (Stripe, "Designing robust and predictable APIs with idempotency", 2017). The story must name the line that finds two
charges. Mended by a key that the client makes once.
"""

import bateau
from bateau import net, sim
from support.bugs import Bug

BUG = Bug(seeds=120, says="charged 2 times", options={"faults": sim.Faults(reset=0.1)})

PORT = 6002


async def serve(charges):
    async def answer(stream):
        key = await stream.read(100)
        if key not in charges:
            charges.append(key)
        await bateau.time.sleep(0.01)
        await stream.write(b"thank you")

    async with await net.listen_tcp("0.0.0.0", PORT) as listener:
        await net.serve(answer, listener, on_error=lambda *_: None)


async def pay(key_of):
    for attempt in range(100):
        try:
            async with await net.connect_tcp("server", PORT) as stream:
                await stream.write(key_of(attempt))
                if await stream.read(100):
                    return
        except OSError:
            await bateau.time.sleep(0.1)


async def scenario(world, key_of):
    charges = []
    world.host("server").start(serve, charges)
    await bateau.time.sleep(0.1)
    await pay(key_of)
    assert len(charges) == 1, f"the customer was charged {len(charges)} times"  # <- named


async def buggy(world: sim.World):
    await scenario(world, lambda attempt: b"payment %d" % attempt)


async def mended(world: sim.World):
    await scenario(world, lambda attempt: b"payment of order 77")
