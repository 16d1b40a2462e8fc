"""A sync function in the middle that calls back into async code."""

import bateau

RUNTIMES = ("native",)


def sandwich():
    bateau.block_on(bateau.time.sleep, 0.01)  # <- found


async def main():
    sandwich()
