"""Iterating over a collection, with a wait in the body, while another task changes it.

Modelled on `RuntimeError: dictionary changed size during iteration` in the broadcast loops of chat servers; the websockets
library's documentation warns of it in its broadcast chapter. The story must name the loop. Mended by iterating over a copy.
"""

import bateau
from support.bugs import Bug

BUG = Bug(seeds=100, error="RuntimeError", says="changed size during iteration", proof=300)


async def broadcast(clients, message):
    for name in clients:  # <- named
        await bateau.yield_now()  # sends
        clients[name].append(message)


async def broadcast_to_a_copy(clients, message):
    for name in list(clients):
        await bateau.yield_now()
        if name in clients:
            clients[name].append(message)


async def scenario(broadcast):
    clients = {"ada": [], "grace": []}

    async def joins_late():
        for _ in range(5):
            await bateau.yield_now()
        clients["niklaus"] = []

    async with bateau.scope() as scope:
        scope.spawn(broadcast, clients, "hello", name="broadcaster")
        scope.spawn(joins_late, name="niklaus")
    assert clients["ada"] == ["hello"]


async def buggy():
    await scenario(broadcast)


async def mended():
    await scenario(broadcast_to_a_copy)
