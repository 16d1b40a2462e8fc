"""The ends of a chain: what the sequential model does not say. Closing, errors, edges."""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator
from typing import Any

import pytest

import bateau
from bateau.channel import channel
from bateau.iter import NoItems
from support.entries import Entry

ENDS: dict[str, Any] = {
    "collect": lambda it: it.collect(),
    "for_each": lambda it: it.for_each(str),
    "count": lambda it: it.count(),
    "fold": lambda it: it.fold(0, operator.add),
    "reduce": lambda it: it.reduce(operator.add),
    "sum": lambda it: it.sum(),
    "join": lambda it: it.map(str).join(),
    "first": lambda it: it.first(),
    "last": lambda it: it.last(),
    "nth": lambda it: it.nth(1),
    "find": lambda it: it.find(lambda x: x),
    "any": lambda it: it.any(),
    "all": lambda it: it.all(lambda x: x < 2),
    "min": lambda it: it.min(),
    "max": lambda it: it.max(key=lambda x: -x),
}
every_end = pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
FAILING = ("reduce", "first", "last", "nth", "find", "min", "max")


def native(main: Any) -> Any:
    return bateau.run(main, runtime="native")


class Source:
    """A generator that says whether it was closed, and background work beside it that says whether it has ended."""

    def __init__(self, *items: Any) -> None:
        self.items = items
        self.closed = False
        self.running = 0

    async def generate(self) -> AsyncIterator[Any]:
        try:
            for item in self.items:
                await bateau.checkpoint()
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            await bateau.checkpoint()
            self.closed = True

    async def work(self, x: Any) -> Any:
        self.running += 1
        try:
            await bateau.time.sleep(0.001)
            return x
        finally:
            self.running -= 1

    def it(self) -> Any:
        return bateau.iter(self.generate()).map(self.work).buffered(3)

    def over(self) -> bool:
        return self.closed and not self.running


@every_end
def test_an_end_has_ended_everything_when_it_returns(entry: Entry, end: Any) -> None:
    async def main() -> None:
        source = Source(*range(6))
        await end(source.it())
        assert source.over()

    entry.run(main)


@every_end
def test_an_end_that_fails_has_ended_everything(entry: Entry, end: Any) -> None:
    async def main() -> None:
        source = Source(OSError("broken"), 1)
        with pytest.raises(OSError, match="broken"):
            await end(source.it())
        assert source.over()

    entry.run(main)


@every_end
def test_a_cancelled_end_has_ended_everything(entry: Entry, end: Any) -> None:
    async def main() -> None:
        source = Source(*range(6))

        async def stuck(x: int) -> int:
            scope.cancel()
            await bateau.time.sleep_forever()
            return x

        with bateau.CancelScope() as scope:
            await end(source.it().map(stuck))
        assert scope.cancelled_caught
        assert source.over()

    entry.run(main)


@every_end
def test_an_end_is_a_cancellation_check_and_then_has_taken_nothing(entry: Entry, end: Any) -> None:
    async def main() -> None:
        it = bateau.iter([1, 2])
        with bateau.CancelScope() as scope:
            scope.cancel()
            await (it.join() if end is ENDS["join"] else end(it))  # the one that maps first has moved it by then
        assert scope.cancelled_caught
        assert await it.collect() == [1, 2]

    entry.run(main)


@every_end
def test_an_end_without_waits_lets_others_run(entry: Entry, end: Any) -> None:
    async def main() -> None:
        ran: list[int] = []

        async def other() -> None:
            while True:
                await bateau.yield_now()
                ran.append(1)

        async with bateau.scope() as scope:
            scope.spawn(other, background=True)
            items = bateau.iter.repeat(0, 2000).chain([5])  # what every end has to go through
            await end(items.filter(lambda x: x == 5) if end in (ENDS["first"], ENDS["nth"], ENDS["find"]) else items)
            assert ran

    if end is ENDS["nth"]:
        end = ENDS["first"]
    entry.run(main)


@every_end
def test_what_there_is_for_nothing(end: Any) -> None:
    async def main() -> Any:
        return await end(bateau.iter.empty())

    name = next(name for name, made in ENDS.items() if made is end)
    if name in FAILING:
        with pytest.raises(NoItems, match=rf"\.{name}\(\) found no item to give; give it a default="):
            native(main)
    else:
        assert native(main) in ([], None, 0, "", False, True)


def test_a_default_may_be_anything() -> None:
    async def main() -> None:
        def nothing() -> Any:
            return bateau.iter.empty()

        for default in (None, 0, NoItems):
            assert await nothing().first(default) is default
            assert await nothing().last(default=default) is default
            assert await nothing().nth(0, default) is default
            assert await nothing().find(bool, default) is default
            assert await nothing().min(default=default) is default
            assert await nothing().max(default=default) is default
            assert await nothing().reduce(max, default) is default

    native(main)


def test_functions_may_be_async(entry: Entry) -> None:
    async def add(a: int, b: int) -> int:
        await bateau.checkpoint()
        return a + b

    async def negative(x: int) -> int:
        await bateau.time.sleep(0)
        return -x

    seen: list[int] = []

    async def see(x: int) -> None:
        await bateau.checkpoint()
        seen.append(x)

    async def main() -> None:
        def three() -> Any:
            return bateau.iter([1, 2, 3])

        assert await three().fold(10, add) == 16
        assert await three().reduce(add) == 6
        assert await three().min(key=negative) == 3
        assert await three().max(negative) == 1
        assert await three().any(negative)
        assert await three().all(negative)
        assert await three().find(negative) == 1
        await three().for_each(see)
        assert seen == [1, 2, 3]

    entry.run(main)


def test_ends_that_know_early_ask_for_no_more() -> None:
    asked: list[int] = []

    def note(x: int) -> int:
        asked.append(x)
        return x

    async def main() -> None:
        for end, most in [
            (lambda it: it.first(), 1),
            (lambda it: it.nth(2), 3),
            (lambda it: it.find(lambda x: x == 3), 4),
            (lambda it: it.any(lambda x: x == 3), 4),
            (lambda it: it.all(lambda x: x < 3), 4),
        ]:
            asked.clear()
            await end(bateau.iter(range(100)).map(note))
            assert len(asked) == most

    native(main)


def test_collect_into(entry: Entry) -> None:
    async def main() -> None:
        def pairs() -> Any:
            return bateau.iter("abb").enumerate()

        assert await bateau.iter("abb").collect(set) == {"a", "b"}
        assert await pairs().collect(dict) == {0: "a", 1: "b", 2: "b"}
        assert await bateau.iter("abb").collect(into=tuple) == ("a", "b", "b")
        assert await bateau.iter("abb").collect("".join) == "abb"
        with pytest.raises(TypeError, match="collect"):
            await bateau.iter("abb").collect([])  # type: ignore[call-overload]

    entry.run(main)


def test_min_and_max_give_the_first_of_equals() -> None:
    async def main() -> None:
        words = ["bb", "a", "cc", "d"]
        assert await bateau.iter(words).min(key=len) == "a"
        assert await bateau.iter(words).max(key=len) == "bb"
        with pytest.raises(TypeError, match="not supported"):
            await bateau.iter([1, "a"]).min()

    native(main)


def test_sum_begins_where_it_is_told_and_changes_nobodys_list() -> None:
    async def main() -> None:
        start = [0]
        assert await bateau.iter([[1], [2]]).sum(start) == [0, 1, 2]
        assert start == [0]
        assert await bateau.iter([0.5, 1]).sum() == 1.5

    native(main)


def test_into_channel_waits_for_room_and_leaves_the_sender_open(entry: Entry) -> None:
    async def main() -> None:
        tx, rx = channel[int](2)
        async with bateau.scope() as scope:
            sending = scope.spawn(bateau.iter(range(5)).into_channel, tx)
            for _ in range(5):
                await bateau.yield_now()
            assert len(tx) == 2
            assert not sending.ended
            assert [await rx.recv() for _ in range(5)] == [0, 1, 2, 3, 4]
            await sending
        assert not tx.closed
        with tx, rx:
            pass

    entry.run(main)


def test_into_channel_nobody_receives_from(entry: Entry) -> None:
    async def main() -> None:
        source = Source(1, 2, 3)
        tx, rx = channel[int](2)
        rx.close()
        with tx, pytest.raises(bateau.Broken):
            await source.it().into_channel(tx)
        assert source.over()
        with pytest.raises(TypeError, match="sending end of a channel"):
            await bateau.iter([1]).into_channel(rx)  # type: ignore[arg-type]

    entry.run(main)


@pytest.mark.parametrize("method", "for_each fold reduce find min max any all".split())
def test_what_is_no_function_is_refused(method: str) -> None:
    args = (0, 3) if method == "fold" else (3,)

    async def main() -> None:
        with pytest.raises(TypeError, match="needs a function, not a int"):
            await getattr(bateau.iter([1]), method)(*args)

    native(main)
