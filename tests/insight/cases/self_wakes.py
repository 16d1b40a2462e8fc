"""A task that polls."""

import bateau
from support.hazards import until_found

WATCH = {"self_wakes": 0.2}


async def polls(flag):
    while not flag.is_set():
        await bateau.yield_now()  # <- found


async def main():
    flag = bateau.sync.Event()
    async with bateau.scope() as scope:
        scope.spawn(polls, flag)
        await until_found("self_wakes")
        flag.set()
