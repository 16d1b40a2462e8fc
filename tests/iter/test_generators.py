"""``@bateau.generator``: a task of its own, closed where its consumer leaves, nothing leaked over a ``yield`` (PEP 789, PEP 533)."""

from __future__ import annotations

import inspect
import time as clock
import traceback
from collections.abc import AsyncIterator
from contextvars import ContextVar
from itertools import count as count_from

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bateau
from bateau import sync, time
from bateau.iter import bodies, each
from bateau.iter.handoff import Handoff
from support.entries import on_asyncio_family, on_native, on_owned, on_trio
from support.waiting import until

var: ContextVar[str] = ContextVar("var", default="unset")


@bateau.generator
async def count(n: int, log: list[str] | None = None) -> AsyncIterator[int]:
    """Count to ``n``."""
    try:
        for i in range(n):
            await time.sleep(0.001)
            yield i
    finally:
        if log is not None:
            await time.sleep(0.001)
            log.append("closed")


# -- making ------------------------------------------------------------------------------------------------------------


def test_it_is_an_iterator_with_combinators(entry):
    async def main():
        assert [n async for n in count(3)] == [0, 1, 2]
        assert await count(3).collect() == [0, 1, 2]
        assert await count(5).map(str).filter(lambda text: text != "1").take(3).collect() == ["0", "2", "3"]
        numbers = count(2)
        assert (await numbers.next(), await numbers.next(), await numbers.next("end")) == (0, 1, "end")
        assert await bateau.iter(lambda: count(2)).collect() == [0, 1]

    entry.run(main)


class Store:
    items = (1, 2)

    @bateau.generator
    async def each_item(self) -> AsyncIterator[int]:
        for item in self.items:
            yield item

    @staticmethod
    @bateau.generator
    async def inner() -> AsyncIterator[str]:
        yield "inner"

    @bateau.generator
    @staticmethod
    async def outer() -> AsyncIterator[str]:
        yield "outer"

    @classmethod
    @bateau.generator
    async def of_class(cls) -> AsyncIterator[int]:
        yield len(cls.items)


@on_native
def test_methods(entry):
    async def main():
        store = Store()
        assert await store.each_item().collect() == [1, 2]
        assert await Store.each_item(store).collect() == [1, 2]
        assert await Store.inner().collect() + await store.outer().collect() == ["inner", "outer"]
        assert await Store.of_class().collect() == [2]

    entry.run(main)


def test_metadata_and_arguments():
    assert (count.__name__, count.__doc__) == ("count", "Count to ``n``.")
    assert list(inspect.signature(count).parameters) == ["n", "log"]
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        count()
    assert repr(count(1)) == "<AsyncIter count()>"


def test_nothing_runs_before_it_is_driven(entry):
    ran = []

    @bateau.generator
    async def eager() -> AsyncIterator[int]:
        ran.append(1)
        yield 1

    async def main():
        made = eager()
        await time.sleep(0.001)
        assert ran == []
        async with made:
            await bateau.checkpoint()
        assert ran == []

    entry.run(main)


def test_it_runs_only_between_two_nexts(entry):
    log = []

    @bateau.generator
    async def three() -> AsyncIterator[int]:
        for n in range(3):
            log.append(f"made {n}")
            yield n

    async def main():
        async for n in three():
            log.append(f"used {n}")
            await time.sleep(0.002)

    entry.run(main)
    assert log == ["made 0", "used 0", "made 1", "used 1", "made 2", "used 2"]


@pytest.mark.parametrize("end", ["loop", "collect", "buffered"])
def test_one_task_of_its_own_from_the_first_line_to_the_last(entry, end):
    seen = []

    @bateau.generator
    async def who() -> AsyncIterator[int]:
        try:
            for n in range(4):
                seen.append(bateau.current_task())
                yield n
        finally:
            seen.append(bateau.current_task())

    async def same(n):
        await bateau.checkpoint()
        return n

    async def main():
        if end == "loop":
            async for _ in who():
                pass
        elif end == "collect":
            await who().collect()
        else:
            await who().map(same).buffered(2).collect()
        assert len(seen) == 5
        assert len(set(seen)) == 1
        assert seen[0] is not bateau.current_task()

    entry.run(main)


# -- closing -----------------------------------------------------------------------------------------------------------


def test_closed_at_break_before_the_next_wait_is_over(entry):
    async def main():
        log = []
        async for n in count(10, log):
            if n == 2:
                break
        await bateau.checkpoint()
        assert log == ["closed"]

    entry.run(main)


def test_closed_by_an_exception_in_the_loop(entry):
    async def main():
        log = []
        with pytest.raises(KeyError):
            async for _ in count(10, log):
                raise KeyError
        await bateau.checkpoint()
        assert log == ["closed"]

    entry.run(main)


def test_closed_at_the_end_of_its_block_though_still_referred_to(entry):
    async def main():
        log = []
        numbers = count(10, log)
        async with numbers:
            assert await numbers.next() == 0
            assert log == []
        assert log == ["closed"]
        others = count(10, log)
        await others.next()
        await others.aclose()
        assert log == ["closed", "closed"]

    entry.run(main)


def test_how_it_is_told(entry):
    """``GeneratorExit`` at a yield, with time for what it awaits; ``Cancelled`` in a wait."""
    log = []

    @bateau.generator
    async def told() -> AsyncIterator[int]:
        try:
            yield 1
            await time.sleep(60)
        except BaseException as error:
            log.append("Cancelled" if isinstance(error, bateau.Cancelled) else type(error).__name__)
            raise
        finally:
            try:
                await time.sleep(0.001)
                log.append("slept")
            except bateau.Cancelled:
                log.append("no time")
                raise

    async def main():
        async for _ in told():
            break
        await bateau.checkpoint()
        assert log == ["GeneratorExit", "slept"]
        log.clear()
        with bateau.move_on_after(0.01):
            async for _ in told():
                pass
        await bateau.checkpoint()
        assert log == ["Cancelled", "no time"]

    entry.run(main)


@pytest.mark.law(5)
@pytest.mark.parametrize("form", ["for", "with", "collect", "each"])
def test_cancelled_at_every_point(entry, form):
    """The consumer is cancelled after each possible number of turns; whatever was opened is closed, in order, before it goes on."""
    log: list[str] = []

    class Resource:
        def __init__(self, name):
            self.name = name

        async def __aenter__(self):
            await bateau.yield_now()
            log.append(f"+{self.name}")

        async def __aexit__(self, *exc):
            log.append(f"-{self.name}")
            async with bateau.cleanup(5):
                await bateau.yield_now()
                log.append(f"*{self.name}")

    @bateau.generator
    async def inner() -> AsyncIterator[int]:
        async with Resource("b"):
            for n in range(2):
                yield n
                await bateau.yield_now()

    @bateau.generator
    async def numbers() -> AsyncIterator[int]:
        async with Resource("a"), bateau.scope() as scope:
            scope.spawn(time.sleep, 60, background=True)
            if form == "each":
                yield each(inner())
            else:
                async for n in inner():
                    yield n
                await bateau.yield_now()

    async def consume():
        if form == "collect":
            await numbers().collect()
        elif form == "with":
            async with numbers() as items:
                async for _ in items:
                    await bateau.yield_now()
        else:
            async for _ in numbers():
                await bateau.yield_now()

    async def main():
        done = False
        turns = 0
        opened = 0
        while not done:
            log.clear()
            async with bateau.scope() as scope:
                task = scope.spawn(consume)
                for _ in range(turns):
                    await bateau.yield_now()
                done = task.ended
                scope.cancel()
            ups = [entry[1:] for entry in log if entry[0] == "+"]
            assert [entry[1:] for entry in log if entry[0] == "-"] == ups[::-1], (turns, log)
            assert [entry[1:] for entry in log if entry[0] == "*"] == ups[::-1], (turns, log)
            opened = max(opened, len(ups))
            turns += 1
        assert turns > 10
        assert opened == 2

    entry.run(main)


def test_left_at_every_item(entry):
    """A ``break`` after each possible number of items, in a generator that reads from another."""
    log: list[str] = []

    @bateau.generator
    async def outer(n: int) -> AsyncIterator[int]:
        try:
            async for item in count(n, log):
                yield item
        finally:
            log.append("outer closed")

    async def main():
        for most in range(5):
            log.clear()
            got = []
            async for item in outer(4):
                if len(got) == most:
                    break
                got.append(item)
            await bateau.checkpoint()
            assert got == list(range(min(most, 4)))
            assert sorted(log) == ["closed", "outer closed"], (most, log)

    entry.run(main)


def test_a_finally_that_takes_too_long(entry, monkeypatch):
    monkeypatch.setattr(bodies, "BUDGET", 0.02)
    log = []

    @bateau.generator
    async def slow() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            try:
                await time.sleep(60)
            finally:
                log.append(bateau.now())

    async def main():
        begun = bateau.now()
        async for _ in slow():
            break
        await bateau.checkpoint()
        assert len(log) == 1
        assert log[0] - begun >= 0.019  # uvloop's clock has whole milliseconds

    with pytest.warns(bateau.HazardWarning, match="cleanup_overrun: the closing of .*slow.. used up its budget"):
        entry.run(main)


def test_a_yield_after_the_end_is_told(entry):
    @bateau.generator
    async def stubborn() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            yield 2

    async def main():
        async with stubborn() as items:
            await items.next()

    with pytest.raises(BaseExceptionGroup) as caught:
        entry.run(main)
    error = caught.value
    while isinstance(error, BaseExceptionGroup):
        [error] = error.exceptions
    what, where, fix = str(error).splitlines()
    assert "stubborn() went on to another `yield` after its consumer had left" in what
    assert __file__ in where
    assert "GeneratorExit" in fix


def test_an_error_of_the_closing_is_raised(entry):
    @bateau.generator
    async def failing() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await time.sleep(0.001)
            raise KeyError("closing")

    async def main():
        async with failing() as items:
            await items.next()

    with pytest.raises(BaseExceptionGroup) as caught:
        entry.run(main)
    assert caught.group_contains(KeyError)


def test_an_error_that_nobody_fetched_is_raised(entry):
    @bateau.generator
    async def failing() -> AsyncIterator[int]:
        yield 1
        asking[0].cancel()
        await cancelled.wait()
        failed.set()
        raise KeyError("unseen")

    asking = []
    cancelled, failed = bateau.sync.Event(), bateau.sync.Event()

    async def main():
        async with failing() as items:
            await items.next()
            with bateau.move_on_after(60) as limit:
                asking.append(limit)
                await items.next()
            cancelled.set()
            await failed.wait()  # it is not asked again

    with pytest.raises(BaseExceptionGroup) as caught:
        entry.run(main)
    assert caught.group_contains(KeyError)


# -- errors ------------------------------------------------------------------------------------------------------------


def test_an_error_reaches_the_consumer_with_the_users_frames(entry):
    @bateau.generator
    async def failing() -> AsyncIterator[int]:
        yield 1
        await boom()

    async def boom():
        raise KeyError("here")

    async def consumer():
        async for _ in failing():
            pass

    async def main():
        with pytest.raises(KeyError) as caught:
            await consumer()
        names = [
            frame.name
            for frame in traceback.extract_tb(caught.value.__traceback__)
            if not frame.filename.startswith(bateau.__path__[0])
        ]
        assert names == ["main", "consumer", "failing", "boom"]

    entry.run(main)


def test_after_its_error_it_is_at_its_end(entry):
    @bateau.generator
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise KeyError

    async def main():
        items = failing()
        assert await items.next() == 1
        with pytest.raises(KeyError):
            await items.next()
        assert await items.next("end") == "end"
        with pytest.raises(KeyError):
            await failing().collect()

    entry.run(main)


# -- scopes around a yield (PEP 789) -----------------------------------------------------------------------------------


def test_a_timeout_around_a_yield_is_not_the_consumers(entry):
    log, limits = [], []

    @bateau.generator
    async def impatient() -> AsyncIterator[str]:
        with bateau.move_on_after(0.02) as limit:
            limits.append(limit)
            yield "first"
            log.append("went on")
        yield f"caught {limit.cancelled_caught}"

    async def main():
        got = []
        async for item in impatient():
            got.append(item)
            await until(lambda: limits[0].cancel_called)
            await time.sleep(0.03)  # beyond the generator's timeout, and not touched by it
            got.append("slept")
        assert got == ["first", "slept", "caught True", "slept"]
        assert log == []

    entry.run(main)


def test_a_timeout_that_raises_comes_out_of_next(entry):
    limits = []

    @bateau.generator
    async def impatient() -> AsyncIterator[int]:
        with bateau.timeout(0.01) as limit:
            limits.append(limit)
            yield 1

    async def main():
        slept = False
        with pytest.raises(TimeoutError):
            async for _ in impatient():
                await until(lambda: limits[0].cancel_called)
                await time.sleep(0.01)  # it has met it: to be asked for more at that very moment would count
                slept = True
        assert slept

    entry.run(main)


def test_a_timeout_that_passes_while_nothing_runs_is_raised(entry):
    """The thread stands still beyond the deadline. Whoever is the first to see that, it has expired, and says so once."""

    @bateau.generator
    async def impatient() -> AsyncIterator[int]:
        with bateau.timeout(0.01):
            yield 1

    async def main():
        for _ in range(6):  # which task trio steps first is random
            with pytest.raises(TimeoutError):
                async for _ in impatient():
                    clock.sleep(0.02)
                    await time.sleep(0.01)

    entry.run(main)


def test_a_consumers_timeout_is_not_the_generators(entry):
    @bateau.generator
    async def numbers() -> AsyncIterator[int]:
        for n in range(3):
            await time.sleep(0.03)
            yield n

    async def main():
        items = numbers()
        got: list[int] = []
        given_up = 0
        while len(got) < 3:
            with bateau.move_on_after(0.01):
                got.append(await items.next())
                continue
            given_up += 1
        assert got == [0, 1, 2]
        assert given_up >= 3
        await items.aclose()

    entry.run(main)


def test_a_child_that_fails_ends_the_generator_and_not_the_consumer(entry):
    @bateau.generator
    async def with_child() -> AsyncIterator[int]:
        async with bateau.scope() as scope:
            scope.spawn(fail)
            for n in range(10):
                yield n

    failed = []

    async def fail():
        await time.sleep(0.01)
        failed.append(True)
        raise KeyError("child")

    async def main():
        slept = 0
        with pytest.raises(BaseExceptionGroup) as caught:
            async for _ in with_child():
                await until(lambda: failed)
                await time.sleep(0.01)
                slept += 1
        assert caught.group_contains(KeyError)
        assert slept == 1

    entry.run(main)


def test_it_does_not_run_ahead_of_an_item_nobody_has_taken(entry):
    made = []

    @bateau.generator
    async def ticks() -> AsyncIterator[int]:
        for n in range(100):
            with bateau.move_on_after(0.005):
                made.append(n)
                yield n

    async def main():
        async with ticks() as items:
            assert await items.next() == 0
            await until(lambda: len(made) == 2)
            await time.sleep(0.03)
            assert made == [0, 1]
            assert await items.next() == 1

    entry.run(main)


def test_locks_and_scopes_in_any_order(entry):
    async def main():
        lock = sync.Lock()

        @bateau.generator
        async def guarded() -> AsyncIterator[int]:
            async with lock:
                yield 1
                yield 2

        async with bateau.scope():
            a = guarded()
            await a.next()
            with bateau.move_on_after(5):
                b = guarded()  # waits for the lock
                with bateau.move_on_after(0.01):
                    await b.next()
            assert lock.locked()
            await a.aclose()
            assert await b.next() == 1  # what the timed-out call asked for
            await b.aclose()
            assert not lock.locked()

    entry.run(main)


@on_trio
def test_a_nursery_around_a_yield(entry):
    import trio

    log = []

    @bateau.generator
    async def nursed(seconds: float) -> AsyncIterator[int]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 60)
            with trio.move_on_after(seconds) as limit:
                yield 1
            log.append(limit.cancelled_caught)
            yield 2
            nursery.cancel_scope.cancel()
        yield 3

    async def main():
        got = []
        async for item in nursed(0.01):
            got.append(item)
            while len(log) < 1:  # while it stands at its yield
                await trio.sleep(0.001)
        assert got == [1, 2, 3]
        async for _ in nursed(60):
            break
        await bateau.checkpoint()
        with trio.CancelScope() as limit:
            async for _ in nursed(0.01):
                while len(log) < 2:
                    await trio.sleep(0.001)
                limit.cancel()
                await trio.sleep(60)
        assert limit.cancelled_caught

    entry.run(main)
    assert log == [True, True]


@on_asyncio_family
def test_a_task_group_around_a_yield(entry):
    import asyncio

    @bateau.generator
    async def grouped() -> AsyncIterator[int]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.sleep(60))
            try:
                async with asyncio.timeout(0.01):
                    yield 1
            except TimeoutError:
                yield 2
            finally:
                task.cancel()
        yield 3

    async def fail():
        await asyncio.sleep(0.01)
        raise KeyError

    @bateau.generator
    async def failing() -> AsyncIterator[int]:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            yield 1
            yield 2

    async def main():
        got = []
        async for item in grouped():
            got.append(item)
            await asyncio.sleep(0.03)
        assert got == [1, 2, 3]
        async for _ in grouped():
            break
        await bateau.checkpoint()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                async for _ in grouped():
                    await asyncio.sleep(60)
        slept = False
        with pytest.raises(ExceptionGroup):
            async for _ in failing():
                await asyncio.sleep(0.03)
                slept = True
        assert slept
        assert asyncio.current_task().cancelling() == 0

    entry.run(main)


def test_a_plain_async_generator_as_a_source(entry):
    """Nothing in its way either: only the class of what the call returns differs."""
    log = []

    async def raw():
        try:
            with bateau.timeout(5):
                async with bateau.scope() as scope:
                    scope.spawn(time.sleep, 60, background=True)
                    yield 1
                    yield 2
        finally:
            await bateau.checkpoint()
            log.append("closed")

    async def main():
        assert await bateau.iter(raw()).take(1).collect() == [1]
        assert await bateau.iter(raw()).map(str).buffered(2).take(1).collect() == ["1"]
        async for _ in bateau.iter(raw()):
            break
        await bateau.checkpoint()
        assert log == ["closed"] * 3

    entry.run(main)


# -- context -----------------------------------------------------------------------------------------------------------


def test_context_variables(entry):
    @bateau.generator
    async def reads() -> AsyncIterator[str]:
        yield var.get()
        var.set("generator")
        yield var.get()
        yield var.get()

    async def main():
        items = reads()
        var.set("consumer")
        assert await items.next() == "consumer"
        var.set("consumer, later")
        assert await items.next() == "generator"
        assert var.get() == "consumer, later"
        assert await items.next() == "generator"
        await items.aclose()

    entry.run(main)


# -- recursion ---------------------------------------------------------------------------------------------------------


@bateau.generator
async def tree(depth: int) -> AsyncIterator[int]:
    yield depth
    for _ in range(2 if depth else 0):
        yield each(tree(depth - 1))


def preorder(depth: int) -> list[int]:
    return [depth, *(preorder(depth - 1) * 2 if depth else [])]


def test_a_tree(entry):
    async def main():
        assert await tree(4).collect() == preorder(4)
        assert [depth async for depth in tree(3)] == preorder(3)
        assert await tree(4).take(9).collect() == preorder(4)[:9]

    entry.run(main)


@on_native
def test_every_item_is_handed_over_once_at_any_depth(entry, monkeypatch):
    handed = []
    put = Handoff.put

    def counting(self, item):
        handed.append(item)
        put(self, item)

    @bateau.generator
    async def chain(depth: int) -> AsyncIterator[int]:
        if depth:
            yield each(chain(depth - 1))
        else:
            for n in range(100):
                yield n

    async def main():
        monkeypatch.setattr(Handoff, "put", counting)
        assert await chain(300).collect() == list(range(100))
        assert [item for item in handed if isinstance(item, int)] == list(range(100))

    entry.run(main)


def test_each_takes_anything_to_iterate_over(entry):
    async def raw():
        yield "raw"

    @bateau.generator
    async def mixed() -> AsyncIterator[object]:
        yield each([1, 2])
        yield each(raw())
        yield each(count(3).map(lambda n: n * n).prefetch(2))
        yield each(())
        yield "own"

    async def main():
        assert await mixed().collect() == [1, 2, "raw", 0, 1, 4, "own"]
        assert [item async for item in mixed()] == [1, 2, "raw", 0, 1, 4, "own"]

    entry.run(main)


@pytest.mark.parametrize("through", ["generator", "chain"])
def test_an_error_of_each_is_raised_at_the_yield(entry, through):
    @bateau.generator
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise KeyError("inner")

    @bateau.generator
    async def outer() -> AsyncIterator[object]:
        try:
            yield each(failing() if through == "generator" else failing().map(lambda n: n))
        except KeyError as error:
            yield f"caught {error}"
        yield each(failing())

    async def main():
        items = outer()
        assert [await items.next(), await items.next()] == [1, "caught 'inner'"]
        assert await items.next() == 1
        with pytest.raises(KeyError):
            await items.next()
        assert await items.next(None) is None

    entry.run(main)


@pytest.mark.parametrize("through", ["generator", "chain"])
def test_a_timeout_around_each(entry, through):
    log = []

    @bateau.generator
    async def outer() -> AsyncIterator[object]:
        with bateau.move_on_after(0.05) as limit:
            yield each(count(10_000, log) if through == "generator" else count(10_000, log).map(lambda n: n))
        yield f"caught {limit.cancelled_caught}"

    async def main():
        got = await outer().collect()
        assert got[-1] == "caught True"
        assert got[:-1] == list(range(len(got) - 1))
        got = []
        async for item in outer():  # it expires while the generator stands at a yield
            got.append(item)
            if len(got) < 3:
                await time.sleep(0.05)
        assert got in ([0, "caught True"], ["caught True"])  # the latter if this machine stood still before the first

    entry.run(main)


def test_each_is_closed_before_its_parent(entry):
    log = []

    @bateau.generator
    async def nested(depth: int) -> AsyncIterator[int]:
        try:
            if depth:
                yield each(nested(depth - 1))
            yield depth
        finally:
            await time.sleep(0.001)
            log.append(depth)

    async def main():
        async for _ in nested(5):
            break
        await bateau.checkpoint()
        assert log == [0, 1, 2, 3, 4, 5]

    entry.run(main)


def test_each_misused(entry):
    with pytest.raises(TypeError, match="each\\(\\) takes something to iterate over, not a int"):
        each(3)
    with pytest.warns(RuntimeWarning, match="each\\(...\\) was made and never yielded"):
        each([1])
    with pytest.raises(AttributeError, match="stands for many items"):
        made = each([1])
        made.take_it()
    made.take()


# -- anything in any order ---------------------------------------------------------------------------------------------

BODY = st.lists(
    st.one_of(
        st.tuples(st.just("work"), st.integers(0, 3)),
        st.tuples(st.just("yield"), st.just(0)),
        st.tuples(st.just("cancelled yield"), st.integers(0, 3)),
        st.tuples(st.just("each"), st.integers(0, 3)),
    ),
    max_size=8,
)
CONSUMER = st.lists(
    st.one_of(
        st.tuples(st.just("next"), st.just(0)),
        st.tuples(st.just("next, given up"), st.integers(0, 6)),
        st.tuples(st.just("work"), st.integers(0, 3)),
    ),
    max_size=12,
)


async def turns(n):
    for _ in range(n):
        await bateau.yield_now()


async def cancel_after(n, scope):
    await turns(n)
    scope.cancel()


@pytest.mark.parametrize("entry", ["owned:native", "owned:asyncio", "owned:trio"], indirect=True)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODY, consumer=CONSUMER)
def test_items_come_in_order_and_none_is_lost(entry, body, consumer):
    """Whatever the two do: the consumer gets 0, 1, 2... without a gap, and the body is closed when it has left."""
    opened = []

    @bateau.generator
    async def numbers(steps, numbered) -> AsyncIterator[int]:
        opened.append(1)
        try:
            for what, n in steps:
                await turns(n if what == "work" else 0)
                if what == "yield":
                    yield next(numbered)
                elif what == "cancelled yield":
                    async with bateau.scope() as scope:
                        scope.spawn(cancel_after, n, scope, background=True)
                        yield next(numbered)
                elif what == "each":
                    yield each(numbers([("yield", 0), ("work", 1)] * n, numbered))
        finally:
            try:
                await turns(1)
            finally:
                opened.pop()

    async def main():
        got = []
        async with numbers(body, count_from(0)) as items:
            for what, n in consumer:
                if what == "work":
                    await turns(n)
                elif what == "next":
                    got.append(await items.next(None))
                else:
                    async with bateau.scope() as scope:
                        scope.spawn(cancel_after, n, scope, background=True)
                        got.append(await items.next(None))
        numbers_only = [n for n in got if n is not None]
        assert numbers_only == list(range(len(numbers_only)))
        assert opened == []

    entry.run(main)


# -- the end of the program --------------------------------------------------------------------------------------------


def test_kept_in_a_scope_that_ends(entry):
    """An iterator that outlives the scope it was first driven in: closed with the scope, and a named error afterwards."""
    log = []

    async def main():
        async with bateau.scope():
            numbers = count(10, log)
            await numbers.next()
        assert log == ["closed"]
        with pytest.raises((bateau.TaskCancelled, bateau.ScopeError, StopAsyncIteration)):
            await numbers.next()

    entry.run(main)


@on_owned
def test_still_open_at_the_end_of_the_program(entry):
    log = []

    async def main():
        main.numbers = count(10, log)
        await main.numbers.next()

    entry.run(main)
    assert log == ["closed"]
