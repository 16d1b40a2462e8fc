"""A task runs a program of its own."""

import bateau

RUNTIME = "native"


async def main():
    bateau.block_on(bateau.time.sleep, 0.01)  # error: nested_block_on
    await bateau.yield_now()
