"""Locks for threads that are held while a task is suspended."""

import asyncio
import threading
from dataclasses import dataclass, field
from threading import RLock as Recursive

import bateau

LOCK = threading.Lock()
alias = LOCK


async def at_module_level():
    with LOCK:  # error: thread_lock_across_await
        await asyncio.sleep(1)


async def by_an_alias():
    with alias:  # error: thread_lock_across_await
        async with bateau.timeout(1):
            pass


async def local_one():
    lock = Recursive()
    with open("x") as file, lock:  # error: thread_lock_across_await
        async for line in bateau.io.stdin:
            print(line, file=file)


async def given(lock: threading.Lock, other: "threading.Condition | None" = None):
    with lock:  # error: thread_lock_across_await
        if lock is not None:
            await asyncio.sleep(1)
    with other:  # error: thread_lock_across_await
        await asyncio.sleep(1)


@dataclass
class Record:
    guard: threading.Lock = field(default_factory=threading.Lock)

    async def update(self):
        with self.guard:  # error: thread_lock_across_await
            await asyncio.sleep(1)


class Store:
    def __init__(self):
        self._lock = threading.Lock()
        self._async = asyncio.Lock()
        self._either = None

    async def put(self):
        self._lock.acquire()  # error: thread_lock_across_await
        await asyncio.sleep(1)
        self._lock.release()

    async def put_safely(self):
        self._lock.acquire()  # error: thread_lock_across_await
        try:
            await asyncio.sleep(1)
        finally:
            self._lock.release()

    async def fine(self):
        with self._lock:
            count = 1
        async with self._async:
            await asyncio.sleep(count)
        self._lock.acquire()
        self._lock.release()
        await asyncio.sleep(1)

    async def released_before(self):
        with self._lock:
            self._lock.release()
            await asyncio.sleep(1)
            self._lock.acquire()

    async def unknown(self, lock):
        with lock:
            await asyncio.sleep(1)
        with self._either:
            await asyncio.sleep(1)

    async def only_defined_inside(self):
        with self._lock:

            async def later():
                await asyncio.sleep(1)

            call = lambda: asyncio.sleep(1)
        return later, call

    def sync(self):
        with self._lock:
            return asyncio.run(self.fine())
