"""Exact bounds and order of everything that has several items under way at once (laws 12, 13, 16)."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

import bateau
from support.waiting import until


class Gauge:
    """Counts what was claimed from a source and not yet given to the consumer, and what runs at the moment."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.claimed = 0
        self.taken = 0
        self.running = 0
        self.most_claimed = 0
        self.most_running = 0

    def source(self) -> Any:
        for i in range(self.count):
            self.claimed += 1
            self.most_claimed = max(self.most_claimed, self.claimed - self.taken)
            yield i

    async def async_source(self) -> AsyncIterator[int]:
        for i in self.source():
            await bateau.yield_now()
            yield i

    async def work(self, item: int, turns: int = 1) -> int:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            for _ in range(turns):
                await bateau.yield_now()
            return item
        finally:
            self.running -= 1

    def take(self, item: Any) -> Any:
        self.taken += 1
        return item


KINDS = ["buffered", "buffered_unordered", "buffered_in", "prefetch"]


def built(it: Any, kind: str, n: int, work: Any, scope: Any = None) -> Any:
    if kind == "prefetch":
        return it.prefetch(n)
    it = it.map(work)
    return it.buffered_in(n, scope) if kind == "buffered_in" else getattr(it, kind)(n)


@pytest.mark.law(14)
@pytest.mark.parametrize("n", [1, 2, 5, 30])
@pytest.mark.parametrize("kind", KINDS)
def test_never_more_than_n_are_claimed_and_not_taken(entry, kind, n):
    async def main() -> None:
        for source in ("source", "async_source"):
            gauge = Gauge(40)
            rng = random.Random(n)

            async def work(item: int, gauge: Gauge = gauge, rng: random.Random = rng) -> int:
                return await gauge.work(item, rng.randrange(4))

            async with bateau.scope() as scope:
                got = []
                async for item in built(bateau.iter(getattr(gauge, source)()), kind, n, work, scope):
                    gauge.take(item)
                    got.append(item)
                    for _ in range(rng.randrange(3)):
                        await bateau.yield_now()
            assert sorted(got) == list(range(40))
            if kind != "buffered_unordered":
                assert got == sorted(got)
            assert gauge.most_claimed <= n
            assert gauge.most_running <= n

    entry.run(main)


@pytest.mark.law(14)
@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_is_reached_while_the_body_runs(entry, kind):
    async def main() -> None:
        gauge = Gauge(100)
        async with bateau.scope() as scope:
            it = built(bateau.iter(gauge.source()), kind, 7, gauge.work, scope)
            async for item in it:
                gauge.take(item)
                await until(lambda: gauge.claimed - gauge.taken == 7)
                for _ in range(20):
                    await bateau.yield_now()
                assert gauge.claimed - gauge.taken == 7  # and not one more
                if item >= 3:
                    break

    entry.run(main)


def test_nothing_is_claimed_before_the_first_item_is_asked_for(entry):
    async def main() -> None:
        gauge = Gauge(10)
        it = bateau.iter(gauge.source()).map(gauge.work).buffered(3)
        for _ in range(5):
            await bateau.yield_now()
        assert gauge.claimed == 0
        assert await it.next() == 0
        await it.aclose()

    entry.run(main)


@pytest.mark.law(14)
@pytest.mark.parametrize("kind", ["collect", "for_each", "count"])
def test_one_call_that_takes_everything_keeps_the_bound(entry, kind):
    async def main() -> None:
        gauge = Gauge(300)
        it = bateau.iter(gauge.source()).map(lambda item: gauge.work(item, 20)).buffered(8)
        if kind == "collect":
            assert await it.collect() == list(range(300))
        elif kind == "for_each":
            got: list[int] = []
            await it.for_each(got.append)
            assert got == list(range(300))
        else:
            assert await it.count() == 300
        assert gauge.most_running == 8

    entry.run(main)


def test_functions_that_never_wait_need_one_task_or_two(entry):
    async def main() -> None:
        tasks = set()

        async def work(item: int) -> int:
            tasks.add(bateau.current_task())
            return item

        assert await bateau.iter(range(60)).map(work).buffered(64).collect() == list(range(60))
        assert len(tasks) <= 2
        tasks.clear()
        assert await bateau.iter(range(3000)).map(work).buffered(64).collect() == list(range(3000))
        assert len(tasks) <= 2

    entry.run(main)


@pytest.mark.law(13)
def test_functions_that_never_wait_let_others_run(entry):
    async def main() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await bateau.yield_now()
                turns += 1

        async def work(item: int) -> int:
            return item

        async with bateau.scope() as scope:
            scope.spawn(other, background=True)
            await bateau.iter(range(3000)).map(work).buffered(4000).collect()
            collected = turns
            async for _ in bateau.iter(range(3000)).map(work).buffered(4000):
                pass
            looped = turns - collected
        assert collected >= 10
        assert looped >= 10

    entry.run(main)


@pytest.mark.law(5)
def test_functions_that_never_wait_can_be_cancelled(entry):
    async def main() -> None:
        async def work(item: int) -> int:
            return item

        def endless() -> Any:
            i = 0
            while True:
                yield i
                i += 1

        with bateau.move_on_after(0.05) as limit:
            await bateau.iter(endless()).map(work).buffered(8).count()
        assert limit.cancelled_caught
        with bateau.move_on_after(0.05) as limit:
            await bateau.iter(endless()).map(work).buffered(8).for_each_concurrent(4, work)
        assert limit.cancelled_caught

    entry.run(main)


def test_for_each_concurrent(entry):
    async def main() -> None:
        gauge = Gauge(50)
        done: list[int] = []

        async def work(item: int) -> None:
            done.append(await gauge.work(item, item % 5))

        await bateau.iter(gauge.source()).for_each_concurrent(6, work)
        assert sorted(done) == list(range(50))
        assert gauge.most_running == 6
        sync: list[int] = []
        await bateau.iter(range(5)).for_each_concurrent(2, sync.append)
        assert sync == list(range(5))

    entry.run(main)


def test_filters_inside_buffered_hold_no_place(entry):
    async def main() -> None:
        async def even(item: int) -> bool:
            await bateau.yield_now()
            return item % 2 == 0

        for method in ("buffered", "buffered_unordered"):
            it = getattr(bateau.iter(range(101)).filter(even).map(lambda x: x * 10), method)(4)
            assert sorted(await it.collect()) == list(range(0, 1001, 20))
            it = getattr(bateau.iter(range(101)).filter(even), method)(4)
            assert sorted([item async for item in it]) == list(range(0, 101, 2))

    entry.run(main)


def test_buffered_in_buffered(entry):
    async def main() -> None:
        outer, inner = Gauge(30), Gauge(0)
        it = bateau.iter(outer.source()).map(outer.work).buffered(3).map(inner.work).buffered(5)
        assert [item async for item in it] == list(range(30))
        assert outer.most_running <= 3
        assert inner.most_running <= 5

    entry.run(main)


def test_the_work_of_several_items_overlaps_in_the_given_scope(entry):
    async def main() -> None:
        async with bateau.scope(name="mine") as scope:
            names: set[str] = set()

            async def work(item: int) -> int:
                task = bateau.current_task()
                assert task.scope is scope
                names.add(task.name)
                await bateau.yield_now()
                return item

            assert await bateau.iter(range(10)).map(work).buffered_in(3, scope).collect() == list(range(10))
            assert names == {f"buffered_in(3) worker {i}" for i in (1, 2, 3)}
            assert not scope.tasks

    entry.run(main)


@pytest.mark.law(16)
def test_what_is_waited_for_has_a_name(entry):
    async def main() -> None:
        never = bateau.sync.Event(name="never")

        async def work(item: int) -> int:
            await never.wait()
            return item

        async def consume() -> None:
            async for _ in bateau.iter([1, 2]).map(work).buffered(2):
                pass

        async with bateau.scope() as scope:
            task = scope.spawn(consume)
            await until(lambda: task.waiting is not None and "2 of 2 claimed" in task.waiting.describe())
            op = task.waiting
            assert op is not None
            assert "2 of 2 claimed" in op.resource.describe()
            satisfiers = list(op.resource.satisfiers())
            assert [t.name for t in satisfiers] == ["buffered(2) worker 1", "buffered(2) worker 2"]
            assert op in list(op.resource.waiters())
            task.cancel()

    entry.run(main)


def test_bad_input():
    it = bateau.iter([1]).map(str)
    for n in (0, -1):
        with pytest.raises(ValueError, match=r"\.buffered\(\) needs n of at least 1"):
            it.buffered(n)
    for wrong in ("3", 2.0, None, True):
        with pytest.raises(TypeError, match="whole number"):
            it.buffered(wrong)
    with pytest.raises(TypeError, match="nothing to do for several items at once"):
        bateau.iter([1]).buffered(3)
    with pytest.raises(TypeError, match="needs a scope"):
        bateau.iter([1]).map(str).buffered_in(3, None)
    with pytest.raises(ValueError, match="limit"):
        bateau.iter([1]).tee(2, limit=0)
