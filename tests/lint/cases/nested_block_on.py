"""Programs that are started by tasks of programs."""

import asyncio

import pytest
import trio

import bateau
from bateau import block_on


async def work(): ...


async def starts():
    asyncio.run(work())  # error: nested_block_on
    trio.run(work)  # error: nested_block_on
    bateau.run(work)  # error: nested_block_on
    block_on(work())  # error: nested_block_on
    asyncio.get_event_loop().run_until_complete(work())  # error: nested_block_on


async def fine():
    await work()
    await bateau.thread.run(trio.run, work)
    await asyncio.to_thread(lambda: asyncio.run(work()))
    with pytest.raises(RuntimeError):
        asyncio.run(work())

    def on_a_thread():
        asyncio.run(work())

    await bateau.thread.run(on_a_thread)


def main():
    asyncio.run(work())
