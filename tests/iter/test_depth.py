"""Long chains: parts are put side by side where they can be, and what is too deep for Python is refused where it is built."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import bateau
from support.entries import Entry, Runtime


async def later(items: list[int]) -> AsyncIterator[int]:
    for item in items:
        await bateau.yield_now()
        yield item


async def by_hand(it: Any) -> list[Any]:
    return [item async for item in it]


BESIDE: dict[str, Callable[[Any, Any], Any]] = {
    "chain": lambda it, other: it.chain(other),
    "chain, before": lambda it, other: bateau.iter(other).chain(it),
    "merge": lambda it, other: it.merge(other),
    "merge_with_priority": lambda it, other: it.merge_with_priority(other),
    "merge, before": lambda it, other: bateau.iter(other).merge(it),
}


@pytest.mark.parametrize("run", [lambda it: it.collect(), by_hand], ids=["collect", "by hand"])
@pytest.mark.parametrize("how", BESIDE)
def test_any_number_of_parts_one_by_one(entry: Entry, how: str, run: Any) -> None:
    parts = 1200 if "chain" in how else 400

    async def main() -> None:
        it = bateau.iter([0])
        for i in range(1, parts):
            it = BESIDE[how](it, [i])
        found = await run(it)
        if "chain" in how:
            assert found == list(range(parts) if how == "chain" else reversed(range(parts)))
        assert sorted(found) == list(range(parts))

    entry.run(main)


def test_the_order_of_nested_parts_stays() -> None:
    async def main() -> None:
        inner = bateau.iter([3]).chain([4], [5])
        it = bateau.iter([1]).chain([2]).chain(inner, [6]).chain(bateau.iter([7]).chain([8]).map(lambda x: x))
        assert repr(it).count("chain") == 2  # the last one has a function after it, and is a part
        assert await it.collect() == list(range(1, 9))
        ready = (
            bateau.iter("a")
            .merge_with_priority("b")
            .merge_with_priority(bateau.iter("c").merge_with_priority("d"), "e")
        )
        assert "".join(await ready.collect()) == "abcde"

    bateau.run(main, runtime="native")


def test_functions_beside_each_other_are_one_stage(runtime: Runtime) -> None:
    async def main() -> None:
        it = bateau.iter([0])
        for _ in range(1500):
            it = it.map(lambda x: x + 1)
        assert await it.collect() == [1500]

    runtime.run(main)


def same(item: Any) -> Any:
    return item


LINKS: dict[str, Callable[[Any], Any]] = {
    "map, filter": lambda it: it.map(same).filter(lambda _: True),
    "enumerate": lambda it: it.enumerate().map(lambda pair: pair[1]),
    "chain under map": lambda it: it.chain([]).map(same),
    "a part of chain": lambda it: bateau.iter([]).chain(it.map(same)),
    "interleave": lambda it: it.interleave([]),
    "merge under map": lambda it: it.merge([]).map(same),
    "zip": lambda it: it.zip([1, 2, 3]).map(lambda row: row[0]),
    "within zip": lambda it: bateau.iter([1, 2, 3]).zip(it).map(lambda row: row[1]),
    "flat_map": lambda it: it.flat_map(lambda x: bateau.iter([x])),
    "flat_map of lists": lambda it: it.flat_map(lambda x: [x]),
    "retry": lambda it: it.map(same).retry(1),
    "buffered": lambda it: it.map(same).buffered(2),
    "prefetch": lambda it: it.prefetch(2),
    "batch": lambda it: it.batch(1, 1).map(lambda batch: batch[0]),
    "timeout": lambda it: it.timeout(100),
    "throttle": lambda it: it.throttle(10**6),
    "debounce": lambda it: it.debounce(1000),
    "sample": lambda it: it.sample(1000),
    "tee": lambda it: it.tee(1)[0],
    "share": lambda it: it.share().iter(),
    "partition": lambda it: it.partition(lambda _: True)[0],
    "group_by": lambda it: it.group_by(same).map(lambda run: run[1][0]),
    "catch": lambda it: it.catch(OSError),
    "scan": lambda it: it.scan(0, lambda _, x: x),
    "par": lambda it: it.par(1).map(same).iter(),
}


@pytest.mark.parametrize("name", LINKS)
def test_what_is_too_deep_is_refused_where_it_is_built_and_the_rest_runs(entry: Entry, name: str) -> None:
    link = LINKS[name]

    def most() -> int:
        it: Any = bateau.iter([1, 2, 3])
        count = 0
        with pytest.raises(ValueError, match=r"stages deep[^$]*setrecursionlimit"):
            for count in range(sys.getrecursionlimit()):  # noqa: B007
                it = link(it)
        return count

    def built(count: int) -> Any:
        it: Any = bateau.iter([1, 2, 3])
        for _ in range(count):
            it = link(it)
        return it

    async def main() -> None:
        count = most()
        assert count >= 50
        kept = [3] if name in ("debounce", "sample") else [1, 2, 3]
        for run in (by_hand, lambda it: it.collect()):
            assert (await run(built(count)))[-1:] == kept[-1:]
        async for _ in built(count):
            break
        async with built(count) as it:
            await it.next()
        repr(built(count))

    entry.run(main)
