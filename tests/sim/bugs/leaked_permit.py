"""A permit that an error leaves taken: after as many errors as there are permits, everybody waits for ever.

Modelled on the connection-pool leaks of many database and HTTP clients, where a failed checkout keeps its slot (aiohttp's connector
and SQLAlchemy's queue pool have both had some). The explanation must name the acquisition that waits, and that the permits' takers have ended. Mended by `async with`.
"""

import random

import bateau
from support.bugs import Bug

BUG = Bug(seeds=40, error="Deadlock", says="connections")


async def query(number, failing):
    await bateau.yield_now()
    if number in failing:
        raise ConnectionResetError("the database went away")


async def client(connections, number, failing):
    await connections.acquire()  # <- named
    await query(number, failing)
    connections.release()


async def careful_client(connections, number, failing):
    async with connections:
        await query(number, failing)


async def scenario(client):
    connections = bateau.sync.Semaphore(2, name="connections")
    failing = random.sample(range(8), random.choice([0, 1, 2]))

    async def one(number):
        try:
            await client(connections, number, failing)
        except ConnectionResetError:
            await bateau.yield_now()  # answers "try again later"

    async with bateau.scope() as scope:
        for number in range(8):
            scope.spawn(one, number, name=f"client {number}")


async def buggy():
    await scenario(client)


async def mended():
    await scenario(careful_client)
