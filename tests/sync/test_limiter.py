"""Limiter: borrowers, on behalf of whom, a size that changes, statistics."""

from __future__ import annotations

import math
from typing import Any

import pytest

import bateau
from bateau import sync
from support.entries import Entry
from support.waiting import until

flavours = pytest.mark.parametrize("flavour", ["local", "shared"])


@flavours
def test_one_token_each(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        limiter = sync.Limiter(2, name="slots", flavour=flavour)
        me = bateau.current_task()
        async with limiter:
            assert limiter.holders() == (me,)
            assert (limiter.borrowed_tokens, limiter.available_tokens) == (1, 1)
            with pytest.raises(sync.OwnershipError, match="has a token of limiter 'slots'"):
                await limiter.acquire()
            with pytest.raises(sync.OwnershipError, match="at most one"):
                limiter.try_acquire()
        with pytest.raises(sync.OwnershipError, match="has no token of limiter 'slots'"):
            limiter.release()

    entry.run(main)


@flavours
def test_on_behalf_of(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        limiter = sync.Limiter(2, flavour=flavour)
        await limiter.acquire_on_behalf_of("job 1")
        assert limiter.try_acquire_on_behalf_of(("job", 2))
        assert not limiter.try_acquire_on_behalf_of("job 3")
        assert limiter.statistics() == (2, 2, ("job 1", ("job", 2)), 0)
        with pytest.raises(sync.OwnershipError, match="'job 1' has a token"):
            await limiter.acquire_on_behalf_of("job 1")
        with pytest.raises(TypeError, match="unhashable"):
            limiter.acquire_on_behalf_of([])

        async def wants() -> None:
            await limiter.acquire_on_behalf_of("job 3")

        async with bateau.scope() as scope:
            task = scope.spawn(wants)
            await until(lambda: limiter.statistics().tasks_waiting == 1)
            with pytest.raises(sync.OwnershipError, match=r"somebody waits for a token .* on behalf of 'job 3'"):
                await limiter.acquire_on_behalf_of("job 3")
            limiter.release_on_behalf_of("job 1")  # from another task than the one that borrowed
            await task
        assert limiter.statistics().borrowers == (("job", 2), "job 3")
        limiter.release_on_behalf_of("job 3")
        with pytest.raises(sync.OwnershipError, match="'job 3' has no token"):
            limiter.release_on_behalf_of("job 3")
        limiter.release_on_behalf_of(("job", 2))

        async def cancelled() -> None:
            with bateau.move_on_after(0.001):
                await limiter.acquire_on_behalf_of("again")

        limiter.total_tokens = 1
        await limiter.acquire_on_behalf_of("x")
        await cancelled()
        await cancelled()  # the first left no trace of its borrower

    entry.run(main)


@flavours
def test_the_size_changes(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        limiter = sync.Limiter(1, flavour=flavour)
        got: list[int] = []

        async def wants(number: int) -> None:
            await limiter.acquire_on_behalf_of(number)
            got.append(number)

        async with bateau.scope() as scope:
            for number in range(5):
                scope.spawn(wants, number)
                await until(lambda number=number: len(got) + limiter.statistics().tasks_waiting == number + 1)
            assert got == [0]
            limiter.total_tokens = 3
            await until(lambda: sorted(got) == [0, 1, 2])  # trio steps in any order those who were woken together
            limiter.total_tokens = 1
            assert limiter.available_tokens == 0
            limiter.release_on_behalf_of(0)
            limiter.release_on_behalf_of(1)
            assert limiter.borrowed_tokens == 1
            limiter.release_on_behalf_of(2)
            await until(lambda: sorted(got) == [0, 1, 2, 3])
            limiter.total_tokens = math.inf
        assert sorted(got) == [0, 1, 2, 3, 4]
        assert limiter.available_tokens == math.inf
        with pytest.raises(ValueError, match="total_tokens"):
            limiter.total_tokens = -1

    entry.run(main)


def test_what_it_tells(entry: Entry) -> None:
    async def main() -> None:
        limiter = sync.Limiter(1, name="slots")
        async with limiter:
            assert repr(limiter) == "<limiter 'slots' (1/1 borrowed)>"
            assert tuple(limiter.satisfiers()) == (bateau.current_task(),)

    entry.run(main)
