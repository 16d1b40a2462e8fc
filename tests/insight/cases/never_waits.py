"""A pipeline of numbers that are all there."""

import bateau

RUNTIMES = ("native",)  # told once for each line


async def main():
    await bateau.iter(range(20_000)).map(lambda number: number + 1).collect()  # <- found
