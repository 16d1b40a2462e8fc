"""anyio's own primitives inside bateau tasks, on both of its backends, with cancellation from both sides."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

import bateau

LONG = 30.0  # seconds nobody waits out
SHORT = 0.01


async def clean(entry: Any) -> None:
    """No cancellation is pending or counted."""
    if entry.family != "trio":
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 0
    await anyio.lowlevel.checkpoint()
    await bateau.yield_now()
    await anyio.sleep(0.001)


async def _event() -> None:
    await anyio.Event().wait()


async def _group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, LONG)
        group.start_soon(_bateau_sleep)  # (anyio starts coroutine functions only, and ours is an operation)


async def _group_with_a_body() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, LONG)
        await bateau.time.sleep(LONG)


async def _scope() -> None:
    with anyio.CancelScope():
        await anyio.sleep(LONG)


async def _condition() -> None:
    condition = anyio.Condition()
    async with condition:
        await condition.wait()


async def _stream() -> None:
    send, receive = anyio.create_memory_object_stream[int](0)
    with send, receive:
        await receive.receive()


async def _thread() -> None:
    release = threading.Event()
    try:
        await anyio.to_thread.run_sync(release.wait, 10, abandon_on_cancel=True)
    finally:
        release.set()


async def _bateau_scope() -> None:
    async with bateau.scope() as scope:
        scope.spawn(anyio.sleep, LONG)
        scope.spawn(bateau.time.sleep, LONG)


async def _bateau_sleep() -> None:
    await bateau.time.sleep(LONG)


WAITS = [_event, _group, _group_with_a_body, _scope, _condition, _stream, _thread, _bateau_scope, _bateau_sleep]


@pytest.mark.law(5)
@pytest.mark.parametrize("wait", WAITS)
def test_our_scope_cancels_theirs_and_theirs_ours(entry: Any, wait: Any) -> None:
    async def main() -> None:
        for _ in range(2):
            with bateau.move_on_after(SHORT) as ours:
                await wait()
            assert ours.cancelled_caught
            await clean(entry)
            with anyio.move_on_after(SHORT) as theirs:
                await wait()
            assert theirs.cancelled_caught
            await clean(entry)
        with pytest.raises(TimeoutError):
            with anyio.fail_after(SHORT):
                await wait()
        await clean(entry)
        async with bateau.scope() as scope:
            child = scope.spawn(wait)
            await anyio.sleep(SHORT)
            child.cancel("by hand")
        assert child.outcome().cancelled
        await clean(entry)
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await bateau.time.sleep(SHORT)
            group.cancel_scope.cancel()
        await clean(entry)

    entry.run(main)


@pytest.mark.law(5)
def test_the_outer_one_is_blamed(entry: Any) -> None:
    """Whichever is outside: the inner block does not absorb what the outer one sent."""

    async def main() -> None:
        with bateau.move_on_after(SHORT) as ours, anyio.move_on_after(LONG) as theirs:
            await anyio.sleep(LONG)
        assert ours.cancelled_caught
        assert not theirs.cancelled_caught
        await clean(entry)
        with anyio.move_on_after(SHORT) as theirs, bateau.move_on_after(LONG) as ours:
            await bateau.time.sleep(LONG)
        assert theirs.cancelled_caught
        assert not ours.cancelled_caught
        await clean(entry)
        with bateau.move_on_after(SHORT) as ours, anyio.CancelScope() as theirs:
            await bateau.time.sleep(LONG)
        assert ours.cancelled_caught
        assert not theirs.cancelled_caught
        await clean(entry)

    entry.run(main)


@pytest.mark.law(5)
def test_both_at_one_instant(entry: Any) -> None:
    async def main() -> None:
        for _ in range(3):
            with anyio.move_on_after(SHORT), bateau.move_on_after(SHORT):
                time.sleep(2 * SHORT)  # both are due when the loop is reached
                await anyio.sleep(LONG)
            await clean(entry)
            with bateau.move_on_after(SHORT), anyio.move_on_after(SHORT):
                time.sleep(2 * SHORT)
                await bateau.time.sleep(LONG)
            await clean(entry)
            with anyio.move_on_after(SHORT), bateau.move_on_after(SHORT):
                time.sleep(2 * SHORT)
                await _bateau_scope()
            await clean(entry)

    entry.run(main)


@pytest.mark.law(5)
def test_repeated_cancellations_of_theirs_leave_nothing_behind(entry: Any) -> None:
    """anyio pokes a cancelled task again in every round of the loop; a poke that meets the end of our scope is not kept."""

    async def main() -> None:
        for _ in range(20):
            with anyio.move_on_after(0.001) as theirs:
                async with bateau.scope() as scope:
                    for _ in range(5):
                        scope.spawn(anyio.sleep, LONG)
                        scope.spawn(bateau.time.sleep, LONG)
            assert theirs.cancelled_caught
            await clean(entry)

    entry.run(main)


def test_failures_cross(entry: Any) -> None:
    async def fail() -> None:
        await anyio.sleep(0.001)
        raise ValueError("child")

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, LONG)
                async with bateau.scope() as scope:
                    scope.spawn(_event)
                    scope.spawn(fail)
        assert caught.value.subgroup(ValueError)
        await clean(entry)
        with pytest.raises(ExceptionGroup) as caught:
            async with bateau.scope() as scope:
                scope.spawn(_event)
                async with anyio.create_task_group() as group:
                    group.start_soon(_event)
                    group.start_soon(fail)
        assert caught.value.subgroup(ValueError)
        await clean(entry)

    entry.run(main)


def test_what_works_works(entry: Any) -> None:
    async def main() -> list[Any]:
        log: list[Any] = []
        send, receive = anyio.create_memory_object_stream[int](1)
        limiter = anyio.CapacityLimiter(1)
        lock = anyio.Lock()
        started = anyio.Event()

        async def produce() -> None:
            started.set()
            async with send:
                for n in range(5):
                    await send.send(n)

        async def guarded() -> None:
            async with limiter, lock:
                await bateau.time.sleep(0.001)

        async with bateau.scope() as scope:
            scope.spawn(produce)
            scope.spawn(guarded)
            scope.spawn(guarded)
            await started.wait()
            async with receive:
                log.append([n async for n in receive])

        async def ready(*, task_status: Any) -> None:
            task_status.started("value")
            await bateau.time.sleep(0.001)

        async with anyio.create_task_group() as group:
            log.append(await group.start(ready))

        def in_a_thread() -> str:
            return anyio.from_thread.run(_answer)

        log.append(await anyio.to_thread.run_sync(in_a_thread))
        with anyio.CancelScope(shield=True), bateau.move_on_after(SHORT) as ours:
            await anyio.sleep(LONG)
        log.append(ours.cancelled_caught)
        return log

    assert entry.run(main) == [[0, 1, 2, 3, 4], "value", "from the loop", True]


async def _answer() -> str:
    await bateau.yield_now()
    return "from the loop"
