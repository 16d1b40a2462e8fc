"""``group_by``: runs of neighbours with equal keys."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bateau
from support.entries import Entry, Runtime


def test_runs_of_neighbours(entry: Entry) -> None:
    async def upper(text: str) -> str:
        await bateau.checkpoint()
        return text.upper()

    async def main() -> list[tuple[str, list[str]]]:
        return await bateau.iter("aAbBBa").group_by(upper).collect()

    assert entry.run(main) == [("A", ["a", "A"]), ("B", ["b", "B", "B"]), ("A", ["a"])]


@given(st.lists(st.integers(0, 3)))
def test_like_itertools(items: list[int]) -> None:
    async def main() -> list[tuple[int, list[int]]]:
        return await bateau.iter(items).group_by(lambda x: x // 2).collect()

    expected = [(key, list(group)) for key, group in itertools.groupby(items, lambda x: x // 2)]
    assert bateau.run(main, runtime="native") == expected


def test_a_failure_ends_the_run_before_it(runtime: Runtime) -> None:
    async def main() -> None:
        items = bateau.iter([1, 1, 0, 1]).map(lambda x: 1 // x).group_by(lambda x: x)
        assert await items.next() == (1, [1, 1])
        with pytest.raises(ZeroDivisionError):
            await items.next()
        assert await items.next() == (1, [1])

    runtime.run(main)


def test_a_key_that_fails_raises_in_its_place(runtime: Runtime) -> None:
    async def main() -> None:
        items = bateau.iter([1, 0, 2]).group_by(lambda x: 1 // x)
        assert await items.next() == (1, [1])
        with pytest.raises(ZeroDivisionError):
            await items.next()
        assert await items.next() == (0, [2])

    runtime.run(main)


def test_keys_that_cannot_be_compared_fail_in_their_place(runtime: Runtime) -> None:
    class Odd:  # noqa: PLW1641  # nobody hashes it
        def __eq__(self, other: object) -> bool:
            raise ArithmeticError("no two of these are comparable")

    async def main() -> None:
        items = bateau.iter([1, 2, 3]).group_by(lambda x: Odd() if x == 2 else x)
        assert await items.next() == (1, [1])
        with pytest.raises(ArithmeticError):
            await items.next()
        assert await items.next() == (3, [3])
        assert await items.next(None) is None

    runtime.run(main)


def test_partition_calls_its_function_once_for_each_item(entry: Entry) -> None:
    asked: list[int] = []

    async def even(x: int) -> bool:
        asked.append(x)
        await bateau.checkpoint()
        return x % 2 == 0

    async def main() -> None:
        evens, odds = bateau.iter(range(10)).partition(even)
        found = await bateau.join(evens.collect(), odds.collect())
        assert found == ([0, 2, 4, 6, 8], [1, 3, 5, 7, 9])

    entry.run(main)
    assert asked == list(range(10))


def test_partition_keeps_what_nobody_has_read_if_told_to(runtime: Runtime) -> None:
    async def main() -> None:
        small, large = bateau.iter(range(500)).partition(lambda x: x < 400, unbounded=True)
        assert await large.collect() == list(range(400, 500))
        assert await small.collect() == list(range(400))

    runtime.run(main)


def test_partition_raises_what_its_function_raises_in_both(runtime: Runtime) -> None:
    async def main() -> None:
        whole, rest = bateau.iter([1, 0, 2]).partition(lambda x: 1 // x, unbounded=True)
        for it in (whole, rest):
            with pytest.raises(ZeroDivisionError):
                await it.collect()

    runtime.run(main)
