"""Eager asyncio tasks (Python 3.12): their first step runs in the middle of the step of the task that makes them.

Made by a task factory on the loop, or directly, as aiohttp makes them. In that step the current task is the eager one, for
bateau as for asyncio, and afterwards it is the maker's again.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

import bateau
from support.entries import on_asyncio_family, on_native

LONG = 30.0  # seconds nobody waits out

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")


def _factory(loop, coro, *, eager_start=None, **options):
    """asyncio's; uvloop passes on an argument that the one of 3.13.0 to 3.13.2 does not know."""
    return asyncio.eager_task_factory(loop, coro, **options)


@pytest.fixture(params=["factory", "direct"])
def eagerly(request):
    """Makes an eager task of a coroutine."""

    def make(coro: Any) -> asyncio.Task[Any]:
        loop = asyncio.get_running_loop()
        if request.param == "direct":
            return asyncio.Task(coro, loop=loop, eager_start=True)
        loop.set_task_factory(_factory if type(loop).__module__.startswith("uvloop") else asyncio.eager_task_factory)
        return asyncio.create_task(coro)

    return make


@on_asyncio_family
def test_each_is_the_current_task_of_its_own_code(entry, eagerly):
    async def main():
        async def child():
            seen.append((asyncio.current_task(), bateau.current_task()))
            await bateau.yield_now()
            seen.append((asyncio.current_task(), bateau.current_task()))

        seen = []
        me = asyncio.current_task(), bateau.current_task()
        task = eagerly(child())
        assert (asyncio.current_task(), bateau.current_task()) == me
        await task
        assert (asyncio.current_task(), bateau.current_task()) == me
        assert seen[0] == seen[1]
        assert seen[0][0] is task
        assert seen[0][1] is not me[1]

    entry.run(main)


@on_asyncio_family
def test_one_that_need_not_wait_is_done_at_once(entry, eagerly):
    async def main():
        async def child():
            async with bateau.sync.Lock():
                return 1

        task = eagerly(child())
        assert task.done()
        assert await task == 1

    entry.run(main)


@on_asyncio_family
def test_operations_scopes_and_timeouts_inside(entry, eagerly):
    async def main():
        async def child():
            await bateau.time.sleep(0.001)
            async with bateau.scope() as scope:
                ours = scope.spawn(bateau.time.sleep, 0.001)
            ours.outcome().unwrap()
            with bateau.move_on_after(0.001) as block:
                await bateau.time.sleep(LONG)
            assert block.cancelled_caught
            async with lock:
                return await asyncio.sleep(0.001, "done")

        lock = bateau.sync.Lock()
        async with lock:  # held by the maker: the child is another owner
            first = eagerly(child())
            await bateau.time.sleep(0.01)
        assert await asyncio.gather(first, eagerly(child())) == ["done", "done"]
        async with bateau.scope() as scope:

            async def ours():
                return await eagerly(child())

            tasks = [scope.spawn(ours) for _ in range(3)]
        assert [task.outcome().unwrap() for task in tasks] == ["done"] * 3

    entry.run(main)


@on_asyncio_family
def test_the_makers_scope_cancels_what_it_awaits(entry, eagerly):
    async def main():
        async def child():
            await bateau.time.sleep(LONG)

        with bateau.move_on_after(0.01) as block:
            await eagerly(child())
        assert block.cancelled_caught
        task = eagerly(child())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ExceptionGroup, match="unhandled errors"):
            async with asyncio.TaskGroup() as group:
                group.create_task(child())
                group.create_task(_fail())
                await bateau.time.sleep(LONG)
        assert asyncio.current_task().cancelling() == 0
        await bateau.yield_now()

    async def _fail():
        raise LookupError("at once")

    entry.run(main)


@on_asyncio_family
@pytest.mark.parametrize("wait", ["ours", "future", "gather"])
def test_an_eager_task_cancels_its_maker_in_the_middle_of_its_step(entry, eagerly, wait):
    async def main():
        me = asyncio.current_task()

        async def child():
            me.cancel("from within")

        eagerly(child())
        with pytest.raises(asyncio.CancelledError):
            if wait == "ours":
                await bateau.time.sleep(LONG)
            elif wait == "future":
                await asyncio.get_running_loop().create_future()
            else:
                await asyncio.gather(asyncio.sleep(LONG), asyncio.sleep(LONG))
        me.uncancel()
        await bateau.time.sleep(0.001)
        await asyncio.sleep(0.001)

    entry.run(main)


@on_native
def test_blocking_after_one_was_made(entry, eagerly):
    async def main():
        async def child():
            await bateau.time.sleep(0.001)
            return "done"

        task = eagerly(child())
        assert bateau.block_on(child()) == "done"
        assert bateau.current_task() is me
        assert await task == "done"

        first = eagerly(child())
        asyncio.current_task().cancel("before the wait")
        with pytest.raises(asyncio.CancelledError, match="before the wait"):
            await first
        asyncio.current_task().uncancel()

    async def outer():
        nonlocal me
        me = bateau.current_task()
        with pytest.warns(bateau.HazardWarning, match="nested_block_on"):
            await main()

    me = None
    entry.run(outer)
