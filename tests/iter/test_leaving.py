"""Leaving a pipeline early: after every item, by `break`, by an error, by cancellation at every suspension point.

Whatever it had opened has been closed, and whatever it ran has ended, when the consumer comes to its next wait.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

import bateau
from support.entries import Entry, on_each_mechanism

Build = Callable[["Ledger"], Any]


class Ledger:
    """What is open now. Each source and each running function stands in it."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.opened = 0

    def enter(self, name: str) -> None:
        self.open.append(name)
        self.opened += 1

    async def source(self, name: str = "source", count: int = 4) -> AsyncIterator[int]:
        self.enter(name)
        try:
            for i in range(count):
                await bateau.yield_now()
                yield i
        finally:
            self.open.remove(name)

    async def same(self, x: Any) -> Any:
        """A function that waits, before its result and on its way out."""
        self.enter("function")
        try:
            await bateau.yield_now()
            return x
        finally:
            async with bateau.cleanup(1):
                await bateau.yield_now()
            self.open.remove("function")

    async def yes(self, x: Any) -> bool:
        await self.same(x)
        return True

    async def no(self, x: Any) -> bool:
        await self.same(x)
        return False

    async def sub(self, x: Any) -> Any:
        await self.same(x)
        return bateau.iter(self.source("sub", 2)).map(self.same).prefetch(2)

    async def add(self, a: int, b: int) -> int:
        await self.same(b)
        return a + b

    async def fail(self, x: int) -> int:
        await self.same(x)
        raise OSError(x)

    async def recover(self, error: OSError, item: int) -> int:
        await self.same(item)
        return item

    async def register(self, push: Any) -> Callable[[], Any]:
        await bateau.yield_now()
        self.enter("registration")
        for i in range(4):
            push(i)
        push.end()

        async def unregister() -> None:
            await bateau.yield_now()
            self.open.remove("registration")

        return unregister

    def it(self, name: str = "source", count: int = 4) -> Any:
        return bateau.iter(self.source(name, count))


BUILDS: dict[str, Build] = {
    "source": lambda led: led.it(),
    "map": lambda led: led.it().map(led.same),
    "starmap": lambda led: led.it().enumerate().starmap(led.add),
    "filter": lambda led: led.it().filter(led.yes),
    "filter none": lambda led: led.it().filter(led.no),
    "filter_map": lambda led: led.it().filter_map(led.same),
    "inspect": lambda led: led.it().inspect(led.same),
    "scan": lambda led: led.it().scan(0, led.add),
    "catch": lambda led: led.it().map(led.fail).catch(OSError, led.recover),
    "flat_map": lambda led: led.it(count=2).flat_map(lambda x: led.source(f"sub {x}", 2)),
    "flat_map in the background": lambda led: led.it(count=2).flat_map(led.sub),
    "flatten": lambda led: bateau.iter([led.source("a", 2), led.source("b", 2)]).flatten(),
    "take": lambda led: led.it().take(2),
    "take_while": lambda led: led.it().take_while(led.yes),
    "skip": lambda led: led.it().skip(2),
    "skip_while": lambda led: led.it().skip_while(led.no),
    "step_by": lambda led: led.it().step_by(2),
    "dedup": lambda led: led.it().dedup(led.same),
    "unique": lambda led: led.it().unique(led.same),
    "window": lambda led: led.it().window(2),
    "chunks": lambda led: led.it().chunks(3),
    "zip": lambda led: led.it("a").zip(led.source("b", 3), led.it("c").map(led.same).prefetch(1)),
    "zip with rest": lambda led: led.it("a").zip(led.source("b", 2), rest=led.same),
    "chain": lambda led: led.it("a", 2).prefetch(2).chain(led.source("b", 2), led.it("c", 2).map(led.same).buffered(2)),
    "chain of takes": lambda led: led.it("a").prefetch(2).take(1).chain(led.it("b").prefetch(2).take(1)),
    "cycle": lambda led: led.it(count=2).cycle(3),
    "buffered": lambda led: led.it().map(led.same).buffered(2),
    "buffered_unordered": lambda led: led.it().filter(led.yes).map(led.same).buffered_unordered(3),
    "prefetch": lambda led: led.it().prefetch(2),
    "merge": lambda led: led.it("a", 2).merge(led.source("b", 2), led.it("c", 2).map(led.same)),
    "interleave": lambda led: led.it("a", 2).interleave(led.source("b", 2), led.it("c", 2).map(led.same).prefetch(1)),
    "group_by": lambda led: led.it().group_by(led.same),
    "retry": lambda led: led.it().map(led.same).retry(1),
    "timeout": lambda led: led.it().map(led.same).timeout(10),
    "batch": lambda led: led.it().batch(2, wait=10),
    "from_callback": lambda led: bateau.iter.from_callback(led.register),
    "from_fn": lambda led: bateau.iter.from_fn(lambda: led.same(1)).take(4),
    "unfold": lambda led: bateau.iter.unfold(0, lambda n: led.same((n, n + 1) if n < 4 else None)),
}

built = pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS.keys())


async def settled(ledger: Ledger, how: str) -> None:
    await bateau.checkpoint()
    assert ledger.open == [], how


@on_each_mechanism
@built
def test_a_loop_left_after_each_item(entry: Entry, build: Build) -> None:
    async def by_break(ledger: Ledger, after: int) -> int:
        seen = 0
        async for _ in build(ledger):
            seen += 1
            if seen > after:
                break
        return seen

    async def by_break_in_a_block(ledger: Ledger, after: int) -> int:
        seen = 0
        async with build(ledger) as it:
            async for _ in it:
                seen += 1
                if seen > after:
                    break
        assert ledger.open == []  # the block has waited already
        return seen

    async def by_error(ledger: Ledger, after: int) -> int:
        seen = 0
        with suppress(KeyError):
            async for _ in build(ledger):
                seen += 1
                if seen > after:
                    raise KeyError
        return seen

    async def by_an_end(ledger: Ledger, after: int) -> int:
        found = await build(ledger).nth(after, None)
        assert ledger.open == []
        return 0 if found is None else after + 1

    async def by_close(ledger: Ledger, after: int) -> int:
        it, seen = build(ledger), 0
        while seen <= after and await it.next(None) is not None:
            seen += 1
        await it.aclose()
        assert ledger.open == []
        return seen

    async def main() -> None:
        for way in (by_break, by_break_in_a_block, by_error, by_an_end, by_close):
            for after in range(10):
                ledger = Ledger()
                seen = await way(ledger, after)
                await settled(ledger, f"{way.__name__} after {after}")
                assert ledger.opened
                if seen <= after:
                    break  # it has come to its end

    entry.run(main)


@on_each_mechanism
@built
def test_cancelled_at_every_suspension_point(entry: Entry, build: Build) -> None:
    async def loop(ledger: Ledger) -> None:
        async for _ in build(ledger):
            await bateau.yield_now()

    async def block(ledger: Ledger) -> None:
        async with build(ledger) as it:
            async for _ in it:
                await bateau.yield_now()

    async def end(ledger: Ledger) -> None:
        await build(ledger).collect()

    async def cancel_after(scope: bateau.CancelScope, turns: int) -> None:
        for _ in range(turns):
            await bateau.yield_now()
        scope.cancel()

    async def main() -> None:
        for way in (loop, block, end):
            turns = 0
            while True:
                ledger = Ledger()
                async with bateau.scope() as around:
                    with bateau.CancelScope() as scope:
                        around.spawn(cancel_after, scope, turns, background=True)
                        await way(ledger)
                    await settled(ledger, f"{way.__name__} cancelled after {turns} turns")
                if not scope.cancelled_caught:
                    break
                turns += 1
            assert turns

    entry.run(main)


def test_what_was_not_begun_is_closed_with_the_scope_and_not_by_finalisers() -> None:
    """A cancelled consumer's first call was made, and its pipeline was still opening. In a cycle, a coroutine may be finalised before
    the iterator that would have closed it, and complain: seen when the collector ran at odd moments.
    """
    made: list[Coroutine[Any, Any, int]] = []

    async def now(x: int) -> int:
        return x

    def work(x: int) -> Coroutine[Any, Any, int]:
        coro = now(x)
        made.append(coro)
        return coro

    async def main() -> list[str]:
        it = bateau.iter(range(9)).map(work)
        async with bateau.scope() as scope:
            scope.spawn(it.next)
            while not made:
                await bateau.yield_now()
            scope.cancel()
        states = [inspect.getcoroutinestate(each) for each in made]
        with pytest.raises(bateau.ScopeError, match="has ended"):
            await it.next()
        return states

    assert bateau.run(main, runtime="native") == [inspect.CORO_CLOSED]
    assert len(made) == 1
