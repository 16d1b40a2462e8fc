"""What the tests of channels share."""

from __future__ import annotations

import bateau


async def send_one(tx, item):
    await tx.send(item)


async def recv_one(rx):
    return await rx.recv()


async def collect(rx):
    return [item async for item in rx]


async def until(condition):
    """Let the others run until `condition()` is true; fail after five seconds."""
    with bateau.fail_after(5):
        while not condition():
            await bateau.yield_now()
