"""Semaphore: counts, bounds, signals, and what it tells."""

from __future__ import annotations

from typing import Any

import pytest

import bateau
from bateau import sync
from support.entries import Entry, on_native
from support.waiting import until

flavours = pytest.mark.parametrize("flavour", ["local", "shared"])


@flavours
def test_at_most_so_many(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        semaphore = sync.Semaphore(3, flavour=flavour)
        inside, most = 0, 0

        async def visit() -> None:
            nonlocal inside, most
            async with semaphore:
                inside += 1
                most = max(most, inside)
                await bateau.yield_now()
                inside -= 1

        async with bateau.scope() as scope:
            for _ in range(20):
                scope.spawn(visit)
        assert most == 3
        assert semaphore.value == 3

    entry.run(main)


@flavours
def test_release_wakes_as_many_as_it_gives(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        semaphore = sync.Semaphore(0, flavour=flavour)
        got: list[int] = []

        async def consume(number: int) -> None:
            await semaphore.acquire()
            got.append(number)

        async with bateau.scope() as scope:
            for number in range(5):
                scope.spawn(consume, number)
                await until(lambda number=number: semaphore.statistics().tasks_waiting == number + 1)
            semaphore.release(3)
            await until(lambda: len(got) == 3)
            assert sorted(got) == [0, 1, 2]  # trio steps in any order those who were woken together
            assert semaphore.statistics() == (0, None, 2)
            semaphore.release(4)
        assert sorted(got) == [0, 1, 2, 3, 4]
        assert semaphore.value == 2
        assert not semaphore.locked()

    entry.run(main)


def test_the_bound(entry: Entry) -> None:
    async def main() -> None:
        semaphore = sync.BoundedSemaphore(2, name="slots")
        async with semaphore:
            with pytest.raises(ValueError, match=r"semaphore 'slots' \(1/2 free\) was released too often"):
                semaphore.release(2)
            assert semaphore.value == 1
        with pytest.raises(ValueError, match="released too often"):
            semaphore.release()
        assert semaphore.value == 2

    entry.run(main)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: sync.Semaphore(-1), ValueError, "value must be 0 or more"),
        (lambda: sync.Semaphore("2"), TypeError, "value must be a whole number"),
        (lambda: sync.Semaphore(True), TypeError, "value must be a whole number"),
        (lambda: sync.Semaphore(3, max_value=2), ValueError, "max_value must be at least value"),
        (lambda: sync.Semaphore(1).release(0), ValueError, "n must be 1 or more"),
        (lambda: sync.Limiter(0), ValueError, "total_tokens must be 1 or more"),
        (lambda: sync.Limiter(1.5), TypeError, "total_tokens must be a whole number"),
        (lambda: sync.Barrier(0), ValueError, "parties must be 1 or more"),
        (lambda: sync.Barrier(2, "x"), TypeError, "action must be a sync function"),
        (lambda: sync.Condition(object()), TypeError, "lock must be a bateau.sync.Lock"),
        (lambda: sync.Condition(sync.Lock(), flavour="local"), ValueError, "a condition has its lock's"),
        (lambda: sync.OnceMap(object(), len), TypeError, "scope must be an open bateau.Scope"),
    ],
)
def test_bad_arguments(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


@flavours
def test_the_holders_as_far_as_known(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        semaphore = sync.Semaphore(2, flavour=flavour)
        go = sync.Event()

        async def holds() -> None:
            async with semaphore:
                await go.wait()

        async with bateau.scope() as scope:
            tasks = [scope.spawn(holds), scope.spawn(holds)]
            await until(lambda: go.statistics().tasks_waiting == 2)
            assert set(semaphore.holders()) == set(tasks)
            semaphore.release()  # by somebody who has none
            assert len(semaphore.holders()) == 1
            go.set()
        assert semaphore.holders() == ()

    entry.run(main)


@on_native
@pytest.mark.law(17)
def test_nested_permits_are_a_deadlock_with_names(entry: Entry) -> None:
    async def main() -> None:
        semaphore = sync.Semaphore(1, name="slots")
        async with semaphore, semaphore:
            pass

    with pytest.raises(
        bateau.Deadlock, match=r"(?s)acquire of semaphore 'slots' \(0 free, 1 waiting\).*held by 'main'"
    ):
        entry.run(main)


def test_holders_do_not_pile_up() -> None:
    async def main() -> None:
        semaphore = sync.Semaphore(100_000)

        async def takes() -> None:
            await semaphore.acquire()

        for _ in range(20):
            async with bateau.scope() as scope:
                for _ in range(100):
                    scope.spawn(takes)
        assert len(semaphore._held) < 400

    bateau.run(main)
