"""A producer dies without closing the channel: its error is put aside, and the consumer waits for ever.

Modelled on goroutine leaks in "Understanding Real-World Concurrency Bugs in Go" (Tu and others, 2019): a receive whose sender has
returned early. The explanation must name the receive, and whoever still holds a sender. Mended by closing in any case.
"""

import random

import bateau
from bateau.channel import channel
from support.bugs import Bug

BUG = Bug(seeds=20, error="Deadlock", says="rows")


async def parse(line):
    await bateau.yield_now()
    return int(line)


async def produce(rows, lines, errors):
    try:
        for line in lines:
            await rows.send(await parse(line))
    except ValueError as error:
        errors.append(error)
        return
    rows.close()


async def produce_and_close(rows, lines, errors):
    with rows:
        try:
            for line in lines:
                await rows.send(await parse(line))
        except ValueError as error:
            errors.append(error)


async def scenario(produce):
    rows, inbox = channel[int](1, name="rows")
    lines, errors, found = [random.choice(["1", "2", "3", "4", "none"]) for _ in range(3)], [], []
    async with bateau.scope() as scope:
        scope.spawn(produce, rows, lines, errors, name="producer")
        async for row in inbox:  # <- named
            found.append(row)
    assert errors or len(found) == len(lines)


async def buggy():
    await scenario(produce)


async def mended():
    await scenario(produce_and_close)
