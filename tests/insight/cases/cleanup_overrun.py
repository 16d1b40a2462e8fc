"""A cleanup that needs longer than it has."""

import bateau


async def main():
    async with bateau.cleanup(0.01):  # <- found
        await bateau.time.sleep(10)
