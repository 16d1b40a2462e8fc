"""A task that polls."""

import bateau
from support.hazards import until_found

WATCH = {"self_wakes": 0.2}


async def polls(flag):
    # On one line: on the native kernel it is seen in the middle of a step, at any of those that it goes through.
    # fmt: off
    while not flag.is_set(): await bateau.yield_now()  # noqa: E701  # <- found
    # fmt: on


async def main():
    flag = bateau.sync.Event()
    async with bateau.scope() as scope:
        scope.spawn(polls, flag)
        await until_found("self_wakes")
        flag.set()
