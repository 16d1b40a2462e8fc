"""F04, F06: two handlers, each of which sends to the other before it receives, in a server that still accepts."""

import bateau
from support.hazards import until_found

WATCH = {"deadlock": 0.05}


async def handler(mine, other):
    async for _ in mine:
        for number in range(3):
            await other.send(number)  # <- found


async def accepting(listener):
    async for connection in listener:
        await connection.aclose()


async def main():
    async with bateau.scope() as scope:
        listener = scope.own(await bateau.net.listen_tcp("127.0.0.1", 0))
        scope.spawn(accepting, listener, background=True)
        a_tx, a_rx = bateau.channel.channel(2, name="A", flavour="local")
        b_tx, b_rx = bateau.channel.channel(2, name="B", flavour="local")
        await a_tx.send(0)
        await b_tx.send(0)
        scope.spawn(handler, a_rx, b_tx)
        scope.spawn(handler, b_rx, a_tx)
        del a_tx, a_rx, b_tx, b_rx
        await until_found("deadlock")
        scope.cancel()
