"""Tasks on asyncio's own loop wait in C for locks, semaphores and events, and yield there: what is special to them.

That they behave as everywhere is for ``tests/laws`` and ``tests/sync``, which run on asyncio's loop as well, with and without the twin.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

import bateau
from bateau.kernel import current
from bateau.kernel.twin import native
from bateau.runtimes.asyncio_host import host_of
from bateau.sync import Event, Lock, OwnershipError, Semaphore

WAITS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], object]]] = {
    # What is waited for, made; the wait; what ends it.
    "lock": (lambda: _taken(Lock()), lambda lock: lock.acquire(), lambda lock: lock.release()),
    "semaphore": (lambda: Semaphore(0), lambda semaphore: semaphore.acquire(), lambda semaphore: semaphore.release()),
    "event": (Event, lambda event: event.wait(), lambda event: event.set()),
}


def _taken(lock: Lock) -> Lock:
    """In the task that calls this."""
    assert lock.try_acquire()
    return lock


def on_asyncio(main: Callable[[], Any]) -> Any:
    return bateau.run(main, runtime="asyncio")


@pytest.mark.parametrize("what", WAITS)
def test_a_cancellation_by_asyncio_reaches_the_wait(what: str) -> None:
    make, wait, end = WAITS[what]

    async def main() -> None:
        thing = make()

        async def waiter() -> None:
            await wait(thing)

        waiting = asyncio.ensure_future(waiter())
        await asyncio.sleep(0)
        assert len(thing.waiters()) == 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(thing.waiters()) == 0
        end(thing)

    on_asyncio(main)


@pytest.mark.parametrize("what", WAITS)
def test_what_was_granted_is_kept_and_the_cancellation_comes_at_the_next_wait(what: str) -> None:
    make, wait, end = WAITS[what]

    async def main() -> None:
        thing = make()
        got: list[Any] = []

        async def waiter() -> None:
            got.append(await wait(thing))
            await bateau.yield_now()

        waiting = asyncio.ensure_future(waiter())
        await asyncio.sleep(0)
        end(thing)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert got == [True]

    on_asyncio(main)


@pytest.mark.parametrize("what", ["semaphore", "event"])
def test_a_waiting_coroutine_is_closed(what: str) -> None:
    make, wait, end = WAITS[what]

    async def main() -> None:
        thing = make()

        async def waiter() -> None:
            await wait(thing)

        coro = waiter()
        future: Any = coro.send(None)
        assert future._asyncio_future_blocking
        assert len(thing.waiters()) == 1
        coro.close()
        assert len(thing.waiters()) == 0
        end(thing)

    on_asyncio(main)


@pytest.mark.parametrize("what", WAITS)
def test_a_wake_for_nothing_waits_on(what: str) -> None:
    make, wait, end = WAITS[what]

    async def main() -> None:
        thing = make()

        async def waiter() -> Any:
            return await wait(thing)

        async with bateau.scope() as scope:
            task = scope.spawn(waiter)
            await asyncio.sleep(0)
            for _ in range(3):
                task.host.wake(task)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert not task.done
                assert len(thing.waiters()) == 1
            end(thing)
            assert await task is True

    on_asyncio(main)


@pytest.mark.parametrize("what", WAITS)
def test_who_looks_on_is_told_when_a_task_goes_on(what: str) -> None:
    make, wait, end = WAITS[what]

    async def main() -> None:
        thing = make()
        told: list[Any] = []

        async def waiter() -> None:
            await wait(thing)

        async with bateau.scope() as scope:
            task = scope.spawn(waiter)
            await asyncio.sleep(0)
            task.host.resumed = told.append
            try:
                end(thing)
                await task
            finally:
                task.host.resumed = None
        assert told[0] is task

    on_asyncio(main)


@pytest.mark.parametrize("what", WAITS)
def test_a_host_that_cannot_park_says_so_and_nothing_stays_behind(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, wait, end = WAITS[what]

    async def main() -> None:
        thing = make()
        host: Any = host_of(asyncio.get_running_loop())

        async def waiter() -> None:
            def refuses(task: Any) -> Any:
                raise RuntimeError("the loop is closed")

            with monkeypatch.context() as patch:
                patch.setattr(host, "park", refuses)
                await wait(thing)

        with pytest.raises(RuntimeError, match="the loop is closed"):
            await asyncio.ensure_future(waiter())
        assert len(thing.waiters()) == 0
        end(thing)

    on_asyncio(main)


@pytest.mark.skipif(native is None, reason="what the twin asks")
@pytest.mark.parametrize("begins", ["lock", "acquire", "release", "semaphore", "event", "yield", "checkpoint"])
def test_an_interrupt_while_the_task_is_looked_for_is_raised(begins: str) -> None:
    """Ctrl-C's handler may run in the finder, which is Python."""

    class Interrupted(BaseException):
        pass

    def finder() -> Any:
        raise Interrupted

    async def main() -> None:
        lock, free, semaphore, event = _taken(Lock()), Lock(), Semaphore(1), Event()
        await bateau.checkpoint()
        hint = current._hint
        calls: dict[str, Callable[[], Any]] = {
            "lock": free.__aenter__,
            "acquire": free.acquire,
            "release": lock.release,
            "semaphore": semaphore.acquire,
            "event": event.wait,
            "yield": bateau.yield_now,
            "checkpoint": bateau.checkpoint,
        }
        current._take_hint(finder)
        try:
            with pytest.raises(Interrupted):
                awaitable = calls[begins]()
                await awaitable
        finally:
            current._take_hint(hint)
        assert lock.locked()
        assert not free.locked()
        assert await semaphore.acquire()

    on_asyncio(main)


def test_a_lock_is_its_owners_here_too() -> None:
    async def main() -> None:
        lock = Lock()

        async def thief() -> None:
            with pytest.raises(OwnershipError):
                lock.release()

        async with lock:
            with pytest.raises(OwnershipError):
                await lock.acquire()
            async with bateau.scope() as scope:
                scope.spawn(thief)
        assert not lock.locked()

    on_asyncio(main)


@pytest.mark.parametrize("early", [True, False], ids=["before", "after"])
def test_a_yield_of_a_cancelled_task_raises(early: bool) -> None:
    async def main() -> None:
        with bateau.move_on_after(10) as scope:
            if early:
                scope.cancel()
            else:
                asyncio.get_running_loop().call_soon(scope.cancel)
            await bateau.yield_now()
            raise AssertionError("it went on")
        assert scope.cancelled_caught

    on_asyncio(main)


def test_a_task_is_freed_with_its_yields_and_waits() -> None:
    class Marked:
        pass

    async def main() -> None:
        import weakref

        gone: list[Any] = []
        lock = Lock()

        async def works() -> None:
            mark = Marked()
            gone.append(weakref.ref(mark))
            for _ in range(3):
                async with lock:
                    await bateau.yield_now()
            del mark

        async with bateau.scope() as scope:
            for _ in range(5):
                scope.spawn(works)
        gc.collect()
        assert [ref() for ref in gone] == [None] * 5

    on_asyncio(main)


def test_driven_by_hand_a_yield_says_what_is_missing() -> None:
    async def yields() -> None:
        await bateau.yield_now()

    coro = yields()
    with pytest.raises(bateau.NotInRuntime):
        coro.send(None)
