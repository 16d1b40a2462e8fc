"""A server that has used up its descriptors."""

import os
import resource

import bateau
from support.hazards import until_found


async def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    listener = await bateau.net.listen_tcp("127.0.0.1", 0)  # <- found
    async with listener, bateau.scope() as scope:
        clients = [await bateau.net.connect_tcp(*listener.getsockname()) for _ in range(2)]
        await (await listener.accept()).aclose()  # whatever is opened once is open now
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free(), hard))
        try:
            accepting = scope.spawn(accept, listener)
            await until_found("accept_starved")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await accepting
        for client in clients:
            client.close()


async def accept(listener):
    (await listener.accept()).close()


def first_free():
    """The lowest number that is free: as the limit, it leaves no room for one more."""
    with open(os.devnull) as file:
        return file.fileno()
