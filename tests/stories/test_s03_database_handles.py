"""S03: at every possible cancellation point, open and close pair up before the scope ends.

The program is run again and again, cancelled at its first suspension, its second, its third, ..., until it gets to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

import bateau
from bateau import sim
from support.entries import on_asyncio_family


class CancelledAt:
    """Awaits ``inner``, and calls ``cancel()`` as it suspends for the ``nth`` time (from 0)."""

    def __init__(self, inner: Awaitable[Any], nth: int, cancel: Callable[[], object]) -> None:
        self.inner = inner
        self.left = nth
        self.cancel = cancel

    def __await__(self) -> Generator[Any, Any, Any]:
        steps: Any = self.inner.__await__()
        method, argument = steps.send, None
        while True:
            try:
                trap = method(argument)
            except StopIteration as stop:
                return stop.value
            self.left -= 1
            if self.left == -1:
                self.cancel()
            try:
                method, argument = steps.send, (yield trap)
            except BaseException as error:
                method, argument = steps.throw, error


class Database:
    """Hands out handles; each opening and closing takes a few round trips. ``open`` are those that nobody has closed."""

    def __init__(self, log: list[str]) -> None:
        self.open: set[Handle] = set()
        self.log = log
        self.places = bateau.sync.Semaphore(2)

    async def connect(self) -> Handle:
        await self.places.acquire()
        handle = Handle(self)
        self.open.add(handle)
        try:
            await bateau.yield_now()  # shakes hands
            await bateau.time.sleep(0.0001)
        except BaseException:
            handle.abort()
            raise
        return handle

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Handle]:
        handle = await self.connect()
        try:
            yield handle
        finally:
            async with bateau.cleanup(10):
                await handle.aclose()


class Handle:
    def __init__(self, database: Database) -> None:
        self.database = database

    async def rows(self, count: int) -> AsyncIterator[int]:
        cursor = Handle(self.database)
        self.database.open.add(cursor)
        try:
            for n in range(count):
                await bateau.yield_now()
                yield n
        finally:
            self.database.open.remove(cursor)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        self.database.log.append("begin")
        try:
            yield
            await bateau.yield_now()
        except BaseException:
            async with bateau.cleanup(10):
                await bateau.yield_now()
                self.database.log.append("rollback")
            raise
        self.database.log.append("commit")

    def abort(self) -> None:
        self.database.open.discard(self)
        self.database.places.release()

    async def aclose(self) -> None:
        await bateau.yield_now()  # says goodbye
        await bateau.time.sleep(0.0001)
        self.abort()


async def program(database: Database) -> None:
    """What an application does with handles, in each of the ways to be rid of them."""
    async with database.connected() as first, first.transaction():
        async with aclosing(first.rows(3)) as rows:
            async for n in rows:
                if n == 1:
                    break
    async with bateau.scope() as scope:
        owned = scope.own(await database.connect())

        async def child() -> None:
            async with database.connected() as mine, mine.transaction():
                await bateau.time.sleep(0.0001)

        scope.spawn(child)
        async with owned.transaction():
            await bateau.yield_now()
        async for _ in scope.own(owned.rows(3)):
            break
    database.log.append("the end")


def paired(database: Database) -> bool:
    log = database.log
    return not database.open and log.count("begin") == log.count("commit") + log.count("rollback")


@pytest.mark.law(7)
@pytest.mark.parametrize("where", ["the task itself", "a child"])
def test_cancelled_at_every_point(entry: Any, where: str) -> None:
    async def main() -> int:
        for nth in range(1000):
            database = Database([])
            with bateau.move_on_after(None) as block:

                async def run(nth: int = nth, database: Database = database, block: Any = block) -> None:
                    await CancelledAt(program(database), nth, lambda: block.cancel("here"))

                if where == "a child":
                    async with bateau.scope() as scope:
                        scope.spawn(run)
                else:
                    await run()
            assert paired(database), (nth, database.log)
            if not block.cancel_called:
                assert database.log[-1] == "the end"
                return nth
        raise AssertionError("it never came to its end")

    assert entry.run(main) > 10


@pytest.mark.law(7)
@on_asyncio_family
def test_cancelled_natively_at_every_point(entry: Any) -> None:
    """The same by asyncio's `task.cancel()`. Cleanup that has to hold against it goes through `cleanup(...).run`."""

    class Careful(Database):
        @asynccontextmanager
        async def connected(self) -> AsyncIterator[Handle]:
            handle = await self.connect()
            try:
                yield handle
            finally:
                await bateau.cleanup(10).run(handle.aclose)

    async def work(database: Database) -> None:
        async with database.connected() as first:
            async with aclosing(first.rows(2)) as rows:
                async for _ in rows:
                    break
        async with database.connected():
            await asyncio.sleep(0)
        database.log.append("the end")

    async def main() -> int:
        for nth in range(1000):
            database = Careful([])
            cancelled: list[bool] = []

            def cancel(cancelled: list[bool] = cancelled) -> None:
                current = asyncio.current_task()
                assert current is not None
                cancelled.append(current.cancel())
                current.cancel()  # and once more, as impatient code does

            async def run(nth: int = nth, database: Database = database, cancel: Any = cancel) -> None:
                await CancelledAt(work(database), nth, cancel)

            async with bateau.scope() as scope:
                scope.spawn(run)
            assert paired(database), (nth, database.log, database.open)
            if not cancelled:
                assert database.log[-1] == "the end"
                return nth
        raise AssertionError("it never came to its end")

    assert entry.run(main) >= 8


def under_simulation(kind: type[Database]) -> Callable[[], Awaitable[None]]:
    async def scenario() -> None:
        database = kind([])
        try:
            async with bateau.scope(name="request"):
                await program(database)
        finally:
            assert paired(database), f"left open: {database.open}; {database.log}"

    return scenario


@pytest.mark.law(7)
def test_the_simulator_cancels_everywhere_in_any_order() -> None:
    """The search above is one line in the simulator, which adds a second cancellation during the first one's cleanup, and the order."""
    covered = sim.cancel_everywhere(under_simulation(Database), scope="request", pairs=True)
    assert covered.exhausted and covered.runs > 30
    for seed in range(10):
        sim.cancel_everywhere(under_simulation(Database), scope="request", strategy="random", seed=seed)


def test_the_simulator_finds_the_close_that_is_cut_off() -> None:
    class Careless(Database):
        @asynccontextmanager
        async def connected(self) -> AsyncIterator[Handle]:
            handle = await self.connect()
            try:
                yield handle
            finally:
                await handle.aclose()

    with pytest.raises(sim.Found, match="left open") as caught:
        sim.cancel_everywhere(under_simulation(Careless), scope="request")
    again = sim.replay(under_simulation(Careless), caught.value.token)
    assert again.failure() == caught.value.run.failure()
