"""A listener that nobody closes."""

import gc

import bateau


async def main():
    await bateau.net.listen_tcp("127.0.0.1", 0)  # <- found
    gc.collect()
