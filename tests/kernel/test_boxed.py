"""Recursion of any depth: values, errors, cancellation and closing, at a constant cost per resume (law 18, S10)."""

from __future__ import annotations

import gc
import sys
import traceback
import types

import pytest

import bateau
from bateau import boxed
from support.entries import on_asyncio_family, on_native, on_trio

DEEP = 100_000


@boxed
async def count_down(n: int) -> int:
    if n == 0:
        return 0
    return 1 + await count_down(n - 1)


def depth_for(entry):
    """The trampoline is the same everywhere: the full depth where it is quickest, and one no stack would bear elsewhere."""
    return DEEP if entry.runtime in ("native", "trio") else DEEP // 5


@boxed
async def is_even(n: int) -> bool:
    return n == 0 or await is_odd(n - 1)


@boxed
async def is_odd(n: int) -> bool:
    return n != 0 and await is_even(n - 1)


def test_a_hundred_thousand_deep(entry):
    assert entry.run(count_down, depth_for(entry)) == depth_for(entry)


def test_mutual_recursion(entry):
    assert entry.run(is_even, 20_001) is False


def test_without_boxed_it_is_one_short_error(entry):
    async def plain(n):
        return 0 if n == 0 else 1 + await plain(n - 1)

    with pytest.raises(RecursionError) as caught:
        entry.run(plain, DEEP)
    assert caught.value is not None


def test_waits_at_depth(entry):
    @boxed
    async def walk(n, seen):
        if n % 1000 == 0:
            await bateau.yield_now()
        if n:
            await walk(n - 1, seen)
        seen.append(n)

    seen: list[int] = []
    entry.run(walk, 20_000, seen)
    assert seen == list(range(20_001))


def test_an_error_unwinds_from_any_depth_with_a_short_traceback(entry):
    @boxed
    async def fall(n):
        if n == 0:
            raise ValueError("at the bottom")
        await fall(n - 1)

    with pytest.raises(ValueError, match="at the bottom") as caught:
        entry.run(fall, depth_for(entry))
    shown = "".join(traceback.format_exception(caught.value))
    assert len(traceback.extract_tb(caught.value.__traceback__)) < 120
    assert "frames of boxed calls left out" in shown
    assert 'raise ValueError("at the bottom")' in shown


def test_an_error_is_caught_where_the_code_says(entry):
    @boxed
    async def fall(n):
        if n == 0:
            raise KeyError("x")
        try:
            await fall(n - 1)
        except KeyError:
            if n == 500:
                return "caught"
            raise
        return "unreached" if n < 500 else "passed on"

    @boxed
    async def outer():
        return await fall(1000)

    assert entry.run(outer) == "passed on"


def test_errors_keep_cause_and_context(entry):
    @boxed
    async def inner():
        raise KeyError("inner")

    @boxed
    async def wrap():
        try:
            await inner()
        except KeyError as error:
            raise ValueError("outer") from error

    @boxed
    async def top():
        with pytest.raises(ValueError, match="outer") as caught:
            await wrap()
        assert isinstance(caught.value.__cause__, KeyError)
        assert isinstance(caught.value.__context__, KeyError)
        assert sys.exc_info() == (None, None, None)
        with pytest.raises(RuntimeError, match="unrelated") as unrelated:
            await later()
        assert unrelated.value.__context__ is None

    @boxed
    async def later():
        raise RuntimeError("unrelated")

    entry.run(top)


def test_unboxed_coroutines_and_generators_may_lie_between(entry):
    @boxed
    async def step(n):
        return await plain(n - 1) if n else "end"

    async def plain(n):
        return await bridge(n)

    @types.coroutine
    def bridge(n):
        return (yield from step(n).__await__())

    assert entry.run(step, 5000) == "end"

    @boxed
    async def through_agen(n):
        if n == 0:
            return 0
        total = 0
        agen = numbers(n - 1)
        async for value in agen:
            total += value
        return total

    async def numbers(n):
        yield 1
        yield await through_agen(n)

    assert entry.run(through_agen, 1000) == 1000


@pytest.mark.law(5)
def test_cancellation_at_depth_runs_every_finally(entry):
    left: list[int] = []

    @boxed
    async def deep(n):
        try:
            if n == 0:
                await forever()
            await deep(n - 1)
        finally:
            left.append(n)

    async def forever():
        await bateau.Token().wait()

    async def main():
        async with bateau.scope() as scope:
            task = scope.spawn(deep, 10_000)
            await bateau.yield_now()
            await bateau.yield_now()
            assert left == []
            task.cancel("enough")
        assert left == list(range(10_001))

    entry.run(main)


def test_cleanup_with_awaits_at_depth(entry):
    cleaned: list[int] = []

    @boxed
    async def close_one(n):
        await bateau.yield_now()
        cleaned.append(n)

    @boxed
    async def deep(n):
        try:
            if n == 0:
                await bateau.Token().wait()
            await deep(n - 1)
        finally:
            async with bateau.cleanup(5):
                await close_one(n)

    async def main():
        with bateau.move_on_after(0.05) as limit:
            await deep(200)
        assert limit.cancelled_caught

    entry.run(main)
    assert cleaned == list(range(201))


def test_the_coroutine_protocol_by_hand():
    @boxed
    async def add(a, b):
        got = await trap("one")
        return a + b + got

    @types.coroutine
    def trap(value):
        return (yield value)

    call = add(1, 2)
    assert call.send(None) == "one"
    with pytest.raises(StopIteration) as stop:
        call.send(10)
    assert stop.value.value == 13
    with pytest.raises(RuntimeError, match="already awaited"):
        call.send(None)


def closing(how):
    """Drop or close a call that is suspended at depth; every finally must run, innermost first."""
    left: list[int] = []

    @types.coroutine
    def trap():
        yield "suspended"

    @boxed
    async def deep(n):
        try:
            if n == 0:
                await trap()
            await deep(n - 1)
        finally:
            if n % 1000 == 0:
                await tidy(n)
            else:
                left.append(n)

    @boxed
    async def tidy(n):  # a boxed call that does not suspend is fine in a coroutine that is being closed
        left.append(n)

    async def main():
        call = deep(DEEP)
        # By hand, inside a boxed call of the same task, as the collector might do it.
        outer = bateau.current_task().boxes
        bateau.current_task().boxes = None
        try:
            assert call.send(None) == "suspended"
        finally:
            bateau.current_task().boxes = outer
        how(call)
        del call
        gc.collect()
        assert left == list(range(DEEP + 1))

    bateau.run(boxed(main))


def test_close_at_depth():
    closing(lambda call: call.close())


def test_dropped_at_depth():
    closing(lambda call: None)


def test_close_passes_on_errors():
    @types.coroutine
    def trap():
        yield "suspended"

    @boxed
    async def inner():
        try:
            await trap()
        finally:
            raise ValueError("cleanup failed")

    @boxed
    async def outer(absorb):
        try:
            await hold(inner())
        except ValueError:
            if not absorb:
                raise

    @boxed
    async def hold(call):
        await call

    async def main(absorb):
        call = outer(absorb)
        await drive(call)
        call.close()

    async def drive(call):
        assert call.send(None) == "suspended"

    bateau.run(main, True)
    with pytest.raises(ValueError, match="cleanup failed"):
        bateau.run(main, False)


def resume_events(depth):
    """Profile events of resuming a task that is suspended at ``depth``."""
    events = 0

    @boxed
    async def deep(n):
        if n:
            await deep(n - 1)
        else:
            await bateau.yield_now()
            start()
            await bateau.yield_now()
            stop()

    def start():
        sys.setprofile(count)

    def stop():
        sys.setprofile(None)

    def count(frame, event, arg):
        nonlocal events
        events += 1

    bateau.run(deep, depth, runtime="native")
    return events


def test_a_resume_costs_the_same_at_any_depth():
    old = sys.getprofile()
    try:
        shallow, deep = resume_events(1), resume_events(1000)
    finally:
        sys.setprofile(old)
    assert 0 < shallow == deep


def test_the_signature_is_kept():
    @boxed
    async def documented(a: int, *, b: str = "") -> str:
        """Words."""
        return f"{a}{b}"

    assert documented.__name__ == "documented"
    assert documented.__doc__ == "Words."

    class Tree:
        def __init__(self, *children):
            self.children = children

        @boxed
        async def size(self):
            return 1 + sum([await child.size() for child in self.children])

    assert bateau.run(Tree(Tree(), Tree(Tree())).size) == 4
    assert bateau.run(documented, 1) == "1"


def test_wrong_use():
    async def agen():
        yield 1

    for wrong in (lambda: 1, agen, 3):
        with pytest.raises(TypeError, match="boxed needs an async function"):
            boxed(wrong)

    async def main():
        call = count_down(1)
        await call
        with pytest.raises(RuntimeError, match="already awaited"):
            await call

    bateau.run(main)


def test_never_awaited_is_loud():
    with pytest.warns(RuntimeWarning, match="was never awaited"):
        count_down(1)


def test_spawned_and_joined(entry):
    async def main():
        async with bateau.scope() as scope:
            tasks = [scope.spawn(count_down, n) for n in (3, 2000)]
        return [await task for task in tasks]

    assert entry.run(main) == [3, 2000]


def test_two_recursions_interleave(entry):
    order: list[str] = []

    @boxed
    async def deep(name, n):
        if n == 0:
            return
        order.append(f"{name}{n}")
        await bateau.yield_now()
        await deep(name, n - 1)

    async def main():
        async with bateau.scope() as scope:
            scope.spawn(deep, "a", 50)
            scope.spawn(deep, "b", 50)

    entry.run(main)
    assert sorted(order) == sorted(f"{name}{n}" for name in "ab" for n in range(1, 51))
    assert order[:4] in (
        ["a50", "b50", "a49", "b49"],
        ["b50", "a50", "b49", "a49"],
        ["a50", "b50", "b49", "a49"],
        ["b50", "a50", "a49", "b49"],
    )


@on_asyncio_family
def test_asyncio_awaits_inside(entry):
    import asyncio

    @boxed
    async def deep(n):
        if n == 0:
            await asyncio.sleep(0.001)
            return await asyncio.wait_for(count_down(3000), 10)
        async with asyncio.timeout(10):
            return await deep(n - 1)

    assert entry.run(deep, 300) == 3000


@on_trio
def test_trio_awaits_inside(entry):
    import trio

    @boxed
    async def deep(n):
        if n == 0:
            await trio.sleep(0.001)
            return "end"
        with trio.fail_after(10):
            return await deep(n - 1)

    assert entry.run(deep, 2000) == "end"


@on_native
def test_tools_see_through_it(entry):
    from bateau.kernel.explain import suspended_at

    @boxed
    async def deep(n):
        if n:
            await deep(n - 1)
        await bateau.Token().wait()

    async def main():
        async with bateau.scope() as scope:
            task = scope.spawn(deep, 10)
            await bateau.yield_now()
            await bateau.yield_now()
            site = suspended_at(task)
            assert site is not None and site[2].endswith("deep")
            assert task.name.startswith("test_tools_see_through_it.<locals>.deep")
            scope.cancel()

    entry.run(main)


@on_asyncio_family
def test_as_an_asyncio_task(entry):
    import asyncio
    import inspect

    async def main():
        if entry.owned:
            assert await asyncio.create_task(is_even(5000)) is True
            assert await asyncio.gather(count_down(2000), count_down(3000)) == [2000, 3000]
        if sys.version_info >= (3, 12):
            assert inspect.iscoroutinefunction(count_down)
            loop = asyncio.get_running_loop()
            if entry.runtime == "asyncio":  # steps its child inside the step of its parent
                task = asyncio.Task(count_down(2000), loop=loop, eager_start=True)
                assert await task == 2000

    @boxed
    async def inside():
        await main()
        return await count_down(3000)

    entry.run(main)
    assert entry.run(inside) == 3000


@on_trio
def test_as_a_trio_task(entry):
    import trio

    got: list[int] = []

    @boxed
    async def deep(n):
        if n:
            await deep(n - 1)
        else:
            await trio.lowlevel.checkpoint()
            got.append(n)

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deep, 3000)
            nursery.start_soon(deep, 3000)

    entry.run(main)
    assert got == [0, 0]


def test_block_on_inside(runtime):
    if runtime.name != "native":
        pytest.skip("only native has nested block_on")

    @boxed
    async def outer(n):
        if n:
            return await outer(n - 1)
        return sandwich()

    def sandwich():
        return bateau.block_on(count_down(2000))

    assert runtime.run(outer, 100) == 2000
