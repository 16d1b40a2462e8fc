"""Cancelled between a receive and a send: the item in hand is dropped with the task.

Modelled on the guide to cancel safety in tokio's `select!` and on "Barbara gets burned by select" (Rust's async vision document).
Found by cancelling the forwarder at each of its suspensions, one per run. The story must name the send that was cut off. Mended:
the send is shielded, for as long as it may take.
"""

import contextlib

import bateau
from bateau import sim
from bateau.channel import channel
from support.bugs import Bug

ITEMS = 4


def everywhere(scenario, **options):
    return sim.cancel_everywhere(scenario, scope="forwarder", **options)


BUG = Bug(seeds=40, says="was lost", explore=everywhere)


async def forward(inbox, outbox):
    async for item in inbox:
        await outbox.send(item)  # <- named


async def forward_whole(inbox, outbox):
    async for item in inbox:
        async with bateau.cleanup(5):
            await outbox.send(item)


async def scenario(forward):
    source, inbox = channel[int](ITEMS)
    outbox, sink = channel[int](1)
    for item in range(ITEMS):
        await source.send(item)
    found = []

    async def consume():
        async for item in sink:
            await bateau.yield_now()
            found.append(item)

    source.close()
    async with bateau.scope() as scope:
        scope.spawn(consume)
        forwarder = scope.spawn(forward, inbox, outbox, name="forwarder")
        with contextlib.suppress(bateau.TaskCancelled):
            await forwarder
        outbox.close()
    left = []
    while len(inbox):
        left.append(inbox.try_recv())
    assert found + left == list(range(ITEMS)), f"an item was lost: {found} came through, {left} are left"


async def buggy():
    await scenario(forward)


async def mended():
    await scenario(forward_whole)
