"""A lock for threads is held while its task waits."""

import threading

import bateau
from support.hazards import until_found

WATCH = {}


async def worker(lock, event):
    with lock:
        await event.wait()  # <- found


async def main():
    event = bateau.sync.Event()
    async with bateau.scope() as scope:
        scope.spawn(worker, threading.Lock(), event)
        await until_found("thread_lock_across_await")
        event.set()
