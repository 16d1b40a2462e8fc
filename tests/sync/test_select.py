"""The primitives as arms of a select: what is not chosen has had no effect."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import bateau
from bateau import sync
from support.entries import Entry
from support.waiting import until

flavours = pytest.mark.parametrize("flavour", ["local", "shared"])


@pytest.mark.law(3)
@flavours
def test_a_growable_select_keeps_its_place_in_each(entry: Entry, flavour: Any) -> None:
    """Round after round one arm is granted; the others lose nothing."""

    async def main() -> None:
        semaphore = sync.Semaphore(0, flavour=flavour)
        event, notify = sync.Event(flavour=flavour), sync.Notify(flavour=flavour)
        got: list[str] = []

        async def chooses() -> None:
            async with bateau.Select[str, Any]() as select:
                select.insert("semaphore", semaphore.acquire)
                select.insert("notify", notify.wait)
                select.insert("event", event.wait)
                while True:
                    name, _ = await select.next()
                    got.append(name)
                    if name == "event":
                        return

        async with bateau.scope() as scope:
            scope.spawn(chooses)
            for round_ in range(6):
                await until(lambda: semaphore.statistics().tasks_waiting)
                semaphore.release() if round_ % 2 else notify.notify_one()
                await until(lambda round_=round_: len(got) == round_ + 1)
            event.set()
        assert got == ["notify", "semaphore"] * 3 + ["event"]
        assert semaphore.statistics() == (0, None, 0)
        assert notify.statistics() == (False, 0)

    entry.run(main)


@flavours
def test_two_granted_at_once_commit_one(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        a, b = sync.Lock(flavour=flavour), sync.Lock(flavour=flavour)

        async def chooses() -> str:
            chosen = await bateau.select(a=a.acquire(), b=b.acquire())
            (a if chosen.name == "a" else b).release()
            return str(chosen.name)

        async with bateau.scope() as scope:
            async with a, b:
                task = scope.spawn(chooses)
                await until(lambda: a.statistics().tasks_waiting and b.statistics().tasks_waiting)
            assert await task == "b"  # left first
        assert not a.locked()
        assert not b.locked()

    entry.run(main)


def test_a_race_for_locks_is_run_by_the_caller(entry: Entry) -> None:
    async def main() -> None:
        lock, busy = sync.Lock(), sync.Event()
        assert await bateau.race(lock.acquire(), busy.wait()) is not None
        assert lock.holders() == (bateau.current_task(),)
        lock.release()

    entry.run(main)


def test_a_barrier_is_no_arm(entry: Entry) -> None:
    async def main() -> None:
        barrier = sync.Barrier(2)
        with pytest.raises(TypeError, match="can't be an arm of select"):
            await bateau.select(barrier=barrier.wait(), event=sync.Event().wait())
        assert barrier.n_waiting == 0

    entry.run(main)


def test_a_select_on_what_another_thread_frees_is_no_deadlock() -> None:
    event = sync.Event()

    async def main() -> Any:
        return (await bateau.select(event=event.wait(), never=sync.Event().wait())).name

    def sets() -> None:
        while not event.statistics().tasks_waiting:
            time.sleep(0.001)
        time.sleep(0.02)
        event.set()

    thread = threading.Thread(target=sets)
    thread.start()
    assert bateau.run(main, runtime="native") == "event"
    thread.join()
