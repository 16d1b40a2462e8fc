"""share and tee: who gets what, within which memory, and what a consumer that leaves or is cancelled does to the others."""

from __future__ import annotations

import gc
import random
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest

import bateau
from bateau.iter import sharing
from support.entries import on_native
from support.waiting import until


async def numbers(count: int) -> AsyncIterator[int]:
    for i in range(count):
        await bateau.yield_now()
        yield i


async def taken(it: Any, seed: int | None = None) -> list[Any]:
    rng = random.Random(seed)
    got = []
    async for item in it:
        got.append(item)
        if seed is not None:
            for _ in range(rng.randrange(5)):
                await bateau.yield_now()
    return got


SOURCES = {
    "range": lambda n: bateau.iter(range(n)),
    "generator": lambda n: bateau.iter(numbers(n)),
    "buffered": lambda n: bateau.iter(numbers(n)).map(lambda x: x).buffered(3),
}


@pytest.mark.parametrize("source", SOURCES)
def test_share_gives_each_item_to_one(entry, source):
    async def main() -> None:
        shared = SOURCES[source](40).share()
        async with bateau.scope() as scope:
            tasks = [scope.spawn(taken, shared, seed) for seed in range(4)]
        parts = [await task for task in tasks]
        assert sorted(item for part in parts for item in part) == list(range(40))
        for part in parts:
            assert part == sorted(part)
            assert part

    entry.run(main)


def test_share_serves_first_come_first_served(entry):
    async def main() -> None:
        send, recv = bateau.channel.channel(10)
        shared = bateau.iter(recv).share()
        order = []

        async def one(name: int) -> None:
            order.append((name, await shared.next()))

        async with bateau.scope() as scope:
            for name in range(4):
                scope.spawn(one, name)
                for _ in range(3):
                    await bateau.yield_now()
            for item in range(4):
                await send.send(item)
        assert sorted(order) == [(0, 0), (1, 1), (2, 2), (3, 3)]
        send.close()
        assert await shared.next(default="end") == "end"
        with pytest.raises(StopAsyncIteration):
            await shared.next()

    entry.run(main)


@pytest.mark.law(9)
@pytest.mark.parametrize("source", SOURCES)
def test_a_cancelled_driver_is_replaced(entry, source):
    async def main() -> None:
        shared = SOURCES[source](30).share()
        got: list[int] = []

        async def hasty(seed: int) -> None:
            rng = random.Random(seed)
            over = False
            while not over:
                with bateau.move_on_after(rng.choice([0, 0.001])):
                    item = await shared.next(default=None)
                    if item is None:
                        over = True
                    else:
                        got.append(item)
                await bateau.yield_now()

        async with bateau.scope() as scope:
            for seed in range(3):
                scope.spawn(hasty, seed)
        assert sorted(got) == list(range(30))

    entry.run(main)


def test_a_failed_item_goes_to_one_consumer(entry):
    async def work(item: int) -> int:
        await bateau.yield_now()
        if item == 5:
            raise KeyError(item)
        return item

    async def main() -> None:
        shared = bateau.iter(range(10)).map(work).share()
        failed = []

        async def consume() -> list[int]:
            got = []
            while True:
                try:
                    item = await shared.next(default=None)
                except KeyError:
                    failed.append(5)
                    continue
                if item is None:
                    return got
                got.append(item)

        async with bateau.scope() as scope:
            tasks = [scope.spawn(consume) for _ in range(3)]
        assert failed == [5]
        assert sorted([item for task in tasks for item in await task]) == [0, 1, 2, 3, 4, 6, 7, 8, 9]

    entry.run(main)


def test_the_end_of_a_shared_chain(entry):
    closed = []

    async def source() -> AsyncIterator[int]:
        try:
            for i in range(100):
                yield i
        finally:
            await bateau.yield_now()
            closed.append(True)

    async def main() -> None:
        async with bateau.iter(source()).share() as shared:
            assert await shared.next() == 0
            async for item in shared:
                assert item == 1
                break
            assert not closed
        assert closed == [True]
        assert await shared.next(default=None) is None
        await shared.aclose()
        shared = bateau.iter(source()).share()
        assert await shared.next() == 0
        del shared
        await bateau.yield_now()
        assert closed == [True, True]

    entry.run(main)


def test_aclose_delivers_what_is_being_waited_for(entry):
    async def main() -> None:
        send, recv = bateau.channel.channel(1)
        shared = bateau.iter(recv).share()
        async with bateau.scope() as scope:
            first = scope.spawn(shared.next, None)
            second = scope.spawn(shared.next, None)
            await until(lambda: first.waiting and second.waiting)
            closing = scope.spawn(shared.aclose)
            await until(lambda: closing.waiting)
            await send.send("item")
        assert {await first, await second} == {"item", None}  # whoever came first
        send.close()

    entry.run(main)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("source", SOURCES)
def test_tee_gives_all_items_to_all(entry, source, n):
    async def main() -> None:
        parts = SOURCES[source](30).tee(n, limit=4)
        assert len(parts) == n
        async with bateau.scope() as scope:
            tasks = [scope.spawn(taken, part, seed) for seed, part in enumerate(parts)]
        for task in tasks:
            assert await task == list(range(30))

    entry.run(main)


@pytest.mark.law(14)
@pytest.mark.parametrize("limit", [1, 3])
def test_the_fastest_waits_for_the_slowest(entry, limit):
    claimed = 0

    def source() -> Any:
        nonlocal claimed
        for i in range(20):
            claimed += 1
            yield i

    async def main() -> None:
        fast, slow = bateau.iter(source()).tee(2, limit=limit)
        got = []

        async def run() -> None:
            async for item in fast:
                got.append(item)

        async with bateau.scope() as scope:
            task = scope.spawn(run)
            for done in range(15):
                await until(lambda done=done: len(got) == done + limit and task.waiting)
                for _ in range(5):
                    await bateau.yield_now()
                assert claimed == done + limit
                assert task.waiting is not None
                assert "slowest consumer" in task.waiting.describe()
                assert await slow.next() == done
            await slow.aclose()  # which holds nobody up any more
        assert got == list(range(20))

    entry.run(main)


def test_unbounded_must_be_written_out(entry):
    async def main() -> None:
        first, second = bateau.iter(range(1000)).tee(unbounded=True)
        assert await first.collect() == list(range(1000))
        assert await second.collect() == list(range(1000))

    entry.run(main)


@on_native
def test_one_task_that_uses_up_one_part_first_is_a_deadlock(entry, monkeypatch):
    monkeypatch.setattr(sharing, "PATIENCE", 0.01)

    async def main() -> None:
        first, second = bateau.iter(range(1000)).tee(2, limit=5)
        await first.collect()
        await second.collect()

    with pytest.warns(bateau.HazardWarning, match="tee_alone"), pytest.raises(bateau.Deadlock) as caught:
        entry.run(main)
    assert "slowest consumer" in str(caught.value)
    assert "a task of its own" in str(caught.value)
    assert "held by" not in str(caught.value)


PARTS: dict[str, Any] = {
    "tee": lambda: bateau.iter(range(1000)).tee(2, limit=5),
    "partition": lambda: bateau.iter(range(1000)).partition(lambda x: x % 2, limit=5),
}


@pytest.mark.parametrize("begun", ["not", "by this task", "by a task that has ended"])
@pytest.mark.parametrize("parts", PARTS)
def test_one_task_that_uses_up_one_part_first_is_told_so(entry, monkeypatch, parts, begun):
    monkeypatch.setattr(sharing, "PATIENCE", 0.01)

    async def main() -> None:
        first, second = PARTS[parts]()
        if begun == "by this task":
            await second.next()
        elif begun == "by a task that has ended":
            async with bateau.scope() as scope:
                scope.spawn(second.next)
        with pytest.warns(bateau.HazardWarning, match=r"tee_alone.*unbounded=True") as told:
            async with bateau.scope() as scope:
                with bateau.move_on_after(None) as limit:
                    scope.spawn(until_told, told, limit)
                    await first.collect()
        assert limit.cancelled_caught

    async def until_told(told: Any, limit: bateau.CancelScope) -> None:
        await until(lambda: len(told))
        limit.cancel()

    entry.run(main)


@pytest.mark.parametrize("how", ["in turn", "two tasks", "slow by what was fetched", "late"])
def test_nobody_is_told_who_does_it_well(entry, monkeypatch, how):
    monkeypatch.setattr(sharing, "PATIENCE", 0.15 if how == "slow by what was fetched" else 10)

    async def main() -> None:
        first, second = bateau.iter(range(60)).tee(2, limit=5)
        if how == "in turn":
            for item in range(60):
                assert await first.next() == item
                if item % 5 == 4:
                    assert [await second.next() for _ in range(5)] == list(range(item - 4, item + 1))
            return

        async def slow() -> None:
            if how == "late":
                await bateau.time.sleep(0.01)
            else:
                await second.next()
            async for item in second:
                if how == "slow by what was fetched" and item in (6, 11):
                    await bateau.time.sleep(0.2)

        if how != "two tasks":
            assert await second.next() == 0  # by this task, once
        async with bateau.scope() as scope:
            scope.spawn(slow)
            assert await first.collect() == list(range(60))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        entry.run(main)


@pytest.mark.parametrize("how", ["dropped", "closed", "left", "cycle", "never driven"])
def test_a_part_that_is_gone_holds_nobody_up(entry, how):
    async def main() -> None:
        first, second = bateau.iter(numbers(50)).tee(2, limit=2)
        if how != "never driven":
            assert await second.next() == 0
        if how == "closed":
            await second.aclose()
        elif how == "left":
            async for _ in second:
                break
        elif how == "cycle":
            loop: list[Any] = [second]
            loop.append(loop)
            del loop
        del second
        gc.collect()
        assert await first.collect() == list(range(50))

    entry.run(main)


def test_the_last_part_ends_the_chain(entry):
    closed = []

    async def source() -> AsyncIterator[int]:
        try:
            for i in range(100):
                yield i
        finally:
            await bateau.yield_now()
            closed.append(True)

    async def main() -> None:
        first, second = bateau.iter(source()).tee(2)
        assert await first.next() == 0
        assert await second.next() == 0
        await first.aclose()
        await bateau.yield_now()
        assert not closed
        await second.aclose()
        await bateau.yield_now()
        assert closed == [True]

    entry.run(main)


@pytest.mark.law(9)
def test_a_cancelled_part_loses_nothing(entry):
    async def main() -> None:
        parts = bateau.iter(numbers(25)).tee(3, limit=3)

        async def hasty(it: Any, seed: int) -> list[int]:
            rng = random.Random(seed)
            got: list[int] = []
            while True:
                with bateau.move_on_after(rng.choice([0, 0.001, 1])):
                    item = await it.next(default=None)
                    if item is None:
                        return got
                    got.append(item)
                await bateau.yield_now()

        async with bateau.scope() as scope:
            tasks = [scope.spawn(hasty, part, seed) for seed, part in enumerate(parts)]
        for task in tasks:
            assert await task == list(range(25))

    entry.run(main)
