"""What type checkers infer of bateau.sync; checked by pyright and mypy, never run."""

from __future__ import annotations

from collections.abc import Hashable
from typing import assert_type

import bateau
from bateau import sync
from bateau.kernel.operation import Operation


async def locks(lock: sync.Lock, rwlock: sync.RWLock, semaphore: sync.Semaphore, limiter: sync.Limiter) -> None:
    assert_type(lock.acquire(), Operation[bool])
    assert_type(await lock.acquire(), bool)
    assert_type(lock.try_acquire(), bool)
    assert_type(await lock.ticket(), bool)
    assert_type(lock.statistics().tasks_waiting, int)
    async with lock:
        pass
    with lock.ticket() as ticket:
        assert_type(ticket, sync.Ticket)
    async with rwlock.read(), rwlock.write():
        pass
    assert_type(await rwlock.acquire_read(), bool)
    assert_type(rwlock.try_acquire_write(), bool)
    async with semaphore, limiter:
        assert_type(semaphore.value, int)
        assert_type(limiter.total_tokens, float)
    borrower: Hashable = ("any", "thing")
    assert_type(await limiter.acquire_on_behalf_of(borrower), bool)


async def signals(event: sync.Event, notify: sync.Notify, barrier: sync.Barrier, condition: sync.Condition) -> None:
    assert_type(await event.wait(), bool)
    assert_type(event.wait(), Operation[bool])
    assert_type(notify.wait(), Operation[None])
    assert_type(await barrier.wait(), int)
    async with condition:
        assert_type(await condition.wait(), bool)
        assert_type(await condition.wait_for(lambda: [1]), list[int])
    assert_type(sync.wait_in_thread(barrier.wait(), 1.5), int)


async def load(path: str, times: int) -> bytes:
    return path.encode() * times


async def length(key: str) -> int:
    return len(key)


async def values(scope: bateau.Scope) -> None:
    once = sync.Once[bytes]()
    assert_type(await once.run(load, "a", 1), bytes)
    assert_type(once.wait(), Operation[bytes])
    assert_type(once.get(), bytes)
    assert_type(once.get(None), bytes | None)

    cache = sync.OnceMap(scope, length)
    assert_type(cache, sync.OnceMap[str, int])
    assert_type(await cache.get("a"), int)
    assert_type(cache.peek("a"), int | None)
    assert_type(cache.peek("a", b""), int | bytes)

    cell = sync.Cell([1])
    assert_type(cell, sync.Cell[list[int]])
    with cell.borrow() as rows:
        assert_type(rows, list[int])
    with cell.borrow_mut() as ref:
        assert_type(ref.value, list[int])
        ref.value = [2]
    assert_type(cell.update(lambda rows: rows[:1]), list[int])
