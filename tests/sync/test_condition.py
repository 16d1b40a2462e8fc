"""Condition: the lock is given up to wait and taken again, whatever happens; no notification is lost."""

from __future__ import annotations

from typing import Any

import pytest

import bateau
from bateau import sync
from support.entries import Entry, on_asyncio_tasks
from support.waiting import until

flavours = pytest.mark.parametrize("flavour", ["local", "shared"])


@flavours
def test_notify_in_order(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        condition = sync.Condition(flavour=flavour)
        order: list[int] = []

        async def waits(number: int) -> None:
            async with condition:
                assert await condition.wait() is True
                assert condition.lock.holders() == (bateau.current_task(),)
                order.append(number)

        async with bateau.scope() as scope:
            for number in range(4):
                scope.spawn(waits, number)
                await until(lambda number=number: condition.statistics().tasks_waiting == number + 1)
            async with condition:
                condition.notify()
                assert order == []  # it can't go on before the lock is released
            await until(lambda: order == [0])
            async with condition:
                condition.notify(2)
            await until(lambda: order == [0, 1, 2])
            async with condition:
                condition.notify_all()
        assert order == [0, 1, 2, 3]
        assert not condition.locked()

    entry.run(main)


@flavours
def test_wait_for(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        condition = sync.Condition(flavour=flavour)
        items: list[str] = []

        async def consume() -> str:
            async with condition:
                assert await condition.wait_for(lambda: len(items)) == 1
                return items.pop()

        async with bateau.scope() as scope:
            task = scope.spawn(consume)
            await until(lambda: condition.statistics().tasks_waiting)
            async with condition:
                condition.notify()  # nothing to find yet
            await until(lambda: condition.statistics().tasks_waiting)
            async with condition:
                items.append("item")
                condition.notify()
            assert await task == "item"
            async with condition:
                assert await condition.wait_for(lambda: "at once") == "at once"

    entry.run(main)


@flavours
@pytest.mark.parametrize("busy", [False, True])
def test_cancelled_while_waiting_it_has_the_lock_again(entry: Entry, flavour: Any, busy: bool) -> None:
    async def main() -> None:
        condition = sync.Condition(flavour=flavour)
        log: list[str] = []

        async def waits() -> None:
            async with condition:
                try:
                    await condition.wait()
                finally:
                    assert condition.lock.holders() == (bateau.current_task(),)
                    log.append("has the lock")

        async with bateau.scope() as scope:
            task = scope.spawn(waits)
            await until(lambda: condition.statistics().tasks_waiting)
            if busy:
                async with condition:
                    task.cancel("enough")
                    await until(lambda: condition.lock.statistics().tasks_waiting == 1)
                    assert log == []
            else:
                task.cancel("enough")
            with pytest.raises(bateau.TaskCancelled, match="enough"):
                await task
        assert log == ["has the lock"]
        assert not condition.locked()
        assert condition.statistics().tasks_waiting == 0

    entry.run(main)


@flavours
def test_notified_then_cancelled_uses_its_notification(entry: Entry, flavour: Any) -> None:
    """A notified wait returns; the cancellation comes at the next wait. So the notification was not lost."""

    async def main() -> None:
        condition = sync.Condition(flavour=flavour)
        log: list[str] = []

        async def waits() -> None:
            async with condition:
                await condition.wait()
                log.append("notified")
                await bateau.yield_now()
                log.append("not reached")

        async with bateau.scope() as scope:
            task = scope.spawn(waits)
            await until(lambda: condition.statistics().tasks_waiting)
            async with condition:
                condition.notify()
                task.cancel("late")
        assert log == ["notified"]
        assert not condition.locked()

    entry.run(main)


@on_asyncio_tasks
@flavours
def test_a_native_cancel_while_it_takes_the_lock_again(entry: Entry, flavour: Any) -> None:
    """The lock is taken all the same, the notification counts, and the cancellation comes at the next wait."""
    import asyncio

    async def main() -> None:
        condition = sync.Condition(flavour=flavour)
        log: list[str] = []

        async def waits() -> None:
            async with condition:
                await condition.wait()
                log.append("notified")
                try:
                    await bateau.checkpoint()
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    log.append("cancelled")
                    raise

        task = asyncio.get_running_loop().create_task(waits())
        await until(lambda: condition.statistics().tasks_waiting)
        async with condition:
            condition.notify()
            await until(lambda: condition.lock.statistics().tasks_waiting)
            task.cancel()
            await until(lambda: condition.lock.statistics().tasks_waiting)
            await bateau.yield_now()
            assert log == []
        with pytest.raises(asyncio.CancelledError):
            await task
        assert log == ["notified", "cancelled"]
        assert not condition.locked()

    entry.run(main)


@flavours
def test_misuse(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        condition = sync.Condition(name="queue", flavour=flavour)
        with pytest.raises(sync.OwnershipError, match="must hold the lock to wait; write `async with condition:`"):
            await condition.wait()
        for call in (condition.notify, condition.notify_all):
            with pytest.raises(sync.OwnershipError, match="must hold the lock to notify"):
                call()

        async def other() -> None:
            with pytest.raises(sync.OwnershipError, match="task 'other' must hold"):
                condition.notify()

        async with bateau.scope() as scope, condition:
            await scope.spawn(other, name="other")
            with pytest.raises(ValueError, match="n must be 0 or more"):
                condition.notify(-1)
            assert condition.statistics() == (0, (True, bateau.current_task(), 0))
        assert condition.try_acquire()
        condition.release()

    entry.run(main)


@flavours
def test_two_conditions_over_one_lock(entry: Entry, flavour: Any) -> None:
    """A bounded buffer, as the textbooks have it."""

    async def main() -> None:
        lock = sync.Lock(flavour=flavour)
        not_empty, not_full = sync.Condition(lock), sync.Condition(lock)
        buffer: list[int] = []
        taken: list[int] = []

        async def produce() -> None:
            for number in range(50):
                async with lock:
                    await not_full.wait_for(lambda: len(buffer) < 3)
                    buffer.append(number)
                    not_empty.notify()

        async def consume() -> None:
            for _ in range(50):
                async with lock:
                    await not_empty.wait_for(lambda: bool(buffer))
                    taken.append(buffer.pop(0))
                    not_full.notify()

        async with bateau.scope() as scope:
            scope.spawn(produce)
            scope.spawn(consume)
        assert taken == list(range(50))

    entry.run(main)
