"""What fails while a pipeline is being left: it comes out, whatever the form of the pipeline and the way of leaving it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import bateau
from bateau.kernel.hazard import Finding, add_sink
from support.entries import on_each_mechanism

pytestmark = on_each_mechanism

Pipeline = Any
Work = Callable[[int], Awaitable[int]]


class Unflushed(Exception):
    """What a function's cleanup raises."""


class Gone(Exception):
    """What the first item or the consumer's body raises."""


# Called when item 1 has begun to wait, as good as.
under_way: list[Callable[[], object]] = []


def begun(item: int) -> None:
    if item == 1:
        for call in tuple(under_way):
            call()


async def work(item: int) -> int:
    """Item 0 comes at once; the others wait for ever, and 1 fails on its way out."""
    try:
        begun(item)
        if item:
            await bateau.time.sleep(60)
        return item
    finally:
        if item == 1:
            raise Unflushed


async def later(item: int) -> int:
    """The same for a function that cleans up in a wait."""
    try:
        begun(item)
        if item:
            await bateau.time.sleep(60)
        return item
    finally:
        if item == 1:
            async with bateau.cleanup(1):
                await bateau.yield_now()
            raise Unflushed


FORMS: dict[str, Callable[[Work], Pipeline]] = {
    "buffered": lambda f: bateau.iter(range(5)).map(f).buffered(3),
    "buffered_unordered": lambda f: bateau.iter(range(5)).map(f).buffered_unordered(3),
    "filter": lambda f: bateau.iter(range(5)).map(f).filter(lambda _: True).buffered(3),
    "retry": lambda f: bateau.iter(range(5)).map(f).retry(2).buffered(3),
    "merge": lambda f: bateau.iter([0, 1]).map(f).merge([]),
    "batch": lambda f: bateau.iter([0, 1]).map(f).batch(1, 1),
    "debounce": lambda f: bateau.iter([0, 1]).map(f).debounce(0.0001),
    "prefetch": lambda f: bateau.iter([0, 1]).map(f).prefetch(2),
    "retry.prefetch": lambda f: bateau.iter([0, 1]).map(f).retry(2).prefetch(2),
    "plain": lambda f: bateau.iter([0, 1]).map(f),
    "par": lambda f: bateau.iter(range(5)).par(3).map(f).iter(),
    "share": lambda f: bateau.iter(range(5)).map(f).buffered(3).share(),
    "tee": lambda f: bateau.iter(range(5)).map(f).buffered(3).tee(1)[0],
    "generator": lambda f: bateau.iter(generated(f)),
}
MAIN = ["buffered", "merge", "batch", "debounce", "prefetch", "plain"]


async def generated(f: Work) -> AsyncIterator[int]:
    async for item in bateau.iter(range(5)).map(f).buffered(3):
        yield item


def leaves(error: BaseException | None) -> list[BaseException]:
    """The errors inside of groups."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error] if error is not None else []


async def raised_by(leave: Callable[[], Awaitable[object]]) -> list[type[BaseException]]:
    """The types of what comes out of ``leave`` and its scope, none of them more than once."""
    try:
        async with bateau.scope():
            await leave()
            await bateau.yield_now()  # where a loop's debt is paid
    except (Exception, BaseExceptionGroup) as error:
        found = leaves(error)
        assert len({id(one) for one in found}) == len(set(map(type, found))), found
        return list(dict.fromkeys(map(type, found)))
    return []


async def begin_second(it: Pipeline) -> None:
    """Take the first item, and ask for the second until it is under way."""
    seen: list[None] = []
    under_way.append(lambda: seen.append(None))
    assert await it.next() in (0, [0])
    while not seen:
        with bateau.move_on_after(0.003):
            await it.next()


@contextmanager
def until_begun() -> Iterator[None]:
    """Cancels what it holds soon after item 1 is under way."""
    with bateau.move_on_after(30) as limit:
        under_way.append(lambda: limit.reschedule(bateau.now() + 0.001))
        yield


@pytest.fixture(autouse=True)
def hazards() -> Iterator[list[Finding]]:
    """None is reported: nobody in here swallowed a cancellation."""
    seen: list[Finding] = []
    remove = add_sink(seen.append)
    under_way.clear()
    yield seen
    remove()
    assert not seen


@pytest.mark.parametrize("f", [work, later])
@pytest.mark.parametrize("form", FORMS)
def test_an_error_of_what_is_cut_comes_out_of_async_with(entry, form, f):
    async def leave() -> None:
        async with FORMS[form](f) as it:
            await begin_second(it)

    async def main() -> None:
        assert await raised_by(leave) == [Unflushed]

    entry.run(main)


@pytest.mark.parametrize("form", MAIN)
def test_an_error_of_what_is_cut_goes_with_that_of_the_block(entry, form):
    async def leave() -> None:
        async with FORMS[form](work) as it:
            await begin_second(it)
            raise Gone

    async def main() -> None:
        assert sorted(await raised_by(leave), key=str) == [Gone, Unflushed]

    entry.run(main)


@pytest.mark.parametrize("form", MAIN)
def test_an_error_of_what_is_cut_by_a_break_comes_at_the_next_wait(entry, form):
    async def leave() -> None:
        it = FORMS[form](work)
        await begin_second(it)
        del it
        await bateau.yield_now()

    async def main() -> None:
        assert await raised_by(leave) == [Unflushed]

    entry.run(main)


def test_after_a_break_without_a_scope_the_next_wait_raises_it(entry):
    async def main() -> None:
        seen: list[None] = []
        under_way.append(lambda: seen.append(None))
        async for _ in FORMS["buffered"](work):
            while not seen:
                await bateau.time.sleep(0.001)
            break
        with pytest.raises(BaseExceptionGroup) as caught:
            await bateau.time.sleep(1)
        assert [type(one) for one in leaves(caught.value)] == [Unflushed]

    if not entry.owned:  # else there is a scope around everything, which is cancelled
        entry.run(main)


@pytest.mark.parametrize("form", MAIN)
def test_an_error_of_what_is_cut_by_a_cancelled_call_is_raised_by_the_call(entry, form):
    async def leave() -> None:
        with until_begun():
            await FORMS[form](work).collect()

    async def main() -> None:
        assert await raised_by(leave) == [Unflushed]

    entry.run(main)


@pytest.mark.parametrize("f", [work, later])
def test_an_error_of_what_a_cancelled_for_each_concurrent_cuts_is_raised(entry, f):
    async def leave() -> None:
        with until_begun():
            await bateau.iter(range(5)).for_each_concurrent(3, f)

    async def main() -> None:
        assert await raised_by(leave) == [Unflushed]

    entry.run(main)


@pytest.mark.parametrize("method", ["buffered", "buffered_unordered", "for_each_concurrent"])
def test_an_error_of_what_a_first_error_cuts_goes_with_it(entry, method):
    seen: list[None] = []
    under_way.append(lambda: seen.append(None))

    async def first_fails(item: int) -> int:
        if not item:
            while not seen:
                await bateau.time.sleep(0.001)
            raise Gone
        return await work(item)

    async def leave() -> None:
        source = bateau.iter(range(5))
        if method == "for_each_concurrent":
            await source.for_each_concurrent(3, first_fails)
        else:
            await getattr(source.map(first_fails), method)(3).collect()

    async def main() -> None:
        assert sorted(await raised_by(leave), key=str) == [Gone, Unflushed]

    entry.run(main)


def test_an_error_of_what_is_cut_in_the_scope_of_the_user_goes_there(entry):
    async def leave() -> None:
        async with bateau.scope() as scope, bateau.iter(range(5)).map(work).buffered_in(3, scope) as it:
            await begin_second(it)

    async def main() -> None:
        assert await raised_by(leave) == [Unflushed]

    entry.run(main)


def test_what_is_cut_is_not_tried_again(entry):
    begun: list[int] = []

    async def counted(item: int) -> int:
        begun.append(item)
        return await work(item)

    async def leave() -> None:
        async with bateau.iter(range(3)).map(counted).retry(bateau.iter.Retry(5, delay=0)).buffered(2) as it:
            await begin_second(it)

    async def main() -> None:
        assert await raised_by(leave) == [Unflushed]
        assert begun.count(1) == 1

    entry.run(main)


@pytest.mark.parametrize("form", ["chain", "flat_map"])
def test_an_error_of_what_the_end_of_a_part_cuts_comes_out(entry, form):
    seen: list[None] = []
    under_way.append(lambda: seen.append(None))

    async def first_waits(item: int) -> int:
        while not item and not seen:
            await bateau.time.sleep(0.001)
        return await work(item)

    def part(_: int = 0) -> Pipeline:
        return bateau.iter(range(5)).map(first_waits).buffered(3).take(1)

    async def leave() -> None:
        it = part().chain([7]) if form == "chain" else bateau.iter([0]).flat_map(part)
        await it.collect()

    async def main() -> None:
        assert await raised_by(leave) == [Unflushed]

    entry.run(main)


def test_results_that_nobody_took_are_dropped_also_failed_ones(entry):
    async def fails(item: int) -> int:
        if item:
            raise Unflushed
        return item

    async def main() -> None:
        async with bateau.iter(range(5)).map(fails).buffered(3) as it:
            assert await it.next() == 0
            await bateau.time.sleep(0.001)
        async for _ in bateau.iter(range(5)).map(fails).buffered(3):
            await bateau.time.sleep(0.001)
            break
        await bateau.yield_now()

    entry.run(main)


# -- a source that is a plain generator --------------------------------------------------------------------------------


def failing() -> Iterator[int]:
    """Raises when it is closed."""
    try:
        yield from range(5)
    finally:
        raise Unflushed


async def same(item: int) -> int:
    await bateau.yield_now()
    return item


OVER: dict[str, Callable[[], Pipeline]] = {
    "alone": lambda: bateau.iter(failing()),
    "map": lambda: bateau.iter(failing()).map(lambda item: item),
    "waits": lambda: bateau.iter(failing()).map(same),
    "filter": lambda: bateau.iter(failing()).map(same).filter(lambda _: True).enumerate(),
    "take": lambda: bateau.iter(failing()).take(4).map(same).take(3),
    "chunks": lambda: bateau.iter(failing()).chunks(1),
    "chain": lambda: bateau.iter(failing()).chain([7]),
    "chain second": lambda: bateau.iter(range(0)).chain(failing()),
    "zip": lambda: bateau.iter(range(9)).zip(failing()),
    "flat_map": lambda: bateau.iter([0]).flat_map(lambda _: failing()),
    "interleave": lambda: bateau.iter(failing()).interleave([7, 7, 7]),
    "merge": lambda: bateau.iter(failing()).merge([]),
    "buffered": lambda: bateau.iter(failing()).map(same).buffered(2),
    "prefetch": lambda: bateau.iter(failing()).map(same).prefetch(1),
    "batch": lambda: bateau.iter(failing()).batch(1, 1),
    "share": lambda: bateau.iter(failing()).map(same).share(),
    "tee": lambda: bateau.iter(failing()).map(same).tee(1)[0],
    "par": lambda: bateau.iter(failing()).par(2).map(same).iter(),
}
SOURCES = [form for form in OVER if form not in ("share", "par")]


@pytest.mark.parametrize("form", OVER)
def test_an_error_of_a_generator_that_async_with_closes_is_raised(entry, form):
    async def leave() -> None:
        async with OVER[form]() as it:
            await it.next()

    async def main() -> None:
        assert await raised_by(leave) == [Unflushed]

    entry.run(main)


@pytest.mark.parametrize("form", SOURCES)
def test_an_error_of_a_generator_that_a_block_with_an_error_closes_goes_with_that(entry, form):
    async def leave() -> None:
        async with OVER[form]() as it:
            await it.next()
            raise Gone

    async def main() -> None:
        assert sorted(await raised_by(leave), key=str) == [Gone, Unflushed]

    entry.run(main)


@pytest.mark.parametrize("form", SOURCES)
@pytest.mark.parametrize("end", ["first", "take", "take by hand", "take in a block", "aclose", "part"])
def test_an_error_of_a_generator_of_which_not_all_was_wanted_is_raised(entry, form, end):
    async def leave() -> None:
        it = OVER[form]()
        if end == "first":
            await it.first()
        elif end == "take":
            await it.take(2).collect()
        elif end == "take by hand":
            it = it.take(2)
            async for _ in it:
                pass
        elif end == "take in a block":
            async with it.take(2) as it:
                async for _ in it:
                    pass
        elif end == "aclose":
            await it.next()
            await it.aclose()
        else:
            await it.take(2).chain([1]).collect()

    async def main() -> None:
        assert await raised_by(leave) == [Unflushed]

    entry.run(main)


def test_a_break_closes_the_generator_and_its_error_comes_at_the_next_wait(entry):
    async def leave() -> None:
        async for _ in OVER["buffered"]():
            break
        await bateau.yield_now()

    async def main() -> None:
        assert await raised_by(leave) == [Unflushed]

    entry.run(main)


def test_an_error_of_an_early_end_stands_in_its_place_and_the_rest_follows(entry):
    async def main() -> None:
        it = bateau.iter(failing()).take(2).chain([7])
        assert [await it.next(), await it.next()] == [0, 1]
        with pytest.raises(Unflushed):
            await it.next()
        assert await it.next() == 7

    entry.run(main)


def test_generators_that_are_flattened_are_closed_one_by_one(entry):
    opened: list[int] = []

    def part(item: int) -> Iterator[int]:
        opened.append(item)
        try:
            yield item
            yield item
        finally:
            opened.remove(item)

    async def main() -> None:
        async for _ in bateau.iter(range(5)).flat_map(lambda item: bateau.iter(part(item)).take(1)):
            assert len(opened) == 1
        assert not opened

    entry.run(main)


def test_a_file_of_the_users_stays_open(entry, tmp_path):
    path = tmp_path / "lines"
    path.write_text("a\nb\nc\n")

    async def main() -> None:
        with path.open() as lines:
            assert await bateau.iter(lines).take(1).collect() == ["a\n"]
            async with bateau.iter(lines) as it:
                assert await it.next() == "b\n"
            assert lines.readline() == "c\n"

    entry.run(main)


@pytest.mark.parametrize("way", ["block", "aclose"])
@pytest.mark.parametrize("form", MAIN)
def test_who_leaves_can_catch_it_and_go_on(entry, form, way):
    async def main() -> None:
        async with bateau.scope():
            with pytest.raises(BaseExceptionGroup) as caught:
                if way == "block":
                    async with FORMS[form](work) as it:
                        await begin_second(it)
                else:
                    it = FORMS[form](work)
                    await begin_second(it)
                    await it.aclose()
            assert [type(one) for one in leaves(caught.value)] == [Unflushed]
            await bateau.yield_now()

    entry.run(main)
