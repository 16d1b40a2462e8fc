"""Coroutines and operations that are made and dropped."""

import asyncio
import functools
from contextlib import asynccontextmanager

import pytest
import trio

import bateau
from bateau import checkpoint, time


async def save(row): ...


async def rows():
    yield 1


class Store:
    def __init__(self, queue: asyncio.Queue):
        self.queue = queue
        self.lock = bateau.sync.Lock()

    async def close(self): ...

    @staticmethod
    async def ping(): ...

    def flush(self): ...

    async def use(self):
        self.close()  # error: never_awaited
        self.ping()  # error: never_awaited
        self.queue.put(1)  # error: never_awaited
        self.lock.acquire()  # error: never_awaited
        self.flush()
        self.queue.put_nowait(1)
        super().close()


class Cache(Store):
    async def stop(self):
        self.close()  # error: never_awaited
        self.flush()

    async def is_open(self):
        return True

    def state(self):
        return "open" if self.is_open() else "closed"  # error: never_awaited


async def main():
    save(1)  # error: never_awaited
    rows()  # error: never_awaited
    asyncio.sleep(1)  # error: never_awaited
    trio.sleep(1)  # error: never_awaited
    time.sleep(1)  # error: never_awaited
    checkpoint()  # error: never_awaited
    Store(asyncio.Queue()).close()  # error: never_awaited
    if not save(1):  # error: never_awaited
        pass
    while save(2):  # error: never_awaited
        pass
    lambda: save(1)
    _ = save(1)
    await save(1)
    asyncio.create_task(save(1)).add_done_callback(print)
    with pytest.raises(TypeError):
        save()


def sync():
    save(1)  # error: never_awaited


def shadowed(save):
    save(1)


@asynccontextmanager
async def opened():
    yield


@bateau.main
async def program():
    opened()


@functools.cache
async def cached(): ...


def both():
    program()
    cached()


@functools.partial(print)
class Syncified:
    async def close(self): ...


def wrapped(client: Syncified):
    client.close()


try:
    from fast import send
except ImportError:

    async def send(): ...


def unsure():
    send()
