"""Event, Notify and Barrier: wake-ups that are neither lost nor doubled."""

from __future__ import annotations

from typing import Any

import pytest

import bateau
from bateau import sync
from support.entries import Entry, on_native
from support.waiting import until

flavours = pytest.mark.parametrize("flavour", ["local", "shared"])


@flavours
def test_event(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        event = sync.Event(name="ready", flavour=flavour)
        woken: list[int] = []

        async def waits(number: int) -> None:
            assert await event.wait() is True
            woken.append(number)

        async with bateau.scope() as scope:
            for number in range(3):
                scope.spawn(waits, number)
            await until(lambda: event.statistics() == (False, 3))
            assert repr(event) == "<event 'ready' (not set, 3 waiting)>"
            event.set()
            event.clear()  # who waited has been woken all the same
            await until(lambda: len(woken) == 3)
            assert not event.is_set()
            event.set()
            event.set()
            assert event.is_set()
            assert await event.wait() is True

    entry.run(main)


@pytest.mark.law(11)
@flavours
def test_a_cancelled_event_wait(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        event = sync.Event(flavour=flavour)
        log: list[str] = []

        async def waits(name: str) -> None:
            await event.wait()
            log.append(name)
            await bateau.yield_now()
            log.append(name + " goes on")

        async with bateau.scope() as scope:
            early = scope.spawn(waits, "early")
            late = scope.spawn(waits, "late")
            await until(lambda: event.statistics().tasks_waiting == 2)
            early.cancel("before")
            assert event.statistics().tasks_waiting == 1
            event.set()
            late.cancel("after")
        assert log == ["late"]

    entry.run(main)


@pytest.mark.law(11)
@flavours
def test_notify_stores_one(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        notify = sync.Notify(flavour=flavour)
        notify.notify_one()
        notify.notify_one()
        assert notify.statistics() == (True, 0)
        await notify.wait()
        with bateau.move_on_after(0.001) as scope:
            await notify.wait()
        assert scope.cancelled_caught
        notify.notify_all()  # nobody waits, and it stores nothing
        assert notify.statistics() == (False, 0)

    entry.run(main)


@flavours
def test_notify_wakes_in_order(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        notify = sync.Notify(flavour=flavour)
        woken: list[int] = []

        async def waits(number: int) -> None:
            await notify.wait()
            woken.append(number)

        async with bateau.scope() as scope:
            for number in range(4):
                scope.spawn(waits, number)
                await until(lambda number=number: notify.statistics().tasks_waiting == number + 1)
            notify.notify_one()
            await until(lambda: woken == [0])
            notify.notify_all()
        assert woken[0] == 0
        assert sorted(woken) == [0, 1, 2, 3]
        assert not notify.statistics().permit

    entry.run(main)


@on_native
@flavours
@pytest.mark.parametrize("how", ["notify_one", "notify_all"])
def test_a_closed_waiter_hands_its_wake_up_on(entry: Entry, flavour: Any, how: str) -> None:
    async def main() -> None:
        notify = sync.Notify(flavour=flavour)
        wait = notify.wait().__await__()
        next(wait)
        getattr(notify, how)()
        wait.close()
        assert notify.statistics().permit is (how == "notify_one")

    entry.run(main)


@flavours
def test_barrier(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        calls: list[int] = []
        barrier = sync.Barrier(3, lambda: calls.append(barrier.n_waiting), name="start", flavour=flavour)
        numbers: list[int] = []

        async def runs() -> None:
            for _ in range(4):
                numbers.append(await barrier.wait())

        async with bateau.scope() as scope:
            for _ in range(3):
                scope.spawn(runs)
        assert [sorted(numbers[i : i + 3]) for i in range(0, 12, 3)] == [[0, 1, 2]] * 4
        assert calls == [2] * 4
        assert barrier.statistics() == (3, 0, False)
        assert repr(barrier) == "<barrier 'start' (0/3 have come)>"

    entry.run(main)


@flavours
def test_a_cancelled_wait_does_not_break_the_barrier(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        barrier = sync.Barrier(2, flavour=flavour)
        with bateau.move_on_after(0.001):
            await barrier.wait()
        assert barrier.n_waiting == 0
        assert not barrier.broken

        async def comes() -> int:
            return await barrier.wait()

        async with bateau.scope() as scope:
            tasks = [scope.spawn(comes), scope.spawn(comes)]
            assert {await tasks[0], await tasks[1]} == {0, 1}

    entry.run(main)


@flavours
@pytest.mark.parametrize("how", ["reset", "abort"])
def test_a_broken_barrier(entry: Entry, flavour: Any, how: str) -> None:
    async def main() -> None:
        barrier = sync.Barrier(3, flavour=flavour)

        async def comes() -> None:
            with pytest.raises(sync.BrokenBarrierError, match="reset" if how == "reset" else "aborted"):
                await barrier.wait()

        async with bateau.scope() as scope:
            scope.spawn(comes)
            scope.spawn(comes)
            await until(lambda: barrier.n_waiting == 2)
            getattr(barrier, how)()
        assert barrier.broken is (how == "abort")
        if how == "abort":
            with pytest.raises(sync.BrokenBarrierError, match=r"reset\(\) makes it usable again"):
                await barrier.wait()
            barrier.reset()
        with bateau.move_on_after(0.001) as scope:
            await barrier.wait()
        assert scope.cancelled_caught

    entry.run(main)


@flavours
def test_a_failing_action_breaks_the_barrier(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        def action() -> None:
            raise LookupError("mine")

        barrier = sync.Barrier(2, action, flavour=flavour)

        async def first() -> None:
            with pytest.raises(sync.BrokenBarrierError, match="its action failed"):
                await barrier.wait()

        async with bateau.scope() as scope:
            scope.spawn(first)
            await until(lambda: barrier.n_waiting == 1)
            with pytest.raises(LookupError, match="mine"):
                await barrier.wait()
        assert barrier.broken

    entry.run(main)


@on_native
@pytest.mark.law(17)
def test_waiting_for_what_nobody_sets_is_a_deadlock(entry: Entry) -> None:
    async def main() -> None:
        await sync.Event(name="never").wait()

    with pytest.raises(bateau.Deadlock, match=r"wait for event 'never' \(not set, 1 waiting\)"):
        entry.run(main)
