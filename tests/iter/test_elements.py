"""Combinators over items: what the sequential model (`test_model.py`) does not say. Their edges, their errors, their laziness."""

from __future__ import annotations

import itertools
import types
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import bateau
from bateau.channel import channel
from bateau.iter import Moved, Uneven
from support.entries import Entry


def native(main: Any) -> Any:
    return bateau.run(main, runtime="native")


def collected(it: Any) -> Any:
    return native(it.collect)


async def numbers(count: int) -> AsyncIterator[int]:
    for i in range(count):
        await bateau.checkpoint()
        yield i


class Asked:
    """An endless source that knows how often it was asked."""

    def __init__(self) -> None:
        self.count = 0

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        self.count += 1
        return self.count - 1


# -- functions of either colour ----------------------------------------------------------------------------------------


def test_functions_may_be_of_either_colour(entry: Entry) -> None:
    async def double(x: int) -> int:
        await bateau.time.sleep(0)
        return 2 * x

    async def even(x: int) -> bool:
        await bateau.checkpoint()
        return x % 2 == 0

    async def plus(a: int, b: int) -> int:
        await bateau.checkpoint()
        return a + b

    seen: list[int] = []

    async def note(x: int) -> None:
        await bateau.checkpoint()
        seen.append(x)

    async def main() -> None:
        it = bateau.iter(range(6)).map(double).map(lambda x: x + 2).map(double).filter(even).inspect(note).scan(0, plus)
        assert await it.skip_while(double).collect() == []
        assert seen == [4, 8, 12, 16, 20, 24]
        steps = bateau.iter(numbers(5)).filter_map(lambda x: double(x)).take_while(even).dedup(double).unique(double)
        assert await steps.enumerate().starmap(plus).collect() == [0, 3, 6, 9, 12]

    entry.run(main)


def test_what_can_be_awaited_is_awaited_whatever_it_is() -> None:
    class Custom:
        def __await__(self) -> Any:
            yield from bateau.checkpoint().__await__()
            return "custom"

    @types.coroutine
    def generator_based() -> Any:
        yield from bateau.checkpoint().__await__()
        return "generator"

    def plain() -> Iterator[int]:
        yield 1

    async def main() -> None:
        tx, rx = channel[str](4)
        await tx.send("received")
        given = [Custom, generator_based, rx.recv]
        assert await bateau.iter(given).map(lambda fn: fn()).collect() == ["custom", "generator", "received"]
        (generator,) = await bateau.iter([plain]).map(lambda fn: fn()).collect()
        assert list(generator) == [1]

    native(main)


def test_an_iterator_that_a_function_gives_is_an_item() -> None:
    async def main() -> None:
        parts = await bateau.iter(range(3)).map(lambda n: bateau.iter(range(n))).collect()
        assert [await part.collect() for part in parts] == [[], [0], [0, 1]]

    native(main)


def test_a_timed_out_next_neither_loses_an_item_nor_calls_twice(entry: Entry) -> None:
    calls: list[int] = []

    async def slow(x: int) -> int:
        calls.append(x)
        await bateau.time.sleep(0.02)
        return x

    async def main() -> None:
        it = bateau.iter(range(3)).map(lambda x: x).map(slow).map(lambda x: x * 10).zip("abc")
        found: list[Any] = []
        late = 0
        while len(found) < 3:
            with bateau.move_on_after(0.004) as scope:
                found.append(await it.next())
            late += scope.cancelled_caught
        assert found == [(0, "a"), (10, "b"), (20, "c")]
        assert late
        assert calls == [0, 1, 2]

    entry.run(main)


# -- errors ------------------------------------------------------------------------------------------------------------


def test_after_an_error_the_iteration_goes_on(entry: Entry) -> None:
    async def inverse(x: int) -> float:
        await bateau.checkpoint()
        return 1 / x

    async def main() -> None:
        it = bateau.iter([1, 0, 2]).map(inverse)
        assert await it.next() == 1
        with pytest.raises(ZeroDivisionError):
            await it.next()
        assert await it.next() == 0.5
        assert await it.next(None) is None

    entry.run(main)


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
def test_a_stop_from_a_function_is_not_the_end(kind: type[Exception]) -> None:
    def bad(x: int) -> int:
        if x == 1:
            raise kind
        return x

    async def main() -> None:
        it = bateau.iter(range(3)).map(bad)
        assert await it.next() == 0
        with pytest.raises(RuntimeError, match=kind.__name__) as caught:
            await it.next()
        assert isinstance(caught.value.__cause__, kind)
        assert await it.next() == 2

    native(main)


def test_catch_takes_what_it_names_from_what_comes_before_it() -> None:
    def bad(x: int) -> int:
        raise [ValueError, KeyError, OSError][x](x)

    async def recover(error: Exception, item: int) -> str:
        await bateau.checkpoint()
        return f"{type(error).__name__} {item}"

    async def main() -> None:
        it = bateau.iter(range(3)).map(bad).catch((ValueError, LookupError), recover)
        assert await it.next() == "ValueError 0"
        assert await it.next() == "KeyError 1"
        with pytest.raises(OSError, match="2"):
            await it.next()
        after = bateau.iter(range(3)).catch(ValueError, recover).map(bad)
        with pytest.raises(ValueError, match="0"):
            await after.next()

    native(main)


def test_a_handler_that_raises_replaces_the_error_and_remembers_it() -> None:
    def worse(error: Exception, item: int) -> int:
        raise KeyError(item)

    async def main() -> None:
        with pytest.raises(KeyError) as caught:
            await bateau.iter([0]).map(lambda x: 1 // x).catch(ZeroDivisionError, worse).collect()
        assert isinstance(caught.value.__context__, ZeroDivisionError)

    native(main)


def test_catch_after_several_functions_is_given_what_the_failed_one_was_given() -> None:
    it = bateau.iter([3, 4]).map(lambda x: x - 3).map(lambda x: 1 // x).map(str)
    assert collected(it.catch(ZeroDivisionError, lambda error, item: item)) == [0, "1"]


def test_catch_never_takes_a_cancellation(entry: Entry) -> None:
    async def main() -> None:
        async def forever(x: int) -> int:
            await bateau.time.sleep_forever()
            return x

        with bateau.move_on_after(0.01) as scope:
            await bateau.iter([1]).map(forever).catch(Exception, lambda error, item: item).collect()
        assert scope.cancelled_caught

    entry.run(main)


@pytest.mark.parametrize("kind", [BaseException, KeyboardInterrupt, ValueError(), "ValueError", (ValueError, 3)])
def test_catch_refuses_what_it_must_not_catch(kind: Any) -> None:
    with pytest.raises(TypeError, match="catch"):
        bateau.iter([1]).catch(kind)


@pytest.mark.parametrize(
    "method", "map filter filter_map flat_map inspect take_while skip_while starmap dedup unique".split()
)
def test_what_is_no_function_is_refused_where_it_is_given(method: str) -> None:
    async def fetch() -> None: ...

    with pytest.raises(TypeError, match=rf"\.{method}\(\) needs a function, not a int"):
        getattr(bateau.iter([1]), method)(3)
    made = fetch()
    with pytest.raises(TypeError, match="without calling it"):
        getattr(bateau.iter([1]), method)(made)
    made.close()


@pytest.mark.parametrize(("method", "least"), [("take", 0), ("skip", 0), ("step_by", 1), ("window", 1), ("chunks", 1)])
def test_what_is_no_count_is_refused_where_it_is_given(method: str, least: int) -> None:
    with pytest.raises(ValueError, match=f"at least {least}"):
        getattr(bateau.iter([1]), method)(least - 1)
    for bad in (1.5, "1", True, None):
        with pytest.raises(TypeError, match="whole number"):
            getattr(bateau.iter([1]), method)(bad)


# -- laziness ----------------------------------------------------------------------------------------------------------


def test_no_more_is_asked_for_than_is_given() -> None:
    async def main() -> None:
        for build, asked in [
            (lambda it: it.take(3), 3),
            (lambda it: it.take(0), 0),
            (lambda it: it.map(str).take(2), 2),
            (lambda it: it.take_while(lambda x: x < 3), 4),
            (lambda it: it.chunks(2).take(2), 4),
            (lambda it: it.window(2).take(2), 3),
            (lambda it: it.step_by(3).take(2), 4),
            (lambda it: it.chain([1, 2]).take(3), 3),
            (lambda it: it.flat_map(lambda x: [x] * 3).take(4), 2),
            (lambda it: it.zip([1, 2], "ab"), 3),
        ]:
            source = Asked()
            it = build(bateau.iter(source))
            assert source.count == 0
            await it.collect()
            assert source.count == asked

    native(main)


def test_an_item_is_given_before_the_next_is_asked_for() -> None:
    async def main() -> None:
        for build in (
            lambda it: it.map(str),
            lambda it: it.filter(lambda x: True),
            lambda it: it.scan(0, lambda a, b: b),
            lambda it: it.dedup(),
            lambda it: it.enumerate(),
            lambda it: it.zip(itertools.count()),
            lambda it: it.window(1),
            lambda it: it.chunks(1),
            lambda it: it.chain([1]),
            lambda it: it.cycle(),
            lambda it: it.catch(OSError),
        ):
            source = Asked()
            it = build(bateau.iter(source))
            for n in range(1, 4):
                await it.next()
                assert source.count == n
            await it.aclose()

    native(main)


@pytest.mark.parametrize(
    "build",
    [
        lambda it: it.filter(lambda x: False),
        lambda it: it.filter_map(lambda x: None),
        lambda it: it.skip(10**12),
        lambda it: it.skip_while(lambda x: True),
        lambda it: it.step_by(10**12).skip(1),
        lambda it: it.map(lambda x: 0).dedup().skip(1),
        lambda it: it.map(lambda x: 0).unique().skip(1),
        lambda it: it.map(lambda x: x // 0).catch(ZeroDivisionError),
        lambda it: it.flat_map(lambda x: []),
        lambda it: it.flat_map(lambda x: iter(())),
        lambda it: it.chunks(10**9),
        lambda it: it.window(10**9),
    ],
)
def test_what_gives_nothing_lets_others_run_and_can_be_cancelled(entry: Entry, build: Any) -> None:
    async def main() -> None:
        async with bateau.scope() as scope:

            async def run() -> None:
                await build(bateau.iter.repeat(1)).next()

            task = scope.spawn(run)
            for _ in range(3):
                await bateau.yield_now()
            assert not task.ended
            task.cancel()
            with pytest.raises(bateau.TaskCancelled):
                await task

    entry.run(main)


# -- several sources ---------------------------------------------------------------------------------------------------


def test_every_kind_of_source_will_do(entry: Entry) -> None:
    def plain() -> Iterator[int]:
        yield from (7, 8)

    async def main() -> None:
        tx, rx = channel[int](4)
        with tx:
            for n in (3, 4):
                await tx.send(n)
        sources = [[1], (2,), rx, numbers(2), lambda: numbers(1), plain, bateau.iter([9]).map(str), "x"]
        it = bateau.iter([0]).chain(*sources)
        assert await it.collect() == [0, 1, 2, 3, 4, 0, 1, 0, 7, 8, "9", "x"]

    entry.run(main)


def test_what_is_no_source_is_refused() -> None:
    async def fetch() -> list[int]:
        return []

    for method in ("chain", "zip"):
        with pytest.raises(TypeError, match=rf"\.{method}\(\) takes an iterable"):
            getattr(bateau.iter([1]), method)(3)
        with pytest.raises(TypeError, match="a coroutine: await it first"):
            getattr(bateau.iter([1]), method)(fetch())
    with pytest.raises(TypeError, match=r"\.flat_map\(\) takes an iterable"):
        collected(bateau.iter([1]).flat_map(lambda x: x))
    with pytest.raises(TypeError, match=r"\.flatten\(\) takes an iterable"):
        collected(bateau.iter([1]).flatten())


def test_an_iterator_that_was_given_to_another_is_spent() -> None:
    async def main() -> None:
        mine, other = bateau.iter([1]), bateau.iter([2])
        joined = mine.chain(other)
        for spent in (mine, other):
            with pytest.raises(Moved, match=r"chain\(\)"):
                await spent.collect()
        assert await joined.collect() == [1, 2]

    native(main)


def test_a_source_ends_before_the_next_one_is_opened(entry: Entry) -> None:
    log: list[str] = []

    async def source(name: str) -> AsyncIterator[str]:
        log.append(f"{name} opened")
        try:
            for _ in range(5):
                await bateau.checkpoint()
                yield name
        finally:
            await bateau.checkpoint()
            log.append(f"{name} closed")

    async def main() -> None:
        parts = [bateau.iter(source(name)).prefetch(2).take(2) for name in "abc"]
        assert await parts[0].chain(parts[1], parts[2]).collect() == list("aabbcc")
        expected = [f"{name} {what}" for name in "abc" for what in ("opened", "closed")]
        assert log == expected
        log.clear()
        it = bateau.iter("abc").flat_map(lambda name: bateau.iter(source(name)).prefetch(2).take(2))
        assert [x async for x in it] == list("aabbcc")
        assert log == expected

    entry.run(main)


def test_a_failed_source_ends_and_the_next_one_follows() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    async def main() -> None:
        it = bateau.iter(broken).chain([2])
        assert await it.next() == 1
        with pytest.raises(OSError, match="gone"):
            await it.next()
        assert await it.next() == 2

    native(main)


def test_zip_says_what_was_taken_for_a_row_that_stays_incomplete(entry: Entry) -> None:
    rows: list[Any] = []

    async def keep(row: Any) -> None:
        await bateau.checkpoint()
        rows.append(row)

    async def main() -> None:
        tx, rx = channel[int](4)
        for n in range(3):
            await tx.send(n)
        it = bateau.iter(rx).zip("ab", [1, 2, 3], rest=keep)
        assert await it.collect() == [(0, "a", 1), (1, "b", 2)]
        assert rows == [(2,)]
        tx.close()

    entry.run(main)


def test_zip_strict() -> None:
    def zipped(*sources: Any) -> Any:
        first, *others = sources
        return collected(bateau.iter(first).zip(*others, strict=True))

    assert zipped("ab", [1, 2]) == [("a", 1), ("b", 2)]
    assert zipped("ab") == [("a",), ("b",)]
    for sources, message, row in [
        (("ab", [1]), "source 2 .* is shorter than source 1", ("b",)),
        (("ab", "cd", [1]), "source 3 .* is shorter than sources 1 to 2", ("b", "d")),
        (("a", "b", [1, 2]), "source 3 .* is longer than source 1", (2,)),
    ]:
        with pytest.raises(Uneven, match=message) as caught:
            zipped(*sources)
        assert caught.value.row == row
    with pytest.raises(TypeError, match="not both"):
        bateau.iter([1]).zip([2], strict=True, rest=print)


def test_zip_keeps_its_sources_in_step_where_items_fail() -> None:
    def inverse(x: int) -> float:
        return 1 / x

    async def main() -> None:
        it = bateau.iter([1, 0, 2, 0]).map(inverse).zip(bateau.iter([2, 4, 0, 0]).map(inverse))
        assert await it.next() == (1, 0.5)
        with pytest.raises(ZeroDivisionError):
            await it.next()
        with pytest.raises(ZeroDivisionError):
            await it.next()
        with pytest.raises(BaseExceptionGroup, match="several items of a row") as caught:
            await it.next()
        assert len(caught.value.exceptions) == 2
        rescued = (
            bateau.iter("ab").zip(bateau.iter([0, 2]).map(inverse)).catch(ZeroDivisionError, lambda error, row: row)
        )
        assert await rescued.collect() == [("a", 0), ("b", 0.5)]

    native(main)


# -- some of one's own -------------------------------------------------------------------------------------------------


def test_unique_and_dedup_of_what_can_not_be_compared() -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise OSError("incomparable")

        __hash__ = None  # type: ignore[assignment]

    async def main() -> None:
        it = bateau.iter([[1], [1]]).unique()
        with pytest.raises(TypeError, match="unhashable"):
            await it.next()
        it = bateau.iter([Odd(), Odd()]).dedup()
        await it.next()
        with pytest.raises(OSError, match="incomparable"):
            await it.next()

    native(main)


def test_enumerate_skips_the_index_of_a_failed_item() -> None:
    it = bateau.iter([1, 0, 2]).map(lambda x: 2 // x).enumerate(10).catch(ZeroDivisionError)
    assert collected(it) == [(10, 2), (12, 1)]
    with pytest.raises(TypeError, match="start"):
        bateau.iter([1]).enumerate("a")  # type: ignore[arg-type]


def test_a_chain_reads_as_it_was_written() -> None:
    it = bateau.iter([1]).map(str).filter_map(str).take_while(bool).flat_map(str).chain([2]).skip(1).window(2)
    assert repr(it) == ("<AsyncIter iter(list).map.filter_map.take_while.flat_map.chain(iter(list)).skip.window>")


def test_maps_in_a_row_behave_as_one_by_one() -> None:
    """They run as one stage: each is called for an item before the next item is asked for, and fails alone."""
    log: list[str] = []

    def step(name: str) -> Any:
        def run(x: int) -> int:
            log.append(f"{name}{x}")
            if (name, x) == ("b", 1):
                raise OSError
            return x

        return run

    async def late(x: int) -> int:
        await bateau.checkpoint()
        log.append(f"l{x}")
        return x

    it = bateau.iter(range(3)).map(step("a")).map(late).map(step("b")).map(late).catch(OSError)
    assert collected(it) == [0, 2]
    assert log == "a0 l0 b0 l0 a1 l1 b1 a2 l2 b2 l2".split()
