"""A retry storm: a short hiccup makes everybody retry at once, the retries keep the server busy, and it never recovers.

Modelled on "Metastable Failures in Distributed Systems" (Bronson and others, 2021). The server works through requests whose clients
have given up. The story must name the line that counts the attempts. Mended by a growing pause between attempts.
"""

import random

import bateau
from support.bugs import Bug

BUG = Bug(seeds=2, says="attempts")

CLIENTS, PATIENCE, WORK = 10, 1.0, 0.3


class Server:
    """Serves one request after the other, also those that nobody waits for any more: it can't know."""

    def __init__(self):
        self.queue = bateau.sync.Semaphore(1)
        self.attempts = 0

    async def serve(self):
        self.attempts += 1
        with bateau.shield():
            async with self.queue:
                await bateau.time.sleep(WORK)


async def at_once(attempt):
    return 0.0


async def ever_later(attempt):
    return random.uniform(0.5, 1) * 2**attempt


async def scenario(pause):
    server = Server()

    async def client(scope):
        for attempt in range(1000):
            served = scope.spawn(server.serve)
            with bateau.move_on_after(PATIENCE):
                await served
                return
            assert server.attempts < 20 * CLIENTS, f"{server.attempts} attempts of {CLIENTS} clients"  # <- named
            await bateau.time.sleep(await pause(attempt))

    async with bateau.scope() as scope:
        for number in range(CLIENTS):
            scope.spawn(client, scope, name=f"client {number}")


async def buggy():
    await scenario(lambda attempt: at_once(attempt))


async def mended():
    await scenario(lambda attempt: ever_later(attempt))
