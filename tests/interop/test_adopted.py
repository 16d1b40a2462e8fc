"""What bateau keeps for a foreign task that runs its code: nothing that outlives the task, nothing that grows with use."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref

import pytest

import bateau
from support.entries import on_asyncio_tasks, on_trio


class Freed:
    """Something a foreign task returns."""


async def use_bateau():
    with bateau.timeout(20):
        await bateau.yield_now()
    async with bateau.scope() as scope:
        scope.spawn(bateau.yield_now)


@pytest.fixture
def without_gc():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@on_asyncio_tasks
def test_a_foreign_asyncio_task_is_freed_at_its_end_without_the_collector(entry, without_gc):
    """A web server makes one task per request: a cycle in each would fill the memory from one collection to the next."""
    results = []

    async def request():
        await use_bateau()
        made = Freed()
        results.append(weakref.ref(made))
        return made

    async def main():
        for _ in range(20):
            await asyncio.create_task(request())
        await bateau.yield_now()
        return sum(result() is not None for result in results)

    assert entry.run(main) == 0


@on_trio
def test_a_foreign_trio_task_is_freed_at_its_end(entry):
    import trio

    tasks = []

    async def request():
        await use_bateau()
        tasks.append(weakref.ref(trio.lowlevel.current_task()))

    async def main():
        for _ in range(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(request)
        gc.collect()  # trio's own tasks are cycles
        return sum(task() is not None for task in tasks)

    assert entry.run(main) <= 1


@on_asyncio_tasks
def test_taking_a_lock_again_and_again_leaves_nothing_on_the_foreign_task(entry):
    async def main():
        async def user():
            lock = bateau.sync.Lock()
            async with lock:
                pass
            before = len(asyncio.current_task()._callbacks or ())
            for _ in range(50):
                async with lock:
                    pass
            return len(asyncio.current_task()._callbacks or ()) - before

        return await asyncio.create_task(user())

    assert entry.run(main) == 0


@on_asyncio_tasks
@pytest.mark.parametrize(
    "eager",
    [
        False,
        pytest.param(
            True, marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
        ),
    ],
)
def test_a_lock_held_by_a_foreign_task_that_ends_is_a_lock_without_owner(entry, eager):
    """Whoever waits for it is told, instead of waiting for ever."""

    async def main():
        lock = bateau.sync.Lock()

        async def forgetful():
            await lock.acquire()

        if eager:
            task = asyncio.Task(forgetful(), loop=asyncio.get_running_loop(), eager_start=True)
        else:
            task = asyncio.create_task(forgetful())
        await task
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="ended"):
            await lock.acquire()

    entry.run(main)


@on_asyncio_tasks
def test_a_loop_is_freed_when_it_is_over(entry):
    """A process that runs one program after the other (a test suite, a worker of jobs) keeps none of their loops."""

    async def main():
        await use_bateau()
        return weakref.ref(asyncio.get_running_loop())

    loops = [entry.run(main) for _ in range(3)]
    gc.collect()
    assert [loop() for loop in loops] == [None, None, None]


def test_a_loop_that_carries_nothing_is_freed_too():
    class Slotted:
        __slots__ = ("__weakref__", "inner")

        def __init__(self):
            self.inner = asyncio.SelectorEventLoop()

        def __getattr__(self, name):
            return getattr(self.inner, name)

    from bateau.runtimes.asyncio_host import host_of

    loop = Slotted()
    host = host_of(loop)
    assert host is host_of(loop)
    assert host.now() > 0
    loop.close()
    gone = weakref.ref(loop)
    del loop, host
    gc.collect()
    assert gone() is None


@on_trio
def test_a_cancellation_caused_by_an_error_keeps_no_trio_task(entry):
    """The record of why leads over the error to its frames, and to the task: nothing global may hold it."""
    from bateau.runtimes.trio_helpers import records

    async def fail():
        raise LookupError("why")

    async def main():
        async with bateau.scope() as scope:
            scope.spawn(fail)
            scope.spawn(bateau.time.sleep_forever)
            await bateau.time.sleep_forever()

    before = set(records.values())
    with pytest.raises(ExceptionGroup):
        entry.run(main)
    gc.collect()
    assert set(records.values()) <= before
