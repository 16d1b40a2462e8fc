"""Leaving a pipeline that runs things in the background: in every way, at every item, at every suspension point.

When its consumer comes to its next wait, whatever the pipeline ran has ended and whatever it had opened is closed (law 1).
"""

from __future__ import annotations

import gc
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Any

import pytest

import bateau
from support.entries import on_asyncio_tasks, on_each_mechanism, on_native, on_trio
from support.waiting import until


class Ledger:
    """What is open or running now, and at which step the consumer is."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.steps = 0

    async def source(self, name: str = "source") -> AsyncIterator[int]:
        self.open.append(name)
        try:
            for i in range(6):
                await bateau.yield_now()
                yield i
        finally:
            async with bateau.cleanup(5):
                await bateau.yield_now()
            self.open.remove(name)

    async def work(self, item: int) -> int:
        self.open.append(f"work {item}")
        try:
            await bateau.yield_now()
            await bateau.yield_now()
            return item
        finally:
            async with bateau.cleanup(5):
                await bateau.yield_now()
            self.open.remove(f"work {item}")


Build = Callable[[Ledger], Any]
BUILDS: dict[str, Build] = {
    "source": lambda o: bateau.iter(o.source()),
    "buffered": lambda o: bateau.iter(range(6)).map(o.work).buffered(3),
    "buffered source": lambda o: bateau.iter(o.source()).map(o.work).buffered(2),
    "unordered": lambda o: bateau.iter(o.source()).map(o.work).buffered_unordered(3),
    "filtered": lambda o: bateau.iter(o.source()).map(o.work).filter(lambda x: x % 2).buffered(3),
    "prefetch": lambda o: bateau.iter(o.source()).prefetch(2),
    "twice": lambda o: bateau.iter(o.source()).map(o.work).buffered(2).map(o.work).buffered(2),
    "flat_map": lambda o: bateau.iter(range(3)).flat_map(lambda i: bateau.iter(o.source(f"sub {i}")).prefetch(2)),
    "merge": lambda o: bateau.iter(o.source("a")).map(o.work).merge(o.source("b")),
    "priority": lambda o: bateau.iter(o.source("a")).merge_with_priority(o.source("b"), range(3)),
    "interleave": lambda o: bateau.iter(o.source("a")).interleave(o.source("b")),
    "share": lambda o: bateau.iter(o.source()).map(o.work).share().iter(),
    "tee": lambda o: bateau.iter(o.source()).map(o.work).tee(1)[0],
    "map": lambda o: bateau.iter(range(4)).map(o.work),
}


async def settled() -> None:
    """The consumer's next wait, whichever it is."""
    await bateau.checkpoint()


@pytest.mark.law(1)
@pytest.mark.parametrize("way", ["break", "error", "del", "held", "aclose", "block", "block error", "cycle"])
@on_each_mechanism
@pytest.mark.parametrize("build", BUILDS)
def test_left_after_every_item(entry, build, way):
    async def leave(ledger: Ledger, after: int) -> int:
        it = BUILDS[build](ledger)
        seen = 0
        if way in ("block", "block error"):
            with suppress(KeyError):
                async with it:
                    async for _ in it:
                        seen += 1
                        if seen == after:
                            if way == "block":
                                break
                            raise KeyError
            assert not ledger.open
            return seen
        if way == "held":

            async def outer(it: Any) -> AsyncIterator[int]:
                async for item in it:
                    yield item

            async with aclosing(outer(it)) as held:
                del it
                async for _ in held:
                    seen += 1
                    if seen == after:
                        break
        elif way == "error":
            with suppress(KeyError):
                async for _ in it:
                    seen += 1
                    if seen == after:
                        raise KeyError
            del it
        elif way == "break":
            moved = [it]
            del it
            async for _ in moved.pop():
                seen += 1
                if seen == after:
                    break
        else:
            while seen < after and await it.next(default=None) is not None:
                seen += 1
            if way == "aclose":
                await it.aclose()
                if build not in ("share", "tee"):
                    assert not ledger.open
                await it.aclose()
            elif way == "cycle":
                loop: list[Any] = [it]
                loop.append(loop)
                del loop
            del it
            if way == "cycle":
                gc.collect()
        await settled()
        return seen

    async def main() -> None:
        for after in range(1, 100):
            ledger = Ledger()
            seen = await leave(ledger, after)
            assert not ledger.open, (build, way, after)
            if seen < after:
                return
        raise AssertionError

    entry.run(main)


class TurnLimit:
    """Cancels a scope after so many turns of the program: at every suspension point, one after the other."""

    @staticmethod
    async def run(fn: Callable[[], Any], turns: int) -> bool:
        """Whether `fn` was cut short."""
        async with bateau.scope() as scope:

            async def bomb() -> None:
                for _ in range(turns):
                    await bateau.yield_now()
                scope.cancel("at this turn")

            scope.spawn(bomb, background=True)
            await fn()
        return scope.cancelled_caught


@pytest.mark.law(1, 5)
@pytest.mark.parametrize("how", ["loop", "collect", "next", "block"])
@on_each_mechanism
@pytest.mark.parametrize("build", BUILDS)
def test_cancelled_at_every_suspension_point(entry, build, how):
    async def main() -> None:
        for turns in range(400):
            ledger = Ledger()

            async def consume(ledger: Ledger = ledger) -> None:
                it = BUILDS[build](ledger)
                if how == "collect":
                    await it.collect()
                elif how == "next":
                    while await it.next(default=None) is not None:
                        pass
                elif how == "block":
                    async with it:
                        async for _ in it:
                            pass
                    assert not ledger.open
                else:
                    async for _ in it:
                        await bateau.yield_now()

            cut = await TurnLimit.run(consume, turns)
            assert not ledger.open, (build, how, turns)
            if not cut:
                assert turns > 5
                return
        raise AssertionError

    entry.run(main)


@pytest.mark.law(9)
@on_each_mechanism
@pytest.mark.parametrize("build", BUILDS)
def test_a_next_given_up_at_every_point_loses_nothing(entry, build):
    async def main() -> None:
        whole = sorted(await BUILDS[build](Ledger()).collect())

        async def bomb(limit: Any, turns: int) -> None:
            for _ in range(turns):
                await bateau.yield_now()
            limit.cancel()

        async with bateau.scope() as scope:
            for turns in range(1, 6):
                ledger = Ledger()
                it = BUILDS[build](ledger)
                got: list[Any] = []
                while not got or got[-1] != "end":
                    with bateau.move_on_after(3600) as limit:
                        task = scope.spawn(bomb, limit, turns)
                        got.append(await it.next(default="end"))
                    task.cancel()
                assert sorted(got[:-1]) == whole
                assert not ledger.open

    entry.run(main)


@pytest.mark.parametrize("build", BUILDS)
def test_the_program_ends_right_after_the_break(entry, build):
    """No further wait follows: the scope around, or the program itself, ends what was left; nothing is reported."""
    ledger = Ledger()

    async def main() -> None:
        async for _ in BUILDS[build](ledger):
            break

    async def child() -> None:
        async with bateau.scope() as scope:
            scope.spawn(main)
        assert not ledger.open

    entry.run(main)
    if entry.owned:
        assert not ledger.open
    ledger = Ledger()
    entry.run(child)


@on_each_mechanism
@pytest.mark.parametrize("build", BUILDS)
def test_never_driven(entry, build):
    async def main() -> None:
        ledger = Ledger()
        BUILDS[build](ledger)
        it = BUILDS[build](ledger)
        await it.aclose()
        async with BUILDS[build](ledger):
            pass
        assert not ledger.open

    entry.run(main)


@pytest.mark.parametrize("build", BUILDS)
def test_dropped_when_its_program_is_over(runtime, build):
    kept: list[Any] = []

    async def main() -> None:
        ledger = Ledger()
        kept.append(BUILDS[build](ledger))
        await kept[0].next()

    runtime.run(main)
    kept.clear()
    gc.collect()

    async def another() -> None:
        await bateau.yield_now()

    runtime.run(another)


@pytest.mark.parametrize("build", ["buffered", "source", "merge"])
def test_dropped_on_another_thread(entry, build):
    """Reported, since its end can't be waited for there; and ended all the same."""

    async def main() -> None:
        ledger = Ledger()
        async with bateau.scope():
            held = [BUILDS[build](ledger)]
            await held[0].next()
            with pytest.warns(bateau.HazardWarning, match="dropped on another thread"):
                thread = threading.Thread(target=held.clear)
                thread.start()
                thread.join()
            await until(lambda: not ledger.open)

    entry.run(main)


def test_closed_inside_its_own_loop(entry):
    async def main() -> None:
        ledger = Ledger()
        it = BUILDS["buffered source"](ledger)
        seen = 0
        async for _ in it:
            seen += 1
            await it.aclose()
        assert seen == 1
        assert not ledger.open

    entry.run(main)


def test_gone_on_with_after_a_break(entry):
    async def main() -> None:
        it = bateau.iter(range(6)).map(Ledger().work).buffered(3)
        async for item in it:
            if item == 2:
                break
        assert [item async for item in it] == [3, 4, 5]

    entry.run(main)


def test_used_after_its_block(entry):
    async def main() -> None:
        ledger = Ledger()
        async with BUILDS["buffered"](ledger) as it:
            async for _ in it:
                break
        assert not ledger.open
        with pytest.raises(RuntimeError):
            await it.next()
        with pytest.raises(RuntimeError):
            async with it:
                pass

    entry.run(main)


@pytest.mark.parametrize("build", ["buffered", "source", "merge", "share"])
def test_a_loop_in_a_shield_in_a_cancelled_scope(entry, build):
    """What a task may do in its cleanup it may do in parallel."""

    async def main() -> None:
        ledger = Ledger()
        async with bateau.scope() as scope:
            scope.cancel()
            with bateau.shield():
                got = [item async for item in BUILDS[build](ledger)]
                assert got
                async for _ in BUILDS[build](ledger):
                    break
                await settled()
                assert not ledger.open

    entry.run(main)


def test_a_debt_under_an_open_borrow(entry):
    """Two things stand before the next wait: the borrow is the user's mistake and is told, the debt is settled later."""

    async def main() -> None:
        ledger = Ledger()
        cell = bateau.sync.Cell([1])
        async for _ in BUILDS["buffered"](ledger):
            break
        with pytest.raises(RuntimeError), cell.borrow_mut():
            await bateau.yield_now()
        await bateau.yield_now()
        assert not ledger.open

    entry.run(main)


@pytest.mark.law(1)
@pytest.mark.parametrize("way", ["break", "aclose", "block", "error"])
def test_work_in_a_given_scope_ends_with_the_loop(entry, way):
    """The scope lives on; its end awaits what the loop has cancelled."""

    async def forever(item: int) -> int:
        if item:
            await bateau.time.sleep(3600)
        return item

    async def main() -> None:
        async with bateau.scope() as scope:
            it = bateau.iter(range(6)).map(forever).buffered_in(3, scope)
            if way == "block":
                async with it:
                    assert await it.next() == 0
                assert not scope.tasks
            elif way == "error":
                with pytest.raises(KeyError):
                    async with it:
                        async for _ in it:
                            raise KeyError
                assert not scope.tasks
            elif way == "aclose":
                assert await it.next() == 0
                assert scope.tasks
                await it.aclose()
                assert not scope.tasks
            else:
                moved = [it]
                del it
                async for _ in moved.pop():
                    assert scope.tasks
                    break
                await until(lambda: not scope.tasks)

    entry.run(main)


@pytest.mark.law(1)
def test_for_each_concurrent_ends_what_it_ran(entry):
    async def main() -> None:
        for turns in range(200):
            ledger = Ledger()

            async def run(ledger: Ledger = ledger) -> None:
                await bateau.iter(ledger.source()).for_each_concurrent(3, ledger.work)

            cut = await TurnLimit.run(run, turns)
            assert not ledger.open
            if not cut:
                break
        ledger = Ledger()

        async def fail(item: int) -> None:
            await ledger.work(item)
            if item == 2:
                raise KeyError(item)

        with pytest.raises(KeyError):
            await bateau.iter(ledger.source()).for_each_concurrent(3, fail)
        assert not ledger.open

    entry.run(main)


@pytest.mark.parametrize("build", BUILDS)
def test_begun_by_one_task_and_left_by_another(entry, build):
    async def main() -> None:
        async with bateau.scope() as scope:
            ledger = Ledger()
            held = [BUILDS[build](ledger)]
            await held[0].next()

            async def rest() -> None:
                async for _ in held.pop():
                    break
                await settled()
                assert not ledger.open

            await scope.spawn(rest)

    entry.run(main)


def test_two_debts(entry):
    async def main() -> None:
        one, two = Ledger(), Ledger()
        async for _ in BUILDS["buffered"](one):
            async for _ in BUILDS["merge"](two):
                break
            break
        await settled()
        assert not one.open
        assert not two.open

    entry.run(main)


@on_asyncio_tasks
def test_native_cancel_of_the_consumer(entry):
    import asyncio

    async def main() -> None:
        for turns in range(25):
            ledger = Ledger()

            async def consume(ledger: Ledger = ledger) -> None:
                async for _ in BUILDS["buffered source"](ledger):
                    await bateau.yield_now()

            task = asyncio.ensure_future(consume())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await until(lambda ledger=ledger: not ledger.open)

    entry.run(main)


@on_trio
def test_trios_own_scope_around_the_loop(entry):
    import trio

    async def main() -> None:
        for turns in range(25):
            ledger = Ledger()
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def bomb(turns: int = turns, scope: trio.CancelScope = scope) -> None:
                        for _ in range(turns):
                            await trio.sleep(0)
                        scope.cancel()

                    nursery.start_soon(bomb)
                    async for _ in BUILDS["buffered source"](ledger):
                        await trio.sleep(0)
                    nursery.cancel_scope.cancel()
            await bateau.yield_now()
            assert not ledger.open

    entry.run(main)


@on_native
def test_a_keyboard_interrupt_in_a_background_function(entry):
    async def work(item: int) -> int:
        await bateau.yield_now()
        if item == 3:
            raise KeyboardInterrupt
        return item

    async def main() -> None:
        await bateau.iter(range(10)).map(work).buffered(2).collect()

    with pytest.raises(KeyboardInterrupt):
        entry.run(main)
