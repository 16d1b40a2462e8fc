"""Errors in pipelines with several items under way: in their place, never swallowed, never a hang."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import bateau
from bateau.iter import AsyncIter
from support.entries import on_asyncio_family, on_asyncio_tasks
from support.waiting import until

METHODS = ["buffered", "buffered_unordered"]


async def drained(it: AsyncIter[Any]) -> list[Any]:
    """Every item, and in the place of each failed one its error."""
    got: list[Any] = []
    while True:
        try:
            item = await it.next(default=None)
        except Exception as error:
            got.append(error)
            continue
        if item is None:
            return got
        got.append(item)


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("bad", [StopIteration, StopAsyncIteration, ValueError, TimeoutError])
def test_an_error_stands_in_its_place_and_the_rest_follows(entry, bad, waits):
    async def work(item: int) -> int:
        if waits:
            await bateau.yield_now()
        if item % 3 == 2:
            raise bad(item)
        return item

    async def main() -> None:
        got = await drained(bateau.iter(range(1, 10)).map(work).buffered(4))
        assert [item if isinstance(item, int) else "error" for item in got] == [
            1,
            "error",
            3,
            4,
            "error",
            6,
            7,
            "error",
            9,
        ]
        for error in got:
            if not isinstance(error, int):
                assert type(error) is (RuntimeError if issubclass(bad, (StopIteration, StopAsyncIteration)) else bad)

    entry.run(main)


@pytest.mark.parametrize("method", METHODS)
def test_collect_raises_the_first_error_in_order(entry, method):
    async def work(item: int) -> int:
        for _ in range(20 - item):
            await bateau.yield_now()
        if item in (3, 7):
            raise KeyError(item)
        return item

    async def main() -> None:
        with pytest.raises(KeyError) as caught:
            await getattr(bateau.iter(range(20)).map(work), method)(10).collect()
        assert caught.value.args == ((3,) if method == "buffered" else (7,))

    entry.run(main)


def test_a_worker_that_failed_goes_on_with_the_next_item(entry):
    async def work(item: int) -> int:
        await bateau.yield_now()
        if item < 50:
            raise OSError(item)
        return item

    async def main() -> None:
        for chain in (
            bateau.iter(range(60)).map(work).buffered(3),
            bateau.iter(range(60)).map(work).filter(lambda _: True).buffered(3),
        ):
            got = await drained(chain)
            assert [e.args[0] for e in got[:50]] == list(range(50))
            assert got[50:] == list(range(50, 60))

    entry.run(main)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_is_worse_than_an_exception_reaches_the_consumer(entry, kind):
    async def work(item: int) -> int:
        await bateau.yield_now()
        if item == 3:
            raise kind("from the function")
        return item

    async def main() -> str:
        got = []
        try:
            async for item in bateau.iter(range(10)).map(work).buffered(2):
                got.append(item)
        except BaseException as error:
            group: Any = error
            while isinstance(group, BaseExceptionGroup):
                group = group.exceptions[0]
            assert isinstance(group, (kind, bateau.TaskCancelled, bateau.Cancelled))
            assert got == [0, 1, 2]
            return "raised"
        return "quiet"

    try:
        assert entry.run(main) == "raised"
    except BaseException as error:
        found: Any = error
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        assert isinstance(found, (kind, RuntimeError)), error  # noqa: PT017


@on_asyncio_family
def test_a_function_that_lets_a_foreign_cancellation_out(entry):
    import asyncio

    async def work(item: int) -> int:
        await bateau.yield_now()
        if item == 2:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        return item

    async def main() -> None:
        got = await drained(bateau.iter(range(1, 7)).map(work).buffered(2))
        assert [item for item in got if isinstance(item, int)] == [1, 3, 4, 5, 6]
        assert isinstance(got[1], bateau.TaskCancelled)
        assert "was not cancelled itself" in str(got[1])

    entry.run(main)


@on_asyncio_tasks
def test_a_worker_that_foreign_code_cancels_costs_its_item_only(entry):
    import asyncio

    async def work(item: int) -> int:
        if item == 2:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        await bateau.yield_now()
        return item

    async def main() -> None:
        got = await drained(bateau.iter(range(1, 9)).map(work).buffered(2))
        assert len(got) == 8
        assert [item for item in got if isinstance(item, int)] == [1, 3, 4, 5, 6, 7, 8]
        assert isinstance(got[1], bateau.TaskCancelled)

    entry.run(main)


def test_a_source_that_fails_ends_there(entry):
    def source() -> Any:
        yield 1
        yield 2
        raise OSError("source")

    async def asource() -> AsyncIterator[int]:
        yield 1
        await bateau.yield_now()
        yield 2
        raise OSError("source")

    async def main() -> None:
        for made in (source, asource):
            for build in (
                lambda it: it.map(lambda x: x).buffered(3),
                lambda it: it.prefetch(3),
                lambda it: it.map(lambda x: x).buffered_unordered(1),
                lambda it: it.merge([]),
                lambda it: it.interleave([]),
                lambda it: it.tee(1)[0],
                lambda it: it.share().iter(),
            ):
                got = await drained(build(bateau.iter(made())))
                assert got[:2] == [1, 2]
                assert isinstance(got[2], OSError)
                assert len(got) == 3

    entry.run(main)


def test_the_generator_of_a_left_loop_fails_to_close(entry):
    """Errors while closing are never swallowed: they are raised at the consumer's next wait, or by the scope around."""

    async def source() -> AsyncIterator[int]:
        try:
            for i in range(10):
                yield i
        finally:
            await bateau.yield_now()
            raise OSError("closing")

    async def work(item: int) -> int:
        return item

    async def leave() -> None:
        async for _ in bateau.iter(source()).map(work).buffered(2):
            break
        for _ in range(3):
            await bateau.yield_now()

    async def scoped() -> None:
        async with bateau.scope():
            await leave()

    async def entered() -> None:
        async with bateau.iter(source()).map(work).buffered(2) as it:
            assert await it.next() == 0

    async def closed() -> None:
        it = bateau.iter(source()).map(work).buffered(2)
        assert await it.next() == 0
        await it.aclose()

    for fn in (leave, scoped, entered, closed):
        with pytest.raises((OSError, BaseExceptionGroup)) as caught:
            entry.run(fn)
        error: Any = caught.value
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        assert isinstance(error, OSError)
        assert error.args == ("closing",)


def test_an_error_in_the_body_is_not_lost_behind_an_error_of_closing(entry):
    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            raise OSError("closing")

    async def main() -> None:
        async with bateau.iter(source()) as it:
            assert await it.next() == 1
            raise KeyError("body")

    with pytest.raises(BaseException) as caught:
        entry.run(main)
    seen = []

    def walk(error: BaseException | None) -> None:
        if error is not None and error not in seen:
            seen.append(error)
            walk(error.__context__)
            walk(error.__cause__)
            for part in getattr(error, "exceptions", ()):
                walk(part)

    walk(caught.value)
    assert {type(error) for error in seen} >= {KeyError, OSError}


@pytest.mark.parametrize("build", ["buffered", "prefetch", "merge", "generator"])
def test_driven_after_its_scope_has_ended(entry, build):
    """What was not reached is an error, never a quiet end."""

    async def source() -> AsyncIterator[int]:
        for i in range(10):
            await bateau.yield_now()
            yield i

    def made() -> AsyncIter[int]:
        it = bateau.iter(source())
        if build == "buffered":
            return it.map(lambda x: x).buffered(2)
        if build == "prefetch":
            return it.prefetch(2)
        return it.merge([]) if build == "merge" else it

    async def main() -> None:
        it = made()
        async with bateau.scope():
            assert await it.next() == 0
        with pytest.raises((bateau.TaskCancelled, bateau.ScopeError)) as caught:
            async for _ in it:
                pass
        assert "ended" in str(caught.value)
        await it.aclose()

    entry.run(main)


def test_the_given_scope_ends_first(entry):
    async def work(item: int) -> int:
        await bateau.time.sleep(3600)
        return item

    async def main() -> None:
        async with bateau.scope() as outer:
            async with bateau.scope() as scope:
                it = bateau.iter(range(10)).map(work).buffered_in(2, scope)
                waiting = outer.spawn(drained, it)
                await until(lambda: waiting.waiting is not None)
                scope.cancel()
            got = await waiting
        assert got
        assert all(isinstance(error, (bateau.TaskCancelled, bateau.ScopeError)) for error in got)

    entry.run(main)
