"""AB-BA over two channels: each of two peers sends all its items before it reads, over channels that hold fewer.

Modelled on the deadlock of two bounded channels in an actor pair (Rust's async vision document, "Barbara wants async insights") and
of a pipe pair as the manual of Python's `subprocess` warns of it. The explanation must name both sends and that the only reader of
each is the one who waits on the other. Mended by reading and sending at the same time.
"""

import bateau
from bateau.channel import channel
from support.bugs import Bug

ITEMS = 6

BUG = Bug(seeds=1, error="Deadlock", says="to the left")


async def send_all(outbox):
    for item in range(ITEMS):
        await outbox.send(item)  # <- named


async def read_all(inbox):
    return [await inbox.recv() for _ in range(ITEMS)]


async def first_one_then_the_other(outbox, inbox):
    await send_all(outbox)
    return await read_all(inbox)


async def both_at_once(outbox, inbox):
    _, found = await bateau.join(send_all(outbox), read_all(inbox))
    return found


async def scenario(peer):
    to_right, from_left = channel[int](2, name="to the right")
    to_left, from_right = channel[int](2, name="to the left")
    async with bateau.scope() as scope:
        left = scope.spawn(peer, to_right, from_right, name="left")
        right = scope.spawn(peer, to_left, from_left, name="right")
    assert left.outcome().unwrap() == right.outcome().unwrap() == list(range(ITEMS))


async def buggy():
    await scenario(first_one_then_the_other)


async def mended():
    await scenario(both_at_once)
