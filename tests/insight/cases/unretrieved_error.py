"""A thread fails, and nobody ever asks it."""

import gc

import bateau


async def main():
    tx, rx = bateau.channel.oneshot()  # <- found
    tx.fail(KeyError("lost"))
    del tx, rx
    gc.collect()
    await bateau.yield_now()
