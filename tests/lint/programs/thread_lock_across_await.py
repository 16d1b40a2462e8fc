"""A lock for threads is held while its task waits."""

import threading

import bateau
from support.hazards import until_found

RUNTIME = "native"
lock = threading.Lock()


async def worker(event):
    with lock:  # error: thread_lock_across_await
        await event.wait()


async def main():
    event = bateau.sync.Event()
    async with bateau.scope() as scope:
        scope.spawn(worker, event)
        await until_found("thread_lock_across_await")
        event.set()
