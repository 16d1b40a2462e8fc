"""Intervals: no drift, a policy for what was missed, an end on stop."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

import bateau
from bateau.time import interval


def test_ticks_stand_on_the_grid(entry):
    async def main():
        ticks = []
        async for tick in interval(0.005):
            ticks.append((tick, bateau.now()))
            if tick.index == 5:
                break
        first = ticks[0][0]
        for n, (tick, at) in enumerate(ticks):
            assert tick.index == n
            assert math.isclose(tick.due, first.due + n * 0.005, abs_tol=1e-9)
            assert at >= tick.due - 1e-6
            assert 0 <= tick.lateness < 5

    entry.run(main)


def test_the_first_tick_comes_at_once_or_at_start(entry):
    async def main():
        before = bateau.now()
        ticks = interval(100)
        with bateau.fail_after(5):
            tick = await anext(ticks)
        assert tick.due >= before
        start = bateau.now() + 0.02
        tick = await anext(interval(100, start=start))
        assert tick.due == start
        assert bateau.now() >= start - 1e-6

    entry.run(main)


def test_bursts_catch_up(entry):
    async def main():
        start = bateau.now() - 0.5
        ticks = interval(0.1, start=start)
        got = [await anext(ticks) for _ in range(5)]
        assert [tick.index for tick in got] == [0, 1, 2, 3, 4]
        assert got[0].lateness >= 0.5
        assert all(math.isclose(b.due - a.due, 0.1) for a, b in pairwise(got))

    entry.run(main)


def test_skipping_goes_on_with_the_grid(entry):
    async def main():
        start = bateau.now() - 0.25
        ticks = interval(0.1, missed="skip", start=start)
        first = await anext(ticks)
        second = await anext(ticks)
        assert first.index == 0
        assert second.index >= 3
        assert math.isclose(second.due, start + second.index * 0.1)
        assert second.due > first.due + first.lateness

    entry.run(main)


def test_delaying_counts_anew_from_the_late_tick(entry):
    async def main():
        start = bateau.now() - 0.25
        ticks = interval(0.02, missed="delay", start=start)
        first = await anext(ticks)
        after = bateau.now()
        second = await anext(ticks)
        assert (first.index, second.index) == (0, 1)
        assert second.due >= start + 0.25 + 0.02 - 1e-6
        assert second.due <= after + 0.02

    entry.run(main)


@pytest.mark.law(5)
def test_a_cancelled_wait_keeps_its_tick(entry):
    async def main():
        ticks = interval(0.01)
        got: list[int] = []
        cancelled = 0
        while len(got) < 8:
            with bateau.move_on_after(0.001) as limit:
                got.append((await anext(ticks)).index)
            cancelled += limit.cancelled_caught
        assert cancelled
        return got

    assert entry.run(main) == list(range(8))


@pytest.mark.law(6)
def test_iteration_ends_when_the_scope_is_asked_to_stop(entry):
    async def main():
        ended: list[str] = []

        async def ticker():
            async for _ in interval(100):
                pass
            ended.append("iteration")

        async def late():
            while not bateau.stopping():
                await bateau.yield_now()
            assert [tick async for tick in interval(0.001)] == []
            ended.append("late")

        async def single():
            ticks = interval(100)
            await ticks.tick()
            with pytest.raises(bateau.Stopped):
                await ticks.tick()
            ended.append("single")

        async with bateau.scope() as scope:
            tasks = [scope.spawn(fn) for fn in (ticker, late, single)]
            while tasks[0].waiting is None or tasks[2].waiting is None:
                await bateau.yield_now()
            scope.stop()
        return sorted(ended)

    assert entry.run(main) == ["iteration", "late", "single"]


def test_reset(entry):
    async def main():
        ticks = interval(0.05)
        await anext(ticks)
        await bateau.time.sleep(0.02)
        before = bateau.now()
        ticks.reset()
        tick = await anext(ticks)
        assert tick.index == 1
        assert bateau.now() - before >= 0.05 - 1e-6

        async def wait():
            return await anext(ticks)

        slow = interval(100)
        await anext(slow)
        ticks, slow.period = slow, 0.01
        async with bateau.scope() as scope:
            task = scope.spawn(wait)
            while task.waiting is None:
                await bateau.yield_now()
            slow.reset()
            with bateau.fail_after(5):
                assert (await task).index == 1

    entry.run(main)


@pytest.mark.law(15)
def test_one_task_at_a_time(entry):
    async def main():
        ticks = interval(100)
        await anext(ticks)

        async def wait():
            await anext(ticks)

        async with bateau.scope() as scope:
            task = scope.spawn(wait, name="first")
            while task.waiting is None:
                await bateau.yield_now()
            with pytest.raises(bateau.Busy, match="task 'first' waits for the next tick"):
                await anext(ticks)
            task.cancel()

    entry.run(main)


def test_wrong_arguments():
    for wrong in (0, -1, math.inf, float("nan")):
        with pytest.raises(ValueError, match="period must be"):
            interval(wrong)
    with pytest.raises(TypeError, match="period"):
        interval(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'burst', 'skip' or 'delay'"):
        interval(1, missed="never")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="start must be a time"):
        interval(1, start="now")  # type: ignore[arg-type]


def test_reprs(entry):
    async def main():
        ticks = interval(2.5)
        assert repr(ticks) == "<interval of 2.5 s, next tick 0>"
        assert repr(await anext(ticks)) == "<tick 0, 0.000000 s late>"

    entry.run(main)
