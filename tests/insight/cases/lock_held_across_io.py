"""A lock is held while the peer is waited for."""

import bateau
from support.hazards import until_found

WATCH = {"lock_held_across_io": 0.05}


async def asks(lock, stream):
    async with lock:
        await stream.read(1)  # <- found


async def wants(lock):
    async with lock:
        pass


async def main():
    lock = bateau.sync.Lock(name="db")
    async with await bateau.net.listen_tcp("127.0.0.1", 0) as listener:
        async with await bateau.net.connect_tcp(*listener.addresses[0][:2]) as stream, await listener.accept():
            async with bateau.scope() as scope:
                scope.spawn(asks, lock, stream)
                await bateau.yield_now()
                scope.spawn(wants, lock)
                await until_found("lock_held_across_io")
                scope.cancel()
