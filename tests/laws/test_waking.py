"""Laws 10, 11 and 13: what timers and large trees cost, that a wake is neither lost nor doubled, and that every await lets others run."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import bateau
from bateau import yield_now
from support.entries import on_native


@pytest.mark.law(10)
@on_native
def test_no_timer_before_something_waits_and_none_after(entry: Any) -> None:
    async def main() -> None:
        engine: Any = bateau.current_task().host
        for _ in range(1000):
            with bateau.timeout(60):
                await bateau.checkpoint()
        assert engine.pending_timers() == []
        assert len(engine._timers) <= 130  # husks are swept

    entry.run(main)


@pytest.mark.law(10)
def test_cancelling_deep_and_wide_trees_is_iterative(entry: Any) -> None:
    async def main() -> int:
        async def nest(depth: int) -> None:
            async with bateau.scope() as scope:
                if depth:
                    scope.spawn(nest, depth - 1)
                await bateau.time.sleep_forever()

        async with bateau.scope() as scope:
            scope.spawn(nest, 1500)
            for _ in range(2000):
                scope.spawn(bateau.time.sleep_forever)
            for _ in range(5):
                await yield_now()
            await bateau.time.sleep(0.2)
            scope.cancel()
        return 1

    assert entry.run(main) == 1


@pytest.mark.law(10)
def test_cancelling_a_deep_tree_takes_time_in_proportion_to_it(entry: Any) -> None:
    """Counted in calls, which no busy machine changes: four times the depth is four times the work, not sixteen times."""

    def calls_for(depth: int) -> int:
        calls = 0

        def count(frame: Any, event: str, arg: Any) -> None:
            nonlocal calls
            calls += 1

        async def main() -> None:
            async def nest(left: int) -> None:
                async with bateau.scope() as scope:
                    if left:
                        scope.spawn(nest, left - 1)
                    else:
                        deepest.set()
                    await bateau.time.sleep_forever()

            deepest = bateau.sync.Event()
            with bateau.move_on_after(None) as outer:
                async with bateau.scope() as scope:
                    scope.spawn(nest, depth)
                    await deepest.wait()
                    sys.setprofile(count)
                    outer.cancel()
            sys.setprofile(None)

        try:
            entry.run(main)
        finally:
            sys.setprofile(None)
        return calls

    assert calls_for(320) < 6 * calls_for(80)


@pytest.mark.law(11)
def test_a_granted_wait_keeps_its_value_when_cancelled_before_its_step(entry: Any) -> None:
    async def main() -> list[str]:
        log: list[str] = []
        event = bateau.sync.Event()
        lock = bateau.sync.Lock()

        async def waiter(scope: bateau.CancelScope) -> None:
            with scope:
                await lock.acquire()
                log.append("acquired")
                try:
                    await yield_now()
                    log.append("unreachable")
                finally:
                    lock.release()
            event.set()

        scope = bateau.move_on_after(None)
        async with bateau.scope() as team:
            await lock.acquire()
            team.spawn(waiter, scope)
            await yield_now()
            await yield_now()
            lock.release()
            scope.cancel()
            await event.wait()
        assert not lock.locked()
        return log

    assert entry.run(main) == ["acquired"]


@pytest.mark.law(11)
@on_native
def test_wakes_are_never_doubled(entry: Any) -> None:
    async def main() -> None:
        steps = 0

        async def child() -> None:
            nonlocal steps
            task = bateau.current_task()
            task.host.wake(task)  # during a step: one more
            task.host.wake(task)
            await yield_now()
            steps += 1
            await bateau.time.sleep_forever()

        async with bateau.scope() as scope:
            task = scope.spawn(child)
            for _ in range(4):
                await yield_now()
            for _ in range(3):
                task.host.wake(task)  # spurious: it parks again
            await yield_now()
            assert steps == 1
            assert task.waiting is not None
            scope.cancel()
        task.host.wake(task)  # after the end: nothing

    entry.run(main)


@pytest.mark.law(13)
def test_public_awaits_yield_when_the_budget_is_used_up(entry: Any) -> None:
    async def main() -> int:
        event = bateau.sync.Event()
        event.set()
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await yield_now()
                turns += 1

        async with bateau.scope() as scope:
            scope.spawn(other, background=True)
            await yield_now()
            for _ in range(1000):
                await event.wait()  # never has to wait
        return turns

    turns = entry.run(main)
    assert 5 <= turns <= 40
