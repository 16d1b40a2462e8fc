"""A clock that goes backwards: a duration measured by the wall clock is negative.

Modelled on Cloudflare's DNS outage at the leap second of New Year 2017, where a negative duration reached a random-number function. The story must name the line that gets the
negative weight. Mended by the monotonic clock.
"""

import time

import bateau
from bateau import sim
from support.bugs import Bug

BUG = Bug(seeds=100, says="answered after -", options={"faults": sim.Faults(clock_jump=0.2, clock_jump_by=1.0)})


async def resolver(clock):
    for _ in range(10):
        began = clock()
        await bateau.time.sleep(0.3)  # asks an upstream server
        took = clock() - began
        assert took > 0, f"an upstream server answered after {took:.3f} s"  # <- named


async def scenario(world, clock):
    await world.host("resolver").start(resolver, clock)


async def buggy(world: sim.World):
    await scenario(world, time.time)


async def mended(world: sim.World):
    await scenario(world, time.monotonic)
